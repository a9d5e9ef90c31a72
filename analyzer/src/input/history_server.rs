//! Event logs of an application from Spark's history server, by its download
//! (`/api/v1/applications/<id>/logs`, "Monitoring and Instrumentation" in Spark's documentation): a zip
//! archive of the files as they lie in the server's log directory.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::console::private_folder;
use crate::input::eventlog::{Source, find};
use crate::text::shown;

/// The schemes that are served.
const SCHEMES: [&str; 2] = ["https://", "http://"];
/// A file of the CAs that are believed instead of the public ones, as other programs have it.
const CERTIFICATES: &str = "SSL_CERT_FILE";
/// How long to wait for the server to begin its answer; it may have to pack gigabytes.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long all of a download may take.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Bytes of an error page that are looked at.
const MAX_PAGE_BYTES: u64 = 4096;
/// How often a server may send on to another place on itself.
const MAX_REDIRECTS: u32 = 5;

/// What a server may make this machine hold.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Bytes of the archive.
    archive_bytes: u64,
    /// Bytes of its list of files.
    list_bytes: u64,
    /// Files.
    files: usize,
    /// Bytes of the files together.
    unpacked_bytes: u64,
    /// How many times as long as the archive they may be ...
    ratio: u64,
    /// ... if they have more bytes than these.
    ratio_from: u64,
}

/// Event logs of gigabytes pack to a twentieth.
const LIMITS: Limits = Limits {
    archive_bytes: 16 << 30,
    list_bytes: 16 << 20,
    files: 10_000,
    unpacked_bytes: 64 << 30,
    ratio: 200,
    ratio_from: 64 << 20,
};

/// Logs that were downloaded; the files go when it is dropped.
pub struct Download {
    /// The logs.
    pub sources: Vec<Source>,
    _folder: TempDir,
}

/// Whether the value of `--event-log` names a server.
pub fn is_address(path: &Path) -> bool {
    let text = path.to_string_lossy();
    SCHEMES.iter().any(|scheme| starts_with(text.trim(), scheme))
}

fn starts_with(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
}

/// The address of the download of `http://HOST:PORT/APP` or `http://HOST:PORT/APP/ATTEMPT`; the page of an
/// application in the server's own interface (`/history/APP/jobs/`) will do.
fn download_address(address: &str) -> Result<String, String> {
    let shown = shown::without_passwords(address);
    let scheme = SCHEMES.into_iter().find(|scheme| starts_with(address, scheme));
    let Some(scheme) = scheme else { return Err(format!("{shown}: no address of a server")) };
    let rest = &address[scheme.len()..];
    let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('@') {
        return Err(format!("{shown}: in user and password / is written %2F"));
    }
    let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
    names.next_if_eq(&"history");
    let Some(application) = names.next() else {
        return Err(format!("{shown}: the application is missing (http://HOST:PORT/APP)"));
    };
    let pages = ["jobs", "stages", "storage", "environment", "executors", "SQL"];
    let attempt = names.next().filter(|name| !pages.contains(name));
    let attempt = attempt.map(|attempt| format!("/{attempt}")).unwrap_or_default();
    Ok(format!("{scheme}{server}/api/v1/applications/{application}{attempt}/logs"))
}

