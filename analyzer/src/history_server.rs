//! Event logs of an application from Spark's history server, by its download
//! (`/api/v1/applications/<id>/logs`, "Monitoring and Instrumentation" in Spark's documentation): a zip
//! archive of the files as they lie in the server's log directory.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::eventlog::{Source, find};

/// The scheme that is served.
const SCHEME: &str = "http://";
/// How long to wait for the server to begin its answer; it may have to pack gigabytes.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an error page that are looked at.
const MAX_PAGE_BYTES: u64 = 4096;

/// Logs that were downloaded; the files go when it is dropped.
pub struct Download {
    /// The logs.
    pub sources: Vec<Source>,
    _folder: TempDir,
}

/// Whether the value of `--event-log` names a server.
pub fn is_address(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with(SCHEME) || text.starts_with("https://"))
}

/// The address of the download of `http://HOST:PORT/APP` or `http://HOST:PORT/APP/ATTEMPT`; the page of an
/// application in the server's own interface (`/history/APP/jobs/`) will do.
fn download_address(address: &str) -> Result<String, String> {
    let Some(rest) = address.strip_prefix(SCHEME) else {
        return Err(format!(
            "{address}: https is not served; download the log (/api/v1/applications/APP/logs), unpack it \
             and give its path"
        ));
    };
    let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
    names.next_if_eq(&"history");
    let Some(application) = names.next() else {
        return Err(format!("{address}: the application is missing (http://HOST:PORT/APP)"));
    };
    let pages = ["jobs", "stages", "storage", "environment", "executors", "SQL"];
    let attempt = names.next().filter(|name| !pages.contains(name));
    let attempt = attempt.map(|attempt| format!("/{attempt}")).unwrap_or_default();
    Ok(format!("{SCHEME}{server}/api/v1/applications/{application}{attempt}/logs"))
}

/// Downloads the logs of an application.
///
/// # Errors
/// When the server cannot be reached, does not know the application, or answers with something else.
pub fn download(address: &Path) -> Result<Download, String> {
    let address = address.to_string_lossy();
    let url = download_address(&address)?;
    let wrong = |why: &dyn std::fmt::Display| format!("{address}: {why} ({url})");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(TIMEOUT))
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = agent.get(&url).call().map_err(|error| wrong(&error))?;
    if !answer.status().is_success() {
        let page = answer.body_mut().with_config().limit(MAX_PAGE_BYTES).read_to_string();
        let line = page.ok().and_then(|page| page.lines().next().map(str::to_owned));
        let status = answer.status();
        return Err(match line.filter(|line| !line.is_empty() && !line.starts_with('<')) {
            Some(line) => wrong(&format!("the history server says {status}: {line}")),
            None => wrong(&format!("the history server says {status}")),
        });
    }
    let folder = tempfile::tempdir().map_err(|error| wrong(&error))?;
    let mut archive = tempfile::tempfile().map_err(|error| wrong(&error))?;
    io::copy(&mut answer.body_mut().as_reader(), &mut archive).map_err(|error| wrong(&error))?;
    archive.rewind().map_err(|error| wrong(&error))?;
    unpack(archive, folder.path()).map_err(|error| wrong(&error))?;
    let found = find(folder.path()).map_err(|_| wrong(&"no event log in the answer"))?;
    let mut sources = found.sources;
    for source in &mut sources {
        let file = source.name.file_name().unwrap_or_default().to_string_lossy();
        source.name = PathBuf::from(format!("{address}: {file}"));
        source.is_named = true;
    }
    Ok(Download { sources, _folder: folder })
}

/// Unpacks an archive; names that lead out of the folder are refused.
fn unpack(archive: File, folder: &Path) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(archive).map_err(io::Error::other)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(io::Error::other)?;
        let Some(name) = entry.enclosed_name() else {
            return Err(io::Error::other(format!("{:?} leads out of the archive", entry.name())));
        };
        if entry.is_dir() {
            continue;
        }
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let mut file = File::create(path)?;
        io::copy(&mut entry, &mut file)?;
        file.flush()?;
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
        assert!(logs("https://h/app-1").unwrap_err().contains("https is not served"));
    }

    #[test]
    fn an_archive_that_leads_out_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file("../out", options).unwrap();
        writer.write_all(b"x").unwrap();
        let error = unpack(writer.finish().unwrap(), folder.path()).unwrap_err();
        assert!(error.to_string().contains("leads out"), "{error}");
    }
}
