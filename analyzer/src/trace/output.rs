//! Where a trace leaves its files: the folder of the record files, and the JSON file.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf, absolute};

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::record_files;

/// The folder that the shim writes to; a temporary one goes away with this value.
pub struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    /// Makes the folder that was asked for, or a temporary one, and makes sure that it can be
    /// written to.
    ///
    /// # Errors
    /// When that is not so.
    pub fn prepare(wanted: Option<&Path>) -> Result<Folder, Failure> {
        let Some(wanted) = wanted else {
            return Folder::temporary();
        };
        let fail = |error| unwritable(wanted, &error);
        std::fs::create_dir_all(wanted).map_err(fail)?;
        let path = absolute(wanted).map_err(fail)?;
        let probe = path.join(format!(".analyzer-{}", std::process::id()));
        File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe)).map_err(fail)?;
        Ok(Folder { path, is_temporary: false })
    }

    /// A fresh folder below `TMPDIR` that nobody else may look into.
    fn temporary() -> Result<Folder, Failure> {
        let parent = absolute(std::env::temp_dir()).unwrap_or_else(|_| "/tmp".into());
        for attempt in 0.. {
            let name = format!("sparkanalyzer-{}-{attempt}", std::process::id());
            let path = parent.join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Folder { path, is_temporary: true }),
                Err(error)
                    if error.kind() == std::io::ErrorKind::AlreadyExists && attempt < 999 => {}
                Err(error) => return Err(unwritable(&parent, &error)),
            }
        }
        unreachable!("the loop only ends by return")
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The record files in it now.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn list(&self) -> Result<Vec<PathBuf>, Failure> {
        record_files::find(std::slice::from_ref(&self.path))
            .map_err(|message| Failure::new(Exit::BadInput, message))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            // Left-overs in the temporary folder are no reason to hide the counts.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Opens the JSON file before the program runs, so that a wrong path does not cost a run. `-` is
/// standard output.
///
/// # Errors
/// When it cannot be written.
pub fn open_json(path: &Path) -> Result<Output, Failure> {
    Output::data(Some(path).filter(|path| *path != Path::new("-")))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::BadOutput, format!("{}: cannot be written: {error}", path.display()))
}