/// Whether user and password are in it.
fn has_user(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where a server sends on to: to itself alone, and never from https to http. User and password of the
/// address do not go along.
fn redirected(from: &Uri, to: &str) -> Result<Uri, String> {
    let server = format!(
        "{}://{}",
        from.scheme_str().unwrap_or_default(),
        from.authority().map_or("", |all| all.as_str().rsplit('@').next().unwrap_or_default())
    );
    let whole = match to.starts_with('/') && !to.starts_with("//") {
        true => format!("{server}{to}"),
        false => to.to_owned(),
    };
    let refused = || {
        let to = shown::message(to);
        format!(
            "the server sends on to {to}, which is not itself; if that is right, give that address"
        )
    };
    let uri: Uri = whole.parse().map_err(|_| refused())?;
    let place = |uri: &Uri| {
        (uri.scheme_str().map(str::to_owned), uri.host().map(str::to_owned), uri.port_u16())
    };
    let (old, new) = (place(from), place(&uri));
    let becomes_safe = old.0.as_deref() == Some("http") && new.0.as_deref() == Some("https");
    if has_user(&uri) || !(old == new || becomes_safe && old.1 == new.1) {
        return Err(refused());
    }
    Ok(uri)
}

/// How to ask: certificates are verified, and nobody is followed elsewhere.
fn agent() -> Result<ureq::Agent, String> {
    let roots = match std::env::var_os(CERTIFICATES).map(PathBuf::from) {
        None => RootCerts::WebPki,
        Some(path) => {
            let at = |error: &dyn std::fmt::Display| {
                format!("{CERTIFICATES}={}: {error}", path.display())
            };
            let pem = elf::regular_file::read(&path, 16 << 20).map_err(|error| at(&error))?;
            let mut found: Vec<Certificate<'static>> = Vec::new();
            for item in parse_pem(&pem) {
                if let PemItem::Certificate(one) = item.map_err(|error| at(&error))? {
                    found.push(one);
                }
            }
            if found.is_empty() {
                return Err(at(&"no certificate in it"));
            }
            RootCerts::Specific(Arc::new(found))
        }
    };
    let tls = TlsConfig::builder()
        .root_certs(roots)
        // Whatever the process's default has become for other servers.
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Ok(ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(TIMEOUT))
        .timeout_per_read(Some(TIMEOUT))
        .timeout_global(Some(WHOLE_TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // A proxy of the environment would see the user and the password that go to a server of this machine.
        .proxy(None)
        .tls_config(tls)
        .build()
        .into())
}

/// Downloads the logs of an application.
///
/// # Errors
/// When the server cannot be reached, is not who it should be, does not know the application, or answers with
/// something else or with too much.
pub fn download(address: &Path) -> Result<Download, String> {
    download_within(address, LIMITS)
}

fn download_within(address: &Path, limits: Limits) -> Result<Download, String> {
    let address = address.to_string_lossy();
    let url = download_address(address.trim())?;
    let (address, shown_url) = (shown::without_passwords(&address), shown::without_passwords(&url));
    let wrong = |why: &dyn std::fmt::Display| format!("{address}: {why} ({shown_url})");
    // The error's words may hold a part of the password.
    let mut uri: Uri = url.parse().map_err(|_| wrong(&"no address of a server"))?;
    if has_user(&uri) && uri.scheme_str() == Some("http") && !is_loopback(&uri) {
        return Err(wrong(&"user and password are sent by https alone"));
    }
    let agent = agent().map_err(|error| wrong(&error))?;
    let mut answer = agent.get(&uri).call().map_err(|error| wrong(&error))?;
    let mut redirects = 0;
    while answer.status().is_redirection() {
        let to = answer.headers().get("location").and_then(|to| to.to_str().ok());
        let to = to.ok_or_else(|| wrong(&"the server sends on, and does not say where to"))?;
        redirects += 1;
        if redirects > MAX_REDIRECTS {
            return Err(wrong(&"the server sends on and on"));
        }
        uri = redirected(&uri, to).map_err(|error| wrong(&error))?;
        answer = agent.get(&uri).call().map_err(|error| wrong(&error))?;
    }
    if !answer.status().is_success() {
        let page = answer.body_mut().with_config().limit(MAX_PAGE_BYTES).read_to_string();
        let line = page.ok().and_then(|page| page.lines().next().map(str::to_owned));
        let status = answer.status();
        return Err(match line.filter(|line| !line.is_empty() && !line.starts_with('<')) {
            Some(line) => {
                wrong(&format!("the history server says {status}: {}", shown::message(&line)))
            }
            None => wrong(&format!("the history server says {status}")),
        });
    }
    // Nobody else may look into it (0700), or read what lies in it (0600).
    let folder = private_folder::make().map_err(|error| wrong(&error))?;
    let mut archive = tempfile::tempfile().map_err(|error| wrong(&error))?;
    let mut body = answer.body_mut().as_reader().take(limits.archive_bytes + 1);
    let bytes = io::copy(&mut body, &mut archive).map_err(|error| wrong(&error))?;
    if bytes > limits.archive_bytes {
        let most = limits.archive_bytes;
        return Err(wrong(&format!("the archive has more than {most} bytes; {BY_HAND}")));
    }
    archive.rewind().map_err(|error| wrong(&error))?;
    unpack(archive, bytes, folder.path(), limits).map_err(|error| wrong(&error))?;
    let found = find(folder.path()).map_err(|_| wrong(&"no event log in the answer"))?;
    let mut sources = found.sources;
    for source in &mut sources {
        let file = source.name.file_name().unwrap_or_default().to_string_lossy();
        source.name = PathBuf::from(format!("{address}: {file}"));
        source.is_named = true;
    }
    Ok(Download { sources, _folder: folder })
}

/// The way out of limits.
const BY_HAND: &str = "download and unpack it by hand if that is right, and give its path";

/// A file of which only so many bytes are read, unless that is lifted: a list of files may be of any size.
struct Rationed<'l> {
    file: File,
    left: &'l Cell<Option<u64>>,
}

impl Read for Rationed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if let Some(left) = self.left.get() {
            let left = left.checked_sub(read as u64);
            self.left.set(Some(
                left.ok_or_else(|| io::Error::other("the archive's list of files is too long"))?,
            ));
        }
        Ok(read)
    }
}

