//! Servers that want the password, or the client's life: at every moment of the way in.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::fixture::rogue::{Rogue, SSL, USUAL, certificate, greeting};
use crate::fixture::{self, expect};

/// What nobody may learn.
const PASSWORD: &str = "the-password-of-the-store";

/// Lets the analyzer go to a rogue and wants it to give up, without a panic and with these words.
fn refused(rogue: &Rogue, host: &str, parameters: &str, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("mysql://me:{PASSWORD}@{host}:{}/runs{parameters}", rogue.port);
    let began = Instant::now();
    let (stdout, stderr) = expect(folder.path(), 6, &["report", "--store", &url]);
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    let all = format!("{stdout}{stderr}");
    assert!(!all.contains("panicked") && !all.contains(PASSWORD), "{all}");
    assert!(!all.contains('\u{1b}'), "{all}");
    for word in words {
        assert!(stderr.contains(word), "{word}: {stderr}");
    }
}

fn has_password(heard: &[u8]) -> bool {
    heard.windows(PASSWORD.len()).any(|some| some == PASSWORD.as_bytes())
}

/// What a client says when it leaves (COM_QUIT).
const GOODBYE: &[u8] = &[1];

/// 0.0.0.0 is this machine, but not by its name: the rule is that of hosts beyond.
const BEYOND: &str = "0.0.0.0";

#[test]
fn without_tls_nothing_is_said_to_a_server_beyond_this_machine() {
    for parameters in ["", "?tls=required", "?tls=verify-full"] {
        let rogue = Rogue::start(|mut talk| {
            talk.greet(USUAL, "caching_sha2_password");
            while talk.hear().is_some() {
                talk.say(&[1, 4]);
            }
        });
        refused(&rogue, BEYOND, parameters, &["tls=off"]);
        assert_eq!(rogue.heard(), GOODBYE);
    }
    // And on this machine if it is asked for.
    let rogue = Rogue::start(|mut talk| {
        talk.greet(USUAL, "mysql_native_password");
        talk.hear();
    });
    refused(&rogue, "127.0.0.1", "?tls=required", &["tls=off"]);
    assert_eq!(rogue.heard(), GOODBYE);
}

#[test]
fn a_certificate_of_nobody_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    if !certificate(at, "ca", "CA of the site", None) {
        return tests::skip::skip("a_certificate_of_nobody_is_not_believed", "no openssl");
    }
    certificate(at, "other-ca", "CA of somebody", None);
    certificate(at, "server", "localhost", Some("ca"));
    certificate(at, "rogue", "localhost", Some("other-ca"));
    certificate(at, "elsewhere", "elsewhere.example", Some("ca"));
    let trust = |mode: &str| format!("?tls={mode}&root_cert_path={}", at.join("ca.pem").display());
    // Certificate, host, parameters, and whether the client goes on to log in.
    for (certificate, host, parameters, is_believed) in [
        ("rogue", "localhost", "?tls=required".to_owned(), false),
        ("rogue", BEYOND, String::new(), false),
        ("rogue", "localhost", trust("required"), false),
        ("rogue", "localhost", trust("verify-ca"), false),
        ("elsewhere", "localhost", trust("verify-full"), false),
        ("elsewhere", "localhost", trust("verify-ca"), true),
        ("server", "localhost", trust("required"), true),
        ("server", "localhost", trust("verify-ca"), true),
    ] {
        let pem = at.join(format!("{certificate}.pem"));
        let rogue = Rogue::start(move |mut talk| {
            talk.greet(USUAL | SSL, "caching_sha2_password");
            // The request for TLS has neither user nor database.
            talk.hear();
            if let Some(mut talk) = talk.begin_tls(&pem) {
                talk.hear();
                talk.say(b"\xff\x15\x04#28000Access denied for \x1b]0;you\x07");
            }
        });
        let words: &[&str] =
            if is_believed { &["Access denied"] } else { &["certificate", "root_cert"] };
        refused(&rogue, host, &parameters, words);
        let heard = rogue.heard();
        assert!(!has_password(&heard));
        let logs_in = heard.windows(5).any(|some| some == b"runs\0");
        assert_eq!(logs_in, is_believed, "{certificate} {host} {parameters}");
    }
}

/// It says that it does not know the password yet, and where the client may get a key for it.
#[test]
fn no_key_is_taken_from_a_server() {
    for (host, parameters) in [("127.0.0.1", ""), ("localhost", ""), (BEYOND, "?tls=off")] {
        let rogue = Rogue::start(|mut talk| {
            talk.greet(USUAL, "caching_sha2_password");
            talk.hear();
            talk.say(&[1, 4]);
            while let Some(more) = talk.hear() {
                assert_eq!(more, GOODBYE, "the client asks for the key or sends the password");
            }
        });
        refused(&rogue, host, parameters, &["it was not sent", "tls=required", "server_key_path"]);
        assert!(!has_password(&rogue.heard()));
    }
}

#[test]
fn no_weaker_way_to_log_in_is_taken() {
    for plugin in
        ["mysql_clear_password", "mysql_old_password", "sha256_password", "dialog", "\u{1b}[2J"]
    {
        let rogue = Rogue::start(move |mut talk| {
            talk.greet(USUAL, "caching_sha2_password");
            talk.hear();
            talk.say(&[b"\xfe", plugin.as_bytes(), b"\0", b"01234567890123456789\0"].concat());
            talk.hear();
            talk.say(b"\xff\x15\x04#28000no");
        });
        refused(&rogue, "127.0.0.1", "", &[]);
        assert!(!has_password(&rogue.heard()), "{plugin}");
    }
}

