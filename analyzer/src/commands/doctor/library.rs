//! The library, its conf, where it writes, and whether it counts.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use conf::Settings;
use conf::settings::Enabled;
use conf::trust::{self, Flaw, Place, Who};
use serde_json::Value;

use crate::commands::doctor::bounded;
use crate::commands::doctor::findings::{Findings, writable_by_others};
use crate::commands::tracer::{KILL_SWITCH, Tracer};
use crate::commands::{conf_file, shim};

/// How long /bin/true may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks that the library is there, nobody else can change it, and that it can be loaded.
pub fn check(findings: &mut Findings, said: Option<&Path>) -> Option<PathBuf> {
    let path = match shim::find(said, Tracer::Engine) {
        Ok(path) => path,
        Err(failure) => {
            findings.problem(
                "library",
                failure.message,
                "install it: install.sh of the distribution, or ./run build",
            );
            return None;
        }
    };
    match writable_by_others(&path) {
        None => findings.good("library", format!("{}, writable by nobody else", path.display())),
        Some(why) => findings.problem(
            "library",
            format!(
                "{}: {why}: whoever may write there runs code in every executor",
                path.display()
            ),
            format!("chown root {0}; chmod go-w {0} and the folders above it", path.display()),
        ),
    }
    if is_mounted_noexec(&path) {
        findings.problem(
            "library",
            format!("{} is on a file system that is mounted noexec", path.display()),
            "copy it to one that is not, /opt for example",
        );
        return None;
    }
    match bounded::run(Command::new("/bin/true").env("LD_PRELOAD", &path), PATIENCE) {
        // ld.so says on standard error what it cannot preload, and goes on without.
        Ok(run) if run.is_success() && run.stderr.is_empty() => {
            findings.good("loading", "the system's loader takes it");
            Some(path)
        }
        Ok(run) => {
            findings.problem(
                "loading",
                run.said(),
                "the message is the loader's; a library of another machine or a cut file? install it anew",
            );
            None
        }
        Err(error) => {
            findings.skipped("loading", format!("/bin/true: {error}"));
            Some(path)
        }
    }
}

/// Checks the conf file and the variables that change it.
pub fn check_conf(findings: &mut Findings, said: Option<&Path>) -> Option<Settings> {
    if Path::new(KILL_SWITCH).exists() {
        findings.problem(
            "kill switch",
            format!("{KILL_SWITCH} exists: nothing is counted on this machine"),
            format!("rm {KILL_SWITCH}, if that is not what you want"),
        );
    }
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let variable = environment.iter().find(|(name, _)| name == "SPARKANALYZER_CONF");
    let named = said.map(Path::to_owned).or_else(|| variable.map(|(_, path)| PathBuf::from(path)));
    let path = named.clone().unwrap_or_else(|| PathBuf::from(conf::DEFAULT_PATH));
    let text = match conf_file::read(&path) {
        Ok(text) => Some(text),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            findings.problem(
                "conf",
                format!("{}: {error}", path.display()),
                "correct the path or the file's mode: every executor's user must be able to read it",
            );
            return None;
        }
    };
    let name = path.display().to_string();
    let file = text.as_deref().map(|text| (name.as_str(), text));
    let pairs = environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings = match conf::load(file, pairs) {
        Ok(settings) => settings,
        Err(error) => {
            findings.problem(
                "conf",
                error.to_string(),
                "correct it: with a mistake in its conf the library does nothing",
            );
            return None;
        }
    };
    match (&text, writable_by_others(&path)) {
        (Some(_), Some(why)) => findings.problem(
            "conf",
            format!("{name}: {why}: whoever may write it decides where the executors write"),
            format!("chown root {name}; chmod go-w {name} and the folders above it"),
        ),
        (Some(_), None) => findings.good("conf", format!("{name}, valid, writable by nobody else")),
        (None, _) => findings.good("conf", format!("no {name}: the settings are the usual ones")),
    }
    match settings.enabled {
        Enabled::All => {}
        Enabled::Request => findings.warning(
            "conf",
            "enabled = \"request\": only jobs that ask for it are counted",
            "spark.executorEnv.SPARKANALYZER_ENABLED=all in the job, or enabled = \"all\"",
        ),
        Enabled::Off => findings.problem(
            "conf",
            "enabled = \"off\": nothing is counted",
            "enabled = \"all\", or \"request\" for jobs that ask for it",
        ),
    }
    Some(settings)
}

