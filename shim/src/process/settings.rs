//! Where a process's settings come from.
//!
//! # Design
//!
//! Usually the conf file and the environment. But a process with rights of its own (root, or
//! capabilities) may have got its environment from somebody with less: by `sudo -E`, or by anything
//! that passes variables on where the library is in /etc/ld.so.preload. Whoever could choose where
//! such a process writes, or which file it reads, could use its rights. So its environment is
//! followed only where nothing speaks against it:
//!
//! - no SUDO_UID, PKEXEC_UID or DOAS_USER of somebody else, and
//! - every folder on the way to what SPARKANALYZER_OUTPUT_DIR, _CONF and _LOG_FILE name belongs to
//!   root or to the process's user, and nobody else can write to it.
//!
//! Else its settings are those of root's conf file alone, it is no part of a trace, and a line in
//! the log says why. A trace that root runs by `sudo analyzer trace` leaves its settings in the
//! folder of its records, in a file that nobody but root could have made there: then they are taken
//! from that file.
//!
//! The login user (`/proc/self/loginuid`) is not asked: containers and services that root started
//! from a session of somebody's have that one's number.
//!
//! Set-user-id programs and such with file capabilities (`AT_SECURE`) are never counted.

use crate::{
    base::{
        file::{self, flag},
        startup::Startup,
        sys::{self, nr},
    },
    files::{
        log,
        trusted::{self, Refusal, absolute, c_path},
    },
};
use alloc::{borrow::Cow, format, string::String, vec::Vec};
use conf::{Settings, trust};
use core::{ffi::CStr, str};
use guest::{
    escape::Bytes,
    role::{said_once, split_variable},
};

/// The longest configuration file.
const MAX_CONF_BYTES: usize = 1 << 20;
/// What names a run of `analyzer trace`.
pub const TRACE: &str = "SPARKANALYZER_TRACE";

/// Whom the settings are taken from.
pub enum Source {
    /// The conf file and the environment.
    Environment,
    /// The settings that root's trace left in its folder.
    Trace(Orders),
    /// Root's conf file alone, and why.
    Conf(Doubt),
}

/// What speaks against the environment.
pub struct Doubt {
    /// In words.
    pub why: String,
    /// Whether it is a place that others can change, which may be a mistake, and no sign of another
    /// user.
    pub is_place: bool,
}

/// The settings of a trace that root runs.
pub struct Orders {
    text: String,
    /// Device and inode of the folder that they were found in.
    pub folder: (u64, u64),
}

/// A variable's value.
pub fn variable(startup: &Startup, name: impl AsRef<[u8]>) -> Option<&'static [u8]> {
    variables(startup).find(|(known, _)| *known == name.as_ref()).map(|(_, value)| value)
}

/// All variables; those of ours as they were meant.
fn variables(startup: &Startup) -> impl Iterator<Item = (&'static [u8], &'static [u8])> {
    startup.environment().filter_map(|one| split_variable(one.to_bytes())).map(|(name, value)| {
        let is_ours = name.starts_with(conf::ENVIRONMENT_PREFIX.as_bytes());
        (name, if is_ours { said_once(value) } else { value })
    })
}

impl Source {
    /// Whom to believe in this process.
    pub fn choose(startup: &Startup) -> Source {
        let variable = |name: &str| variable(startup, name).filter(|value| !value.is_empty());
        let is_ours = |one: &CStr| one.to_bytes().starts_with(conf::ENVIRONMENT_PREFIX.as_bytes());
        if !startup.environment().any(is_ours) {
            return Source::Environment;
        }
        if trusted::user() != 0 && !has_capabilities() {
            return Source::Environment;
        }
        let Some(doubt) = doubt(&variable) else { return Source::Environment };
        let trace = variable(TRACE).zip(variable("SPARKANALYZER_OUTPUT_DIR"));
        match trace.and_then(|(id, folder)| Orders::find(id, folder)) {
            Some(orders) => Source::Trace(orders),
            None => Source::Conf(doubt),
        }
    }

    /// Reads the settings. An error names the place.
    pub fn settings(&self, startup: &Startup) -> Result<Settings, String> {
        let (place, text) = match self {
            Source::Environment => {
                let named = variable(startup, "SPARKANALYZER_CONF").filter(|path| !path.is_empty());
                let path = named.unwrap_or(conf::DEFAULT_PATH.as_bytes());
                let text = read(path, |place, _| trust::regular(place));
                (Bytes(path), missing_is_none(path, text, named.is_none())?)
            }
            Source::Conf(_) => {
                let path = conf::DEFAULT_PATH.as_bytes();
                (Bytes(path), missing_is_none(path, read(path, trust::orders), true)?)
            }
            Source::Trace(orders) => (Bytes(b"the trace's settings"), Some((&*orders.text).into())),
        };
        let variables = || variables(startup);
        let unreadable =
            |(name, value): &(&[u8], &[u8])| str::from_utf8(value).is_err() && is_setting(name);
        if let (Source::Environment, Some((name, _))) = (self, variables().find(unreadable)) {
            return Err(format!("{}: not UTF-8 text", Bytes(name)));
        }
        let environment = variables().filter_map(|(name, value)| {
            Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?))
        });
        let place = format!("{place}");
        let file: Option<Cow<'_, str>> = text;
        let file = file.as_deref().map(|text| (&*place, text));
        let settings = match self {
            Source::Environment => conf::load(file, environment),
            _ => conf::load(file, core::iter::empty()),
        };
        settings.map_err(|error| format!("{error}"))
    }
}