/// A server that takes everybody in and then names a socket of its own: nobody is to follow it there.
#[test]
fn no_socket_is_taken_from_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let rogue = Rogue::start(|mut talk| {
        talk.greet(USUAL, "mysql_native_password");
        talk.hear();
        talk.say(&[0, 0, 0, 2, 0, 0, 0]);
        while talk.hear().is_some() {
            talk.say(b"\xff\x15\x04#28000no");
        }
    });
    refused(&rogue, "127.0.0.1", "", &[]);
    assert!(listener.accept().is_err());
    let heard = String::from_utf8_lossy(&rogue.heard()).into_owned();
    assert!(!heard.contains("@@socket"), "{heard}");
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let whole = greeting(USUAL, "caching_sha2_password");
    let mut first: Vec<Vec<u8>> =
        (0..whole.len()).step_by(3).map(|cut| whole[..cut].to_vec()).collect();
    first.push(b"\xff\x15\x04#28000\x1b]0;title\x07 go away".to_vec());
    first.push(vec![0xff]);
    first.push(vec![0xff; 70_000]);
    first.push(b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
    for packet in first {
        let rogue = Rogue::start(move |mut talk| {
            talk.say(&packet);
            talk.hear();
        });
        refused(&rogue, "127.0.0.1", "", &[]);
        drop(rogue.heard());
    }
    // Answers to the log-in.
    for answer in [&b""[..], &[1], &[1, 4], &[1, 9], &[0xfe], &[0xfe, 0], &[0xff], &[0], &[2; 9]] {
        for plugin in ["caching_sha2_password", "mysql_native_password"] {
            let rogue = Rogue::start(move |mut talk| {
                talk.greet(USUAL, plugin);
                talk.hear();
                talk.say(answer);
                talk.say(answer);
            });
            refused(&rogue, "127.0.0.1", "", &[]);
            assert!(!has_password(&rogue.heard()));
        }
    }
    // A packet that never ends.
    let rogue = Rogue::start(|mut talk| {
        for number in 0..64 {
            talk.raw(&[0xff, 0xff, 0xff, number]);
            talk.raw(&vec![0; 0xff_ffff]);
        }
    });
    refused(&rogue, "127.0.0.1", "", &[]);
    drop(rogue.heard());
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let wait = |says_hello: bool| {
        let rogue = Rogue::start(move |mut talk| {
            if says_hello {
                talk.greet(USUAL, "caching_sha2_password");
                talk.hear();
            }
            talk.hear();
        });
        refused(&rogue, "127.0.0.1", "", &["no answer"]);
        drop(rogue.heard());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| wait(false));
        scope.spawn(|| wait(true));
    });
}

/// Addresses in every wrong form: no message shows the password.
#[test]
fn no_message_shows_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir(at.join("records")).unwrap();
    let secret = PASSWORD;
    for address in [
        format!("mysql://me:{secret}@127.0.0.1:1/runs"),
        format!("MYSQL://me:{secret}@127.0.0.1:1/runs"),
        format!(" mysql://me:{secret}@127.0.0.1:1/runs"),
        format!("mysql:/me:{secret}@127.0.0.1:1/runs"),
        format!("mysql:me:{secret}@127.0.0.1:1/runs"),
        format!("jdbc:mysql://127.0.0.1:1/runs?user=me&password={secret}"),
        format!("jdbc:mysql://me:{secret}@127.0.0.1:1/runs"),
        format!("mysql://me:1?{secret}@127.0.0.1:1/runs"),
        format!("mysql://me:a?b={secret}@127.0.0.1:1/runs"),
        format!("mysql://me:a/{secret}@127.0.0.1:1/runs"),
        format!("mysql://me:a#{secret}@127.0.0.1:1/runs"),
        format!("mysql://me:{secret}"),
        format!("mysql://me@127.0.0.1:1/runs?password={secret}"),
        format!("s3a://key:{secret}@bucket/runs"),
        format!("http://me:{secret}@127.0.0.1:1/app-1"),
        format!("https://me:{secret}@127.0.0.1:1/app-1"),
        format!("https://me:{secret}@127.0.0.1:port/app-1"),
        format!("HTTP://me:a/{secret}@127.0.0.1:1/app-1"),
    ] {
        for command in [
            &["report", "--store", &address][..],
            &["ingest", &address],
            &["ingest", "records", "--store", &address],
            &["ingest", "--store", "store", "--event-log", &address],
            &["diff", &address, &address],
            &["export", "--to", "prometheus", "--store", &address],
            &["top", "--once", &address],
            &["top", "--once", "--store", &address],
            &["dump", &address],
            &["schema", "init", "--store", &address],
            &["purge", "--older-than", "1d", "--store", &address],
            &["doctor", "--store", &address],
            &["inspect", &address],
        ] {
            let output = fixture::analyzer(at, command);
            let all = [output.stdout, output.stderr].concat();
            assert!(!has_password(&all), "{command:?}\n{}", String::from_utf8_lossy(&all));
            assert_ne!(output.status.code(), Some(0), "{command:?}");
        }
    }
}

#[test]
fn a_password_file_for_everybody_draws_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, PASSWORD).unwrap();
    for (mode, warns) in [(0o600, false), (0o640, false), (0o644, true)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let url = format!("mysql://me@127.0.0.1:1/x?password_file={}", file.display());
        let (_, stderr) = expect(Path::new("/"), 6, &["report", "--store", &url]);
        assert_eq!(stderr.contains("others can read the password"), warns, "{stderr}");
    }
}
