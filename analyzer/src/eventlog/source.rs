//! Where event logs are: files, rolling folders, folders of logs, standard input.

use std::fs;
use std::path::{Path, PathBuf};

/// One event log: the files that make it up, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// How the user knows it: `-` for standard input.
    pub name: PathBuf,
    /// Its files, in the order of writing; empty for standard input.
    pub files: Vec<PathBuf>,
    /// Whether the user named it, as against a file found in a folder, which may be anything.
    pub is_named: bool,
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
pub fn find(path: &Path) -> Result<Vec<Source>, String> {
    if path == Path::new("-") {
        return Ok(vec![Source { name: path.to_owned(), files: Vec::new(), is_named: true }]);
    }
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    if !fs::metadata(path).map_err(at)?.is_dir() {
        let files = vec![path.to_owned()];
        return Ok(vec![Source { name: path.to_owned(), files, is_named: true }]);
    }
    if let Some(rolling) = rolling(path, true)? {
        return Ok(vec![rolling]);
    }
    let mut sources = Vec::new();
    for entry in fs::read_dir(path).map_err(at)? {
        let entry = entry.map_err(at)?;
        let child = entry.path();
        if fs::metadata(&child).map_err(at)?.is_dir() {
            sources.extend(rolling(&child, false)?);
        } else if !is_passed_over(&entry.file_name().to_string_lossy()) {
            sources.push(Source { name: child.clone(), files: vec![child], is_named: false });
        }
    }
    if sources.is_empty() {
        return Err(format!("{}: no event log in this folder", path.display()));
    }
    sources.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(sources)
}

/// Checksums and hidden files are no logs, and neither are our own record files.
fn is_passed_over(name: &str) -> bool {
    name.starts_with('.') || name.ends_with(".crc") || name.ends_with(".sar")
}

/// The folder as one rolling log, if it is one.
fn rolling(folder: &Path, is_named: bool) -> Result<Option<Source>, String> {
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        if let Some(index) = rolling_index(&entry.file_name().to_string_lossy()) {
            files.push((index, entry.path()));
        }
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
    let files = files.into_iter().map(|(_, path)| path).collect();
    Ok(Some(Source { name: folder.to_owned(), files, is_named }))
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
        let found = find(folder.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(names(&found[0]), ["events_9_app-1.zstd", "events_10_app-1.zstd"]);
    }

    #[test]
    fn a_compacted_file_replaces_what_is_before_it() {
        let folder = folder_of(&["events_1_a", "events_2_a", "events_2_a.compact", "events_3_a"]);
        assert_eq!(names(&find(folder.path()).unwrap()[0]), ["events_2_a.compact", "events_3_a"]);
    }

    #[test]
    fn a_folder_of_logs() {
        let folder = folder_of(&["app-1", ".app-1.crc", "eventlog_v2_app-2/events_1_app-2.zstd"]);
        let found = find(folder.path()).unwrap();
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
