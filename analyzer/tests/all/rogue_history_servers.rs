//! History servers that lead elsewhere, are not who they say, or send what no disk can hold.

use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fixture::rogue::{certificate, tls_config};
use crate::fixture::{APPLICATION, event_log, report};

/// What a server answers to each request, as bytes.
type Answers = Vec<Vec<u8>>;

/// A server; what it heard are the heads of all requests.
struct Server {
    port: u16,
    heard: Arc<Mutex<String>>,
}

impl Server {
    /// Starts it, with TLS if there is a certificate.
    fn start(pem: Option<&Path>, answers: impl FnOnce(u16) -> Answers) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(String::new()));
        let (ears, config) = (Arc::clone(&heard), pem.map(tls_config));
        let answers = answers(port);
        // It ends with the test.
        std::thread::spawn(move || {
            for answer in answers {
                let Ok((stream, _)) = listener.accept() else { return };
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                match &config {
                    None => serve(stream, &answer, &ears),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
                        serve(rustls::StreamOwned::new(connection, stream), &answer, &ears);
                    }
                }
            }
        });
        Server { port, heard }
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}

fn serve(stream: impl Read + Write, answer: &[u8], ears: &Mutex<String>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line) {
            Ok(length) if length > 2 => ears.lock().unwrap().push_str(&line),
            Ok(2) => break,
            // The client does not want TLS of this kind, or has left.
            _ => return,
        }
    }
    let _ = stream.get_mut().write_all(answer).and_then(|()| stream.get_mut().flush());
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn found(to: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .into()
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn sound() -> Vec<u8> {
    ok(&archive(&[(APPLICATION, &std::fs::read(event_log()).unwrap())]))
}

/// Ingests from an address; the exit code and what was said.
fn ingest(at: &Path, address: &str, certificates: Option<&Path>) -> (Option<i32>, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("analyzer"));
    command.current_dir(at).args(["ingest", "--event-log", address]).env_remove("SSL_CERT_FILE");
    if let Some(path) = certificates {
        command.env("SSL_CERT_FILE", path);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!said.contains("secret") && !said.contains('\u{1b}'), "{said}");
    (output.status.code(), said)
}

#[test]
fn a_server_sends_on_to_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let other = Server::start(None, |_| vec![sound()]);
    let to = format!("http://127.0.0.1:{}/x", other.port);
    let server = Server::start(None, |_| vec![found(&to)]);
    let (code, said) = ingest(at, &format!("http://me:secret@127.0.0.1:{}/app", server.port), None);
    assert!(code == Some(3) && said.contains("not itself"), "{said}");
    assert_eq!(other.heard(), "");
    // To itself, and the credentials stay behind.
    let server = Server::start(None, |port| {
        vec![found(&format!("http://127.0.0.1:{port}/elsewhere")), found("/again"), sound()]
    });
    let (code, said) = ingest(at, &format!("http://me:secret@127.0.0.1:{}/app", server.port), None);
    assert_eq!(code, Some(0), "{said}");
    let heard = server.heard().to_lowercase();
    assert_eq!(heard.matches("authorization: basic").count(), 1, "{heard}");
    assert!(heard.find("authorization").unwrap() < heard.find("/elsewhere").unwrap(), "{heard}");
    // On and on.
    let server = Server::start(None, |_| (0..9).map(|_| found("/again")).collect());
    let (code, said) = ingest(at, &format!("http://127.0.0.1:{}/app", server.port), None);
    assert!(code == Some(3) && said.contains("on and on"), "{said}");
    // No password without https beyond this machine.
    let server = Server::start(None, |_| vec![sound()]);
    let (code, said) = ingest(at, &format!("http://me:secret@0.0.0.0:{}/app", server.port), None);
    assert!(code == Some(3) && said.contains("https alone"), "{said}");
    assert_eq!(server.heard(), "");
}

#[test]
fn https_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    if !certificate(at, "ca", "CA of the site", None) {
        return tests::skip::skip("https_is_verified", "no openssl");
    }
    certificate(at, "server", "localhost", Some("ca"));
    certificate(at, "elsewhere", "elsewhere.example", Some("ca"));
    let ca = at.join("ca.pem");
    for (name, certificates, is_believed) in
        [("server", None, false), ("elsewhere", Some(&ca), false), ("server", Some(&ca), true)]
    {
        let pem = at.join(format!("{name}.pem"));
        let server = Server::start(Some(&pem), |_| vec![sound()]);
        let address = format!("https://me:secret@localhost:{}/{APPLICATION}", server.port);
        let (code, said) = ingest(at, &address, certificates.map(|path| path.as_path()));
        assert_eq!(code, Some(if is_believed { 0 } else { 3 }), "{name}: {said}");
        assert_eq!(server.heard().is_empty(), !is_believed, "{name}");
        assert!(is_believed || said.contains("certificate"), "{said}");
    }
    assert_eq!(report(at, &[])["total"]["tasks"], 10);
}

#[test]
fn what_no_disk_can_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let zeros = vec![0; 150 << 20];
    let bomb = archive(&[("app-1", &zeros)]);
    assert!(bomb.len() < 1 << 20);
    let escape =
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\n\x1b]0;title\x07 no such app"
            .to_vec();
    let links = archive(&[("../../out", b"x")]);
    let server =
        Server::start(None, |_| vec![ok(&bomb), escape, ok(&links), ok(b"no archive"), ok(b"")]);
    let address = format!("http://127.0.0.1:{}/app-1", server.port);
    for words in ["unpacks to more than", "404", "leads out", "", ""] {
        let (code, said) = ingest(at, &address, None);
        assert!(code == Some(3) && said.contains(words), "{words}: {said}");
    }
    // The answer ends before it should.
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nPK".to_vec();
    let server = Server::start(None, |_| vec![cut]);
    let (code, said) = ingest(at, &format!("http://127.0.0.1:{}/app-1", server.port), None);
    assert_eq!(code, Some(3), "{said}");
}