/// Checks the folder for record files.
pub fn check_output_dir(findings: &mut Findings, settings: &Settings) {
    let path = Path::new(&settings.output_dir);
    let name = path.display();
    // The library follows no link in the folder's place either.
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.warning(
                "output_dir",
                format!("{name} does not exist; the first executor makes it, mode 0750, for its user alone"),
                format!("for executors of several users: install -d -m 1777 {name}, as root"),
            );
            return;
        }
        Err(error) => {
            findings.problem(
                "output_dir",
                format!("{name}: {error}"),
                "correct the path or its rights",
            );
            return;
        }
    };
    // SAFETY: it has no preconditions.
    let own = unsafe { libc::geteuid() };
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let place = Place { mode: metadata.mode(), owner, is_read_only: false };
    let who = Who { user: own, is_in_namespace: is_in_user_namespace() };
    match trust::folder(&place, &who) {
        Err(Flaw::Kind(_)) => findings.problem(
            "output_dir",
            format!("{name} is no folder of its own"),
            "name a folder as output_dir, not a link to one",
        ),
        Err(Flaw::Mode(_)) => findings.problem(
            "output_dir",
            format!(
                "{name} has mode {mode:o}: others could replace record files, so none is written"
            ),
            format!("chmod go-w {name}; for several users: install -d -o root -m 1777 {name}"),
        ),
        Err(_) => findings.problem(
            "output_dir",
            format!("{name} belongs to user {owner}, neither root nor you ({own})"),
            format!("install -d -o root -m 1777 {name}, as root, or another output_dir"),
        ),
        Ok(()) if !is_writable(path) => findings.problem(
            "output_dir",
            format!("{name} (mode {mode:o}, user {owner}) cannot be written by you ({own})"),
            format!("install -d -m 1777 {name}, as root, if several users run executors"),
        ),
        Ok(()) => findings.good("output_dir", format!("{name}, mode {mode:o}, user {owner}")),
    }
    if let Some(free) = free_bytes(path)
        && free < settings.max_bytes_per_directory.0
    {
        findings.warning(
            "output_dir",
            format!(
                "{} MB are free there, max_bytes_per_directory is {} MB",
                free / 1_000_000,
                settings.max_bytes_per_directory.0 / 1_000_000
            ),
            "recording stops, with a notice, when the disk is full: lower the limit, or ingest and purge earlier",
        );
    }
}

/// Whether users may have no number in this process's user namespace.
fn is_in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.is_empty() && !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Counts a program, as `trace` does: the one proof that all of it works together.
pub fn check_counts(findings: &mut Findings, shim: &Path) {
    const REMEDY: &str = "analyzer trace -- /bin/true says more";
    let Ok(own) = std::env::current_exe() else {
        return findings.skipped("counting", "the analyzer does not find itself");
    };
    let Ok(folder) = tempfile::tempdir() else {
        return findings.skipped("counting", "no temporary folder");
    };
    let json = folder.path().join("json");
    let mut command = Command::new(own);
    command.arg("trace").arg("--json").arg(&json).arg("--shim").arg(shim).args(["--", "/bin/true"]);
    let run = match bounded::run(&mut command, PATIENCE) {
        Ok(run) => run,
        Err(error) => return findings.skipped("counting", error.to_string()),
    };
    let text = fs::read(&json).unwrap_or_default();
    let counted = serde_json::from_slice::<Value>(&text).ok();
    let instructions = counted.as_ref().and_then(|all| all["totals"]["instructions"].as_u64());
    match instructions {
        Some(instructions @ 1..) if run.is_success() => {
            findings.good("counting", format!("/bin/true executed {instructions} instructions"));
        }
        _ => findings.problem("counting", format!("/bin/true: {}", run.said()), REMEDY),
    }
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

fn file_system(path: &Path) -> Option<libc::statvfs> {
    let path = c_path(path)?;
    // SAFETY: zeros are a valid value of this plain structure.
    let mut status: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated, the structure is written to.
    let code = unsafe { libc::statvfs(path.as_ptr(), &mut status) };
    (code == 0).then_some(status)
}

fn is_mounted_noexec(path: &Path) -> bool {
    file_system(path).is_some_and(|status| status.f_flag & libc::ST_NOEXEC != 0)
}

fn free_bytes(path: &Path) -> Option<u64> {
    file_system(path).map(|status| status.f_bavail.saturating_mul(status.f_frsize))
}

fn is_writable(path: &Path) -> bool {
    let Some(path) = c_path(path) else { return false };
    // SAFETY: the path is NUL-terminated and only read.
    unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) == 0 }
}