impl Seek for Rationed<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Unpacks an archive of so many bytes. Names that lead out of the folder are refused, links too, and more than
/// the limits.
fn unpack(archive: File, bytes: u64, folder: &Path, limits: Limits) -> io::Result<()> {
    let began = Instant::now();
    let left = Cell::new(Some(limits.list_bytes));
    let mut archive =
        zip::ZipArchive::new(Rationed { file: archive, left: &left }).map_err(io::Error::other)?;
    left.set(None);
    let refused = |why: String| Err(io::Error::other(format!("{why}; {BY_HAND}")));
    if archive.len() > limits.files {
        return refused(format!("{} files in the archive", archive.len()));
    }
    let most = limits.unpacked_bytes.min(limits.ratio_from.max(bytes.saturating_mul(limits.ratio)));
    let mut room = most;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(io::Error::other)?;
        let Some(name) = entry.enclosed_name() else {
            return Err(io::Error::other(format!("{:?} leads out of the archive", entry.name())));
        };
        if entry.is_dir() {
            continue;
        }
        let path = folder.join(name);
        let mut folders = fs::DirBuilder::new();
        folders.recursive(true).mode(0o700).create(path.parent().unwrap_or(folder))?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        let copied = io::copy(&mut entry.take(room + 1), &mut file)?;
        let Some(rest) = room.checked_sub(copied) else {
            return refused(format!("the archive of {bytes} bytes unpacks to more than {most}"));
        };
        room = rest;
        file.flush()?;
        if began.elapsed() > WHOLE_TIMEOUT {
            return refused("unpacking takes more than an hour".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let logs = |address| download_address(address);
        let whole = "http://h:18080/api/v1/applications/app-1/logs";
        for address in [
            "http://h:18080/app-1",
            "http://h:18080/history/app-1/",
            "http://h:18080/history/app-1/jobs/",
        ] {
            assert_eq!(logs(address).as_deref(), Ok(whole));
        }
        assert_eq!(
            logs("http://h/history/app-1/2/jobs/").as_deref(),
            Ok("http://h/api/v1/applications/app-1/2/logs")
        );
        assert!(logs("http://h:18080/").unwrap_err().contains("application is missing"));
        assert_eq!(
            logs("HTTPS://h:18480/app-1").as_deref(),
            Ok("https://h:18480/api/v1/applications/app-1/logs")
        );
        let error = logs("http://me:sec/ret@h/app").unwrap_err();
        assert!(!error.contains("sec") && !error.contains("ret@"), "{error}");
    }

    #[test]
    fn an_archive_that_leads_out_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file("../out", options).unwrap();
        writer.write_all(b"x").unwrap();
        let error = unpack(writer.finish().unwrap(), 100, folder.path(), LIMITS).unwrap_err();
        assert!(error.to_string().contains("leads out"), "{error}");
    }

    fn archive(files: &[(String, usize)]) -> (File, u64) {
        let mut writer = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        let options = zip::write::SimpleFileOptions::default();
        for (name, length) in files {
            writer.start_file(name, options).unwrap();
            writer.write_all(&vec![b'x'; *length]).unwrap();
        }
        let mut file = writer.finish().unwrap();
        let bytes = file.metadata().unwrap().len();
        file.rewind().unwrap();
        (file, bytes)
    }

    #[test]
    fn an_archive_that_would_fill_the_disk_is_refused() {
        let small = Limits { ratio_from: 1 << 20, ..LIMITS };
        let files = [("a".to_owned(), 3 << 20), ("b".to_owned(), 3 << 20)];
        let refused = |limits: Limits, files: &[(String, usize)]| {
            let folder = tempfile::tempdir().unwrap();
            let (file, bytes) = archive(files);
            let error = unpack(file, bytes, folder.path(), limits).unwrap_err().to_string();
            let written: u64 = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap().len())
                .sum();
            assert!(written <= limits.unpacked_bytes + 1, "{written}");
            error
        };
        // Deflate packs this to a thousandth.
        assert!(refused(small, &files).contains("unpacks to more than"));
        let narrow = Limits { unpacked_bytes: 1000, ..LIMITS };
        assert!(refused(narrow, &files).contains("unpacks to more than 1000;"));
        assert!(refused(Limits { files: 1, ..LIMITS }, &files).contains("2 files"));
        let many: Vec<_> = (0..2000).map(|number| (format!("{number:0100}"), 0)).collect();
        let short = Limits { list_bytes: 65_536, ..LIMITS };
        assert!(refused(short, &many).contains("list of files is too long"));
        let folder = tempfile::tempdir().unwrap();
        let (file, bytes) = archive(&files);
        unpack(file, bytes, folder.path(), Limits { ratio: 10_000, ..LIMITS }).unwrap();
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(folder.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_server_sends_on_to_itself_alone() {
        let from: Uri = "http://me:secret@h:18080/a".parse().unwrap();
        let to = |to: &str| redirected(&from, to).map(|uri| uri.to_string());
        assert_eq!(to("/b").as_deref(), Ok("http://h:18080/b"));
        assert_eq!(to("http://h:18080/b").as_deref(), Ok("http://h:18080/b"));
        assert_eq!(to("https://h:18480/b").as_deref(), Ok("https://h:18480/b"));
        for other in [
            "http://h:18081/b",
            "http://other:18080/b",
            "//other/b",
            "file:///etc/passwd",
            "b",
            "http://x@h:18080/b",
        ] {
            let error = to(other).unwrap_err();
            assert!(error.contains("not itself") && !error.contains("secret"), "{error}");
        }
        let safe: Uri = "https://h/a".parse().unwrap();
        assert!(redirected(&safe, "http://h/a").is_err());
    }
}
