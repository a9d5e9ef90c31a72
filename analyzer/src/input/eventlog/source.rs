//! Where event logs are: files, rolling folders, folders of logs, standard input.

use std::fs;
use std::path::{Path, PathBuf};

/// One event log: the files that make it up, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// How the user knows it: `-` for standard input.
    pub name: PathBuf,
    /// Its files, in the order of writing; empty for standard input.
    pub files: Vec<PathBuf>,
    /// Whether the user named it, as against a file found in a folder, which may be anything.
    pub is_named: bool,
    /// Numbers of rolling files that are missing.
    pub missing: Vec<u64>,
}

/// What is at a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The logs.
    pub sources: Vec<Source>,
    /// What was passed over in a folder, and why.
    pub notes: Vec<String>,
}

impl Source {
    /// Whether it is standard input.
    pub fn is_standard_input(&self) -> bool {
        self.files.is_empty()
    }

    /// Bytes of its files; `None` for standard input.
    pub fn bytes(&self) -> Option<u64> {
        if self.is_standard_input() {
            return None;
        }
        Some(self.files.iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum())
    }
}

/// The logs at a path: the file, the rolling folder, or every log in the folder; `-` is standard input.
///
/// # Errors
/// When the path cannot be read, or is a folder without a log.
pub fn find(path: &Path) -> Result<Found, String> {
    let of_one = |files| {
        let source = Source { name: path.to_owned(), files, is_named: true, ..Source::default() };
        Ok(Found { sources: vec![source], notes: Vec::new() })
    };
    if path == Path::new("-") {
        return of_one(Vec::new());
    }
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    if !fs::metadata(path).map_err(at)?.is_dir() {
        return of_one(vec![path.to_owned()]);
    }
    if let Some(rolling) = rolling(path, true)? {
        return Ok(Found { sources: vec![rolling], notes: Vec::new() });
    }
    let mut found = Found::default();
    for entry in fs::read_dir(path).map_err(at)? {
        let entry = entry.map_err(at)?;
        let child = entry.path();
        // What is not to be read is no reason to leave out all others.
        match fs::metadata(&child) {
            Ok(metadata) if metadata.is_dir() => match rolling(&child, false) {
                Ok(rolling) => found.sources.extend(rolling),
                Err(why) => found.notes.push(why),
            },
            _ if is_passed_over(&entry.file_name().to_string_lossy()) => {}
            Ok(metadata) if metadata.is_file() => found.sources.push(Source {
                name: child.clone(),
                files: vec![child],
                ..Source::default()
            }),
            // Reading a pipe would wait for a writer.
            Ok(_) => found.notes.push(format!("{}: no regular file", child.display())),
            Err(error) => found.notes.push(format!("{}: {error}", child.display())),
        }
    }
    found.notes.sort();
    if found.sources.is_empty() {
        let more: String = found.notes.iter().map(|note| format!("; {note}")).collect();
        return Err(format!("{}: no event log in this folder{more}", path.display()));
    }
    found.sources.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Checksums and hidden files are no logs, and neither are our own record files.
fn is_passed_over(name: &str) -> bool {
    name.starts_with('.') || name.ends_with(".crc") || name.ends_with(".sar")
}

/// The folder as one rolling log, if it is one.
fn rolling(folder: &Path, is_named: bool) -> Result<Option<Source>, String> {
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    let (mut files, mut hours, mut current) = (Vec::new(), Vec::new(), None);
    for entry in fs::read_dir(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(index) = rolling_index(&name) {
            files.push((index, entry.path()));
        } else if is_of_an_hour(&name) {
            hours.push(entry.path());
        } else if name == BY_THE_HOUR {
            current = Some(entry.path());
        }
    }
    if files.is_empty() && !hours.is_empty() {
        // Their names are dates: the file that is still written to comes last.
        hours.sort();
        hours.extend(current);
        let (name, missing) = (folder.to_owned(), Vec::new());
        return Ok(Some(Source { name, files: hours, is_named, missing }));
    }
    if files.is_empty() {
        return Ok(None);
    }
    // A compacted file stands for all files up to its own index.
    let is_compact = |path: &Path| path.extension().is_some_and(|end| end == "compact");
    let compacted =
        files.iter().filter(|(_, path)| is_compact(path)).map(|(index, _)| *index).max();
    files.retain(|(index, path)| {
        compacted.is_none_or(|last| *index > last || (*index == last && is_compact(path)))
    });
    files.sort();
    let first = compacted.unwrap_or(1);
    let last = files.last().map_or(first, |(index, _)| *index);
    let is_missing = |index: &u64| files.iter().all(|(one, _)| one != index);
    let missing = (first..last).filter(is_missing).take(MISSING).collect();
    let files = files.into_iter().map(|(_, path)| path).collect();
    Ok(Some(Source { name: folder.to_owned(), files, is_named, missing }))
}

/// So many missing files are named at most.
const MISSING: usize = 10;

/// What Databricks calls the file that it writes to, and those of past hours begin with.
const BY_THE_HOUR: &str = "eventlog";

/// Whether it is `eventlog-2021-06-14--20-00`, packed or not.
fn is_of_an_hour(name: &str) -> bool {
    let Some(date) = name.strip_prefix(BY_THE_HOUR).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    let date = date.split('.').next().unwrap_or_default();
    date.len() == "2021-06-14--20-00".len()
        && date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// The number in `events_<n>_<application>...`.
fn rolling_index(name: &str) -> Option<u64> {
    if name.ends_with(".crc") {
        return None;
    }
    name.strip_prefix("events_")?.split_once('_')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        folder
    }

    fn names(source: &Source) -> Vec<&str> {
        source.files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect()
    }

    #[test]
    fn rolling_files_come_in_the_order_of_their_numbers() {
        let folder = folder_of(&[
            "events_10_app-1.zstd",
            "events_9_app-1.zstd",
            ".events_9_app-1.zstd.crc",
            "appstatus_app-1",
        ]);
        let found = find(folder.path()).unwrap().sources;
        assert_eq!(found.len(), 1);
        assert_eq!(names(&found[0]), ["events_9_app-1.zstd", "events_10_app-1.zstd"]);
        assert_eq!(found[0].missing, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_compacted_file_replaces_what_is_before_it() {
        let folder = folder_of(&["events_1_a", "events_2_a", "events_2_a.compact", "events_3_a"]);
        let found = find(folder.path()).unwrap().sources;
        assert_eq!(names(&found[0]), ["events_2_a.compact", "events_3_a"]);
        assert_eq!(found[0].missing, [0; 0]);
        fs::write(folder.path().join("events_6_a"), "x").unwrap();
        assert_eq!(find(folder.path()).unwrap().sources[0].missing, [4, 5]);
    }

    #[test]
    fn files_of_past_hours_come_before_the_one_of_now() {
        let folder = folder_of(&[
            "eventlog",
            "eventlog-2021-06-14--21-00.gz",
            "eventlog-2021-06-14--20-00.gz",
            "eventlog-notes",
        ]);
        let found = find(folder.path()).unwrap().sources;
        assert_eq!(found.len(), 1);
        assert_eq!(
            names(&found[0]),
            ["eventlog-2021-06-14--20-00.gz", "eventlog-2021-06-14--21-00.gz", "eventlog"]
        );
    }

    #[test]
    fn what_cannot_be_read_in_a_folder_is_named_and_passed_over() {
        let folder = folder_of(&["app-1"]);
        std::os::unix::fs::symlink("/nonexistent", folder.path().join("dangling")).unwrap();
        let pipe = std::ffi::CString::new(folder.path().join("pipe").to_str().unwrap()).unwrap();
        // SAFETY: a path that ends with a zero byte.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let found = find(folder.path()).unwrap();
        assert_eq!(found.sources.len(), 1);
        assert!(found.notes[0].contains("dangling: No such file"), "{:?}", found.notes);
        assert!(found.notes[1].contains("pipe: no regular file"), "{:?}", found.notes);
    }

    #[test]
    fn a_folder_of_logs() {
        let folder = folder_of(&["app-1", ".app-1.crc", "eventlog_v2_app-2/events_1_app-2.zstd"]);
        let found = find(folder.path()).unwrap().sources;
        assert_eq!(
            found.iter().map(|one| names(one).concat()).collect::<Vec<_>>(),
            ["app-1", "events_1_app-2.zstd"]
        );
        assert!(found.iter().all(|one| !one.is_named));
    }

    #[test]
    fn nothing_there() {
        let folder = folder_of(&[]);
        assert!(find(folder.path()).unwrap_err().contains("no event log"));
        assert!(find(Path::new("/nonexistent/log")).unwrap_err().contains("/nonexistent/log"));
    }
}
