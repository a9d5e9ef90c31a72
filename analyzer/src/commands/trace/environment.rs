//! The variables by which a traced program and its children find the shim, and the shim its orders.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, absolute};

use conf::Settings;
use records::MetricSet;

use crate::commands::tracer::{KILL_SWITCH, Tracer};
use crate::commands::{conf_file, metric_list};
use crate::console::exit::{Exit, Failure};

/// What the command line asks of the shim.
pub struct Wishes<'a> {
    /// The library, as an absolute path.
    pub shim: &'a Path,
    /// Where the record files go.
    pub records: &'a Path,
    /// What counts instructions.
    pub tracer: Tracer,
    /// What to count; `None` leaves it to the conf file.
    pub metrics: Option<MetricSet>,
    /// Time between snapshots; `None` leaves it to the conf file.
    pub snapshot_interval_ms: Option<u64>,
    /// A conf file instead of the usual one.
    pub conf: Option<&'a Path>,
}

/// Names and values.
pub type Variables = Vec<(&'static str, OsString)>;

/// The options of AddressSanitizer's run-time library, which refuses to run behind another library, ours, unless told.
const ASAN_OPTIONS: &str = "ASAN_OPTIONS";

/// The variable whose value is the identity of a run.
const TRACE: &str = "SPARKANALYZER_TRACE";

/// The variables to set, besides those that are inherited, for the run with this identity.
///
/// Also the settings that they amount to.
///
/// # Errors
/// When the conf file cannot be read, or has a mistake.
pub fn variables(wishes: &Wishes<'_>, trace_id: &str) -> Result<(Variables, Settings), Failure> {
    let mut variables = vec![
        ("LD_PRELOAD", preload(wishes.shim, std::env::var_os("LD_PRELOAD"))),
        (TRACE, trace_id.into()),
        (conf::REPORTER, "analyzer".into()),
        ("SPARKANALYZER_OUTPUT_DIR", wishes.records.into()),
        ("SPARKANALYZER_TRACER", wishes.tracer.name().into()),
    ];
    if let Some(metrics) = wishes.metrics {
        variables
            .push(("SPARKANALYZER_METRICS", metric_list::groups_for(metrics).join(",").into()));
        let classes = metric_list::classes_for(metrics);
        if !classes.is_empty() {
            variables.push(("SPARKANALYZER_SYSCALL_CLASSES", classes.join(",").into()));
        }
    }
    if let Some(interval) = wishes.snapshot_interval_ms {
        variables.push(("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", interval.to_string().into()));
    }
    if let Some(conf) = wishes.conf {
        let full = absolute(conf).unwrap_or_else(|_| conf.to_owned());
        variables.push(("SPARKANALYZER_CONF", full.into()));
    }
    variables.push((ASAN_OPTIONS, asan_options(std::env::var_os(ASAN_OPTIONS))));
    let settings = settings(&variables)?;
    Ok((variables, settings))
}

/// Reads the settings as the shim will: with a mistake in them it would do nothing.
fn settings(variables: &[(&'static str, OsString)]) -> Result<Settings, Failure> {
    if Path::new(KILL_SWITCH).exists() {
        let message = format!("{KILL_SWITCH} exists: counting is switched off on this machine");
        return Err(Failure::new(Exit::Environment, message));
    }
    let inherited = std::env::vars_os().filter(|(name, _)| variables.iter().all(|v| v.0 != name));
    let own = variables.iter().map(|(name, value)| (OsString::from(name), value.clone()));
    // What is no UTF-8 is no setting.
    let all: Vec<(String, String)> = inherited
        .chain(own)
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let said = all.iter().find(|(name, _)| name == "SPARKANALYZER_CONF");
    let path = said.map_or(conf::DEFAULT_PATH, |(_, path)| path);
    let text = match conf_file::read(Path::new(path)) {
        Ok(text) => Some(text),
        Err(error) if said.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::new(Exit::BadInput, format!("{path}: {error}"))),
    };
    let file = text.as_deref().map(|text| (path, text));
    conf::load(file, all.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .map_err(|error| Failure::new(Exit::BadInput, error))
}

/// The shim first, then what was preloaded anyway; other copies of the shim are dropped.
fn preload(shim: &Path, inherited: Option<OsString>) -> OsString {
    let mut value = shim.as_os_str().to_owned();
    let inherited = inherited.unwrap_or_default();
    let bytes = inherited.as_encoded_bytes();
    for element in bytes.split(|byte| b" :".contains(byte)).filter(|element| !element.is_empty()) {
        // Splitting at ASCII bytes keeps every element valid text wherever the whole was.
        let element = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(element);
        if Path::new(element).file_name() != shim.file_name() {
            value.push(":");
            value.push(element);
        }
    }
    value
}

/// The options that are there, and that the order of libraries is none of its business, unless they say so themselves.
fn asan_options(inherited: Option<OsString>) -> OsString {
    const NAME: &str = "verify_asan_link_order";
    let mut value = inherited.unwrap_or_default();
    if !value.as_encoded_bytes().windows(NAME.len()).any(|part| part == NAME.as_bytes()) {
        if !value.is_empty() {
            value.push(":");
        }
        value.push(NAME);
        value.push("=0");
    }
    value
}

/// What the variables of every process of a run have among them.
pub fn mark(trace_id: &str) -> Vec<u8> {
    format!("{TRACE}={trace_id}").into_bytes()
}

/// A random identity for a run, as 32 hexadecimal digits.
///
/// # Errors
/// When the system has no random numbers.
pub fn trace_id() -> Result<String, Failure> {
    let mut bytes = [0u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Failure::new(Exit::Environment, format!("/dev/urandom: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shim_comes_first_and_once() {
        let preloaded = |old: &str| preload(Path::new("/x/libshim.so"), Some(old.into()));
        assert_eq!(preloaded(""), "/x/libshim.so");
        assert_eq!(preloaded("/a.so b.so"), "/x/libshim.so:/a.so:b.so");
        assert_eq!(preloaded(":/old/libshim.so:/a.so"), "/x/libshim.so:/a.so");
        assert_eq!(preload(Path::new("/x/libshim.so"), None), "/x/libshim.so");
    }

    #[test]
    fn options_of_asan_are_added_to_unless_they_say_it() {
        let options = |old: &str| asan_options(Some(old.into()));
        assert_eq!(asan_options(None), "verify_asan_link_order=0");
        assert_eq!(options("abort_on_error=1"), "abort_on_error=1:verify_asan_link_order=0");
        assert_eq!(options("verify_asan_link_order=1:a=b"), "verify_asan_link_order=1:a=b");
    }

    #[test]
    fn identities_differ() {
        let (one, two) = (trace_id().expect("random"), trace_id().expect("random"));
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
