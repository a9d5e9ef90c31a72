//! Finding and loading record files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use records::{ReadError, file_name};

/// A record file's bytes, as they were at the moment of loading.
///
/// They are copied, not mapped: the writer or somebody else may truncate the file at any time, and a
/// mapped page behind a file's end is SIGBUS.
#[derive(Debug)]
pub struct RecordFile {
    /// Where it was found.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl RecordFile {
    /// Loads a file.
    ///
    /// # Errors
    /// What the system says, with the path.
    pub fn load(path: &Path) -> Result<RecordFile, String> {
        match fs::read(path) {
            Ok(bytes) => Ok(RecordFile { path: path.to_owned(), bytes }),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Reads the header.
    ///
    /// # Errors
    /// Why it is not a readable segment, with the path.
    pub fn segment(&self) -> Result<records::Segment<'_>, String> {
        records::Segment::parse(&self.bytes).map_err(|error| self.explain(error))
    }

    fn explain(&self, error: ReadError) -> String {
        format!("{}: {error}", self.path.display())
    }
}

/// All files below the paths: a path that is a file itself is always one of them, in a folder (at any
/// depth) only names of record files count. Sorted, without doubles.
///
/// # Errors
/// The first path that does not exist or cannot be listed, and why.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in paths {
        let at = |error: io::Error| format!("{}: {error}", path.display());
        if fs::metadata(path).map_err(at)?.is_dir() {
            find_below(path, &mut found)?;
        } else {
            found.push(path.clone());
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn find_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let at = |error: io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        // Symbolic links are not followed: they could lead round in a circle.
        let kind = entry.file_type().map_err(at)?;
        if kind.is_dir() {
            find_below(&entry.path(), found)?;
        } else if entry.file_name().to_str().is_some_and(|name| file_name::parse(name).is_some()) {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// The process id as text: 32 hexadecimal digits.
pub fn hex(process: &records::ProcessId) -> String {
    file_name::hex(process).iter().map(|&digit| char::from(digit)).collect()
}

/// Text as the system gave it; bytes that are no UTF-8 become U+FFFD. Unknown (empty) is `None`.
pub fn known(text: &[u8]) -> Option<String> {
    (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
}