/// Whether a variable of this name gives a setting.
fn is_setting(variable: &[u8]) -> bool {
    let key = variable.strip_prefix(conf::ENVIRONMENT_PREFIX.as_bytes());
    key.is_some_and(|key| {
        conf::SETTINGS.iter().any(|setting| {
            key.eq_ignore_ascii_case(setting.key.as_bytes())
                && !key.iter().any(u8::is_ascii_lowercase)
        })
    })
}

/// Says that the environment is not followed, and why: in the log; on standard error too where
/// somebody expects records that go elsewhere, or nowhere.
pub fn tell(why: &str, is_expected: bool) {
    let path = conf::DEFAULT_PATH;
    let text = format!("{why}: the environment is not followed, settings are those of {path}");
    if !is_expected || !log::uses_standard_error() {
        log::line(log::Level::Warn, format_args!("{text}"));
    }
    if is_expected {
        log::on_standard_error(&text);
    }
}

/// The file's text; `None` where it is missing and may be.
fn missing_is_none(
    path: &[u8],
    read: Result<Vec<u8>, Refusal>,
    may_be_missing: bool,
) -> Result<Option<Cow<'static, str>>, String> {
    let path = Bytes(path);
    match read {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(Cow::Owned(text))),
            Err(_) => Err(format!("{path}:1: not UTF-8 text")),
        },
        Err(Refusal::Error(sys::ENOENT)) if may_be_missing => Ok(None),
        Err(refusal) => Err(format!("{path}: cannot be read: {refusal}")),
    }
}

fn read(
    path: &[u8],
    rule: impl Fn(&trust::Place, &trust::Who) -> Result<(), trust::Flaw>,
) -> Result<Vec<u8>, Refusal> {
    let fd = trusted::open_file(&c_path(path.to_vec()), 0, rule)?;
    let text = file::read_to_end(fd, MAX_CONF_BYTES);
    file::close(fd);
    text.map_err(Refusal::Error)
}

/// What speaks against the environment, if anything does.
fn doubt<'v>(variable: &impl Fn(&str) -> Option<&'v [u8]>) -> Option<Doubt> {
    if let Some(name) = trust::other_user(variable) {
        let why = format!("{name} says that another user's environment came along");
        return Some(Doubt { why, is_place: false });
    }
    // A log file may be everybody's, so its folder is looked at; the file is when it is opened.
    let folder_of = |path: &[u8]| {
        let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        path[..end.max(1)].to_vec()
    };
    for (name, is_file) in [("OUTPUT_DIR", false), ("CONF", false), ("LOG_FILE", true)] {
        let name = format!("{}{name}", conf::ENVIRONMENT_PREFIX);
        let Some(value) = variable(&name) else { continue };
        let path = match absolute(value) {
            Ok(path) => path,
            Err(refusal) => {
                let why = format!("{name}: {}: {refusal}", Bytes(value));
                return Some(Doubt { why, is_place: true });
            }
        };
        let path = if is_file { folder_of(&path) } else { path };
        if let Err((place, flaw)) = trusted::check_way(&path) {
            let why = format!("{name}: {}: {flaw}", Bytes(&place));
            return Some(Doubt { why, is_place: true });
        }
    }
    None
}

/// Whether a process that is not root's has rights beyond its user's. Where that cannot be seen it
/// has none.
fn has_capabilities() -> bool {
    let status = file::read_file(c"/proc/self/status", 64 * 1024).unwrap_or_default();
    status
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"CapEff:").or(line.strip_prefix(b"CapPrm:")))
        .any(|digits| digits.iter().any(|digit| matches!(digit, b'1'..=b'9' | b'a'..=b'f')))
}

impl Orders {
    /// Finds what root's trace of this name left in the folder.
    fn find(id: &[u8], folder: &[u8]) -> Option<Orders> {
        let id = str::from_utf8(id).ok()?;
        let name = c_path(conf::trace_settings_file(id)?.into_bytes());
        let (folder, status) = trusted::open_folder(&c_path(absolute(folder).ok()?)).ok()?;
        let flags = flag::O_NOFOLLOW | flag::CAREFUL;
        // SAFETY: the name is NUL-terminated and only read.
        let fd = unsafe { sys::call4(nr::OPENAT, folder as u64, name.as_ptr() as u64, flags, 0) };
        file::close(folder);
        if sys::failed(fd) {
            return None;
        }
        let text = is_by_root(fd as u64).then(|| file::read_to_end(fd as i32, MAX_CONF_BYTES).ok());
        file::close(fd as i32);
        let text = String::from_utf8(text??).ok()?;
        Some(Orders { text, folder: (status.device, status.inode) })
    }
}

/// Whether nobody but root can have made this file, under this name.
fn is_by_root(fd: u64) -> bool {
    let status = file::fstat(fd).unwrap_or_default();
    let root = trust::Who { user: 0, is_in_namespace: false };
    trust::orders(&trusted::place(&status), &root).is_ok() && status.links == 1
}

/// How the configured memory is divided, in bytes: the shim's own heap, and the engine's
/// translations.
pub fn memory_shares(settings: &Settings) -> (usize, usize) {
    /// The recorder's queue of half a MiB, written and being written, and some room.
    const LEAST_HEAP: usize = 2 << 20;
    let all = (settings.memory_limit_mib.0 as usize) << 20;
    let heap = (all / 8).max(LEAST_HEAP).min(all);
    (heap, all - heap)
}
