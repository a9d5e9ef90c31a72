//! Which processes are counted: by their role, the settings, and what lies in the way.

use crate::{
    base::{
        file, filtered, heap, link,
        startup::Startup,
        sys::{self, nr},
    },
    files::{
        log,
        output_folder::{self, OutputFolder},
        trusted,
    },
    process::{
        self,
        identity::Identity,
        settings::{self, Source, memory_shares},
    },
};
use alloc::{string::String, vec::Vec};
use conf::{
    Settings,
    settings::{Enabled, LogLevel, Role as ChosenRole},
};
use core::ffi::CStr;
use guest::role::{self, Role, SparkIds};

/// Its presence makes every process passive.
const KILL_SWITCH: &CStr = c"/etc/sparkanalyzer/disable";

/// `AT_SECURE`: set-uid programs and the like.
const AT_SECURE: u64 = 23;

/// `AT_EUID`: the effective user.
const AT_EUID: u64 = 12;

/// `AT_EGID`: the effective group.
const AT_EGID: u64 = 14;

/// `AT_EXECFN`: the path given to exec.
const AT_EXECFN: u64 = 31;

pub fn decide(startup: &Startup) -> Option<Identity> {
    // Where nobody can tell, nothing is counted.
    if startup.auxiliary(AT_SECURE) != Some(0) {
        return None;
    }
    let executed = match startup.auxiliary(AT_EXECFN) {
        // SAFETY: the kernel puts the path on the initial stack.
        Some(path) if path != 0 => unsafe { CStr::from_ptr(path as *const _) }.to_bytes(),
        _ => b"",
    };
    let arguments = || startup.arguments().map(CStr::to_bytes);
    if settings::variable(startup, filtered::VARIABLE).is_some() {
        return None;
    }
    let traced = settings::variable(startup, settings::TRACE).is_some_and(|id| !id.is_empty());
    let spark_role = role::of(executed, arguments(), false);
    let usual_role = match spark_role {
        Role::Jvm | Role::Other if link::is_rewritten() => role::of_rewritten(arguments()),
        role => role,
    };
    let has_none = matches!(usual_role, Role::Jvm | Role::Other);
    if (has_none && !traced) || file::exists(KILL_SWITCH) || link::is_replaced() {
        return None;
    }
    let id = |kind| startup.auxiliary(kind).unwrap_or_default() as u32;
    trusted::set_user(id(AT_EUID), id(AT_EGID));
    log::set_reporter(settings::variable(startup, conf::REPORTER).is_some());
    let source = Source::of(startup);
    let settings = match source.settings(startup) {
        Ok(settings) => settings,
        Err(error) => {
            log::always(format_args!("{error}; nothing is counted"));
            return None;
        }
    };
    log::set_level(match settings.log_level {
        LogLevel::Off => 0,
        LogLevel::Error => 1,
        LogLevel::Warn => 2,
        LogLevel::Info => 3,
        LogLevel::Debug => 4,
    });
    log::set_file(&settings.log_file);
    let asks_for_trace = traced;
    let (traced, pin) = match &source {
        Source::Environment => (traced, None),
        Source::Trace(orders) => (true, Some(orders.folder)),
        Source::Conf(_) => (false, None),
    };
    let role = if traced { Role::Program } else { usual_role };
    let is_chosen = chosen_role(role).is_some_and(|role| settings.roles.contains(&role));
    if let Source::Conf(doubt) = &source {
        let is_expected = is_chosen || (asks_for_trace && doubt.is_place);
        settings::tell(&doubt.why, is_expected && !log::has_reporter());
    }
    if matches!(role, Role::Jvm | Role::Other) {
        return None;
    }
    heap::set_limit(memory_shares(&settings).0);
    let environment = startup.environment().map(CStr::to_bytes);
    let mut spark = role::spark_ids(arguments(), environment);
    if spark_role == Role::PythonWorker
        && spark.hostname.is_empty()
        && let Some(above) = process::ids_of_executor_above()
    {
        spark = SparkIds {
            attempt: spark.attempt,
            container: spark.container,
            pod: spark.pod,
            ..above
        };
    }
    if !traced && !chosen(&settings, role, &spark) {
        return None;
    }
    let folder = match OutputFolder::new(settings.output_dir.as_bytes(), pin) {
        Ok(folder) => folder,
        Err(refusal) => {
            output_folder::tell(&settings.output_dir, &refusal);
            return None;
        }
    };
    if let Err(refusal) = folder.check() {
        output_folder::tell(&folder, &refusal);
        return None;
    }
    Some(Identity::gather(startup, settings, folder, traced, role, spark_role, spark))
}

/// Whether the settings choose a process of this role, user, application and executor.
fn chosen(settings: &Settings, role: Role, spark: &SparkIds) -> bool {
    let Some(role) = chosen_role(role) else { return false };
    settings.enabled == Enabled::All
        && settings.roles.contains(&role)
        && (settings.users.is_empty() || user_is_among(&settings.users))
        && (role == ChosenRole::Program || is_sampled(settings, spark))
}

/// The role as settings name it.
fn chosen_role(role: Role) -> Option<ChosenRole> {
    Some(match role {
        Role::Executor => ChosenRole::Executor,
        Role::Driver => ChosenRole::Driver,
        Role::PythonWorker => ChosenRole::Python,
        Role::Program => ChosenRole::Program,
        Role::Jvm | Role::Other => return None,
    })
}

/// Whether the settings choose this application and executor.
fn is_sampled(settings: &Settings, spark: &SparkIds) -> bool {
    sampled(settings.sample_one_in.0, spark)
        && (settings.applications.is_empty()
            || settings
                .applications
                .iter()
                .any(|prefix| spark.application.starts_with(prefix.as_bytes())))
}

/// One executor in so many, the same choice on every look.
fn sampled(one_in: u64, spark: &SparkIds) -> bool {
    // FNV-1a (draft-eastlake-fnv).
    let hash = spark
        .application
        .iter()
        .chain(&spark.executor)
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    (hash ^ hash >> 32).is_multiple_of(one_in)
}

/// Whether the user is named, by number or by its name in /etc/passwd.
fn user_is_among(users: &[String]) -> bool {
    // SAFETY: takes no argument and changes nothing.
    let number = alloc::format!("{}", unsafe { sys::call0(nr::GETUID) });
    let passwd = file::read_file(c"/etc/passwd", 16 << 20).unwrap_or_else(|error| {
        let why = file::error_text(error);
        let text = format_args!("/etc/passwd: {why}; users are known by their numbers alone");
        log::line(log::Level::Warn, text);
        Vec::new()
    });
    let name = passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next()?;
        (fields.nth(1)? == number.as_bytes()).then_some(name)
    });
    users.iter().any(|user| *user == number || Some(user.as_bytes()) == name)
}
