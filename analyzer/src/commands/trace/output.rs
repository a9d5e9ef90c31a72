//! Where a trace leaves its files: the folder of the record files, and the JSON file.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use conf::Settings;
use conf::trust::{self, Place, Who};

use crate::console::exit::{Exit, Failure};
use crate::console::output::Output;
use crate::input::record_files;

/// How often a temporary folder is removed that somebody fills meanwhile.
const REMOVALS: u32 = 20;
/// Time between two such removals.
const REMOVES_EVERY: Duration = Duration::from_millis(10);

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
        // The mode is what the library asks of the folder, whatever the umask lets through.
        DirBuilder::new().recursive(true).mode(0o755).create(wanted).map_err(fail)?;
        // The library follows no symbolic link in the folder's place.
        let path = wanted.canonicalize().map_err(fail)?;
        check(&path, wanted)?;
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

    /// Leaves the settings in force in it, if this is root: a traced process with root's rights whose environment
    /// may be somebody else's takes them from there, as nobody but root can have put them there. They go away with
    /// the value.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn leave_settings(
        &self,
        id: &str,
        settings: &Settings,
    ) -> Result<Option<LeftSettings>, Failure> {
        // SAFETY: it has no preconditions.
        let is_root = unsafe { libc::geteuid() } == 0;
        let Some(name) = conf::trace_settings_file(id).filter(|_| is_root) else { return Ok(None) };
        let path = self.path.join(name);
        let fail = |error| unwritable(&path, &error);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        let text: Vec<_> = settings.in_force().collect();
        let left = LeftSettings { path: path.clone() };
        file.write_all(text.join("\n").as_bytes()).map_err(fail)?;
        Ok(Some(left))
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
            .map(|found| found.files)
            .map_err(|message| Failure::new(Exit::BadInput, message))
    }
}

/// The settings that a trace left in its folder.
pub struct LeftSettings {
    path: PathBuf,
}

impl Drop for LeftSettings {
    fn drop(&mut self) {
        // Gone already, or the folder is: there is nobody to tell.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the library will write there; `wanted` is how the user named it.
fn check(path: &Path, wanted: &Path) -> Result<(), Failure> {
    let found = std::fs::metadata(path).map_err(|error| unwritable(wanted, &error))?;
    let place = Place { mode: found.mode(), owner: found.uid(), is_read_only: false };
    // SAFETY: it has no preconditions.
    let user = unsafe { libc::geteuid() };
    // The library looks at the namespace itself.
    trust::folder(&place, &Who { user, is_in_namespace: true }).map_err(|flaw| {
        let name = wanted.display();
        let message = format!(
            "{name}: no record is written there: {flaw}\n  chmod go-w {name}, or another folder"
        );
        Failure::new(Exit::BadOutput, message)
    })
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            // A child that is left behind may write into it meanwhile. Left-overs in the temporary folder are no reason
            // to hide the counts.
            for _ in 0..REMOVALS {
                let _ = std::fs::remove_dir_all(&self.path);
                if !self.path.exists() {
                    break;
                }
                std::thread::sleep(REMOVES_EVERY);
            }
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
