//! The process: whether it is counted, who it is, fork, exec and end.

use crate::{
    base::{
        clock, filtered, heap, link,
        sys::{self, nr},
        tls,
    },
    bridge::python::{self, interpreter},
    client::tracer,
    count::{behind, descriptors, syscalls},
    entry::constructor::Startup,
    files::{
        log,
        output_folder::{self, OutputFolder},
        trusted,
    },
    hooks,
    process::{
        executor_above,
        identity::Identity,
        settings::{self, Source},
    },
    record::{directories, forks, helper, recorder, threads},
};
use alloc::{boxed::Box, string::String};
use conf::{
    Settings,
    settings::{Enabled, LogLevel, Role as ChosenRole},
};
use core::{
    ffi::{CStr, c_void},
    sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering},
};
use guest::role::{self, Role, SparkIds};
use records::{ProcessEndReason, TaskMethod, notice};

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

/// Null until the process is counted.
static IDENTITY: AtomicPtr<Identity> = AtomicPtr::new(core::ptr::null_mut());
/// A page that the kernel wipes in children of fork; its first word is 1 in the process that counts.
static FORK_MARK: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());
static TASK_METHOD: AtomicU8 = AtomicU8::new(0);

/// Whether this process is counted.
#[inline]
pub fn is_counted() -> bool {
    !IDENTITY.load(Ordering::Acquire).is_null()
}

/// The process's identity; only in counted processes.
pub fn identity() -> &'static Identity {
    // SAFETY: set once from a leaked box, replaced by another after fork, never freed.
    unsafe { IDENTITY.load(Ordering::Acquire).as_ref() }
        .expect("identity is asked for in counted processes")
}

/// Whether the JVM in this process is to get the agent: for its tasks, or to say which code holds still.
pub fn wants_agent() -> bool {
    runs_tasks() || (is_counted() && identity().is_java_launcher)
}

/// Whether Spark's tasks may run in this process.
pub fn runs_tasks() -> bool {
    is_counted() && identity().spark_role.runs_tasks()
}

/// How tasks are noticed, for the header; set before the first file is written.
pub fn set_task_method(method: TaskMethod) {
    let serves = runs_tasks() || identity().spark_role == Role::PythonWorker;
    let method = if serves { method } else { TaskMethod::UNKNOWN };
    TASK_METHOD.store(method.0, Ordering::Relaxed);
}

/// How tasks are noticed.
pub fn task_method() -> TaskMethod {
    TaskMethod(TASK_METHOD.load(Ordering::Relaxed))
}

/// Decides what this process is and begins to count if its role asks for it. Returns the engine's thread
/// if the engine is to follow from here.
///
/// The order is that of cost: a process with no role of ours is left after a look at its arguments.
pub fn begin(startup: &Startup) -> *mut tracer::Thread {
    match decide(startup) {
        Some(identity) => count(startup, identity),
        None => core::ptr::null_mut(),
    }
}

fn decide(startup: &Startup) -> Option<Identity> {
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
    if (has_none && !traced) || sys::exists(KILL_SWITCH) || link::is_replaced() {
        return None;
    }
    let id = |kind| startup.auxiliary(kind).unwrap_or_default() as u32;
    trusted::set_user(id(AT_EUID), id(AT_EGID));
    output_folder::set_reporter(settings::variable(startup, conf::REPORTER).is_some());
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
        settings::tell(&doubt.why, is_expected && !output_folder::has_reporter());
    }
    if matches!(role, Role::Jvm | Role::Other) {
        return None;
    }
    heap::set_limit(memory_shares(&settings).0);
    let environment = startup.environment().map(CStr::to_bytes);
    let mut spark = role::spark_ids(arguments(), environment);
    if spark_role == Role::PythonWorker
        && spark.hostname.is_empty()
        && let Some(above) = executor_above::ids()
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
    let folder = OutputFolder::new(settings.output_dir.as_bytes(), pin);
    if let Err(refusal) = folder.check() {
        output_folder::tell(&folder, &refusal);
        return None;
    }
    Some(Identity::gather(startup, settings, folder, traced, role, spark_role, spark))
}

/// How the configured memory is divided, in bytes: the shim's own heap, and the engine's translations.
pub fn memory_shares(settings: &Settings) -> (usize, usize) {
    /// The recorder's queue of half a MiB, written and being written, and some room.
    const LEAST_HEAP: usize = 2 << 20;
    let all = (settings.memory_limit_mib.0 as usize) << 20;
    let heap = (all / 8).max(LEAST_HEAP).min(all);
    (heap, all - heap)
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
    let passwd = sys::read_file(c"/etc/passwd", 16 << 20).unwrap_or_default();
    let name = passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next()?;
        (fields.nth(1)? == number.as_bytes()).then_some(name)
    });
    users.iter().any(|user| *user == number || Some(user.as_bytes()) == name)
}

fn count(startup: &Startup, identity: Identity) -> *mut tracer::Thread {
    clock::find_vdso(startup);
    tls::learn(startup);
    hooks::resolve_all();
    syscalls::configure(identity.metrics, identity.settings.per_directory);
    descriptors::begin();
    if !mark_for_fork() {
        return core::ptr::null_mut();
    }
    IDENTITY.store(Box::into_raw(Box::new(identity)), Ordering::Release);
    recorder::open();
    threads::watch_ends();
    watch_exit();
    tracer::prepare();
    if self::identity().role == Role::PythonWorker {
        interpreter::watch();
    }
    helper::start();
    let thread = tracer::start();
    hooks::count_from_now();
    log::line(
        log::Level::Info,
        format_args!("counting as {}", crate::entry::process::identity().role.name()),
    );
    thread
}

fn mark_for_fork() -> bool {
    const MADV_WIPEONFORK: u64 = 18;
    const PAGE: usize = 4096;
    let Some(page) = sys::map_anonymous(PAGE) else { return false };
    // SAFETY: our own new page, large enough for the word.
    unsafe {
        sys::call3(nr::MADVISE, page as u64, PAGE as u64, MADV_WIPEONFORK);
        (*page.cast::<AtomicU32>()).store(1, Ordering::Relaxed);
    }
    FORK_MARK.store(page.cast(), Ordering::Release);
    true
}

/// Notices that this is a child of fork, and makes it a process of its own.
#[inline]
pub fn check_fork() {
    // SAFETY: the page is never unmapped.
    if let Some(mark) = unsafe { FORK_MARK.load(Ordering::Relaxed).as_ref() }
        && mark.load(Ordering::Relaxed) == 0
    {
        become_child(mark);
    }
}

/// Whether this is a vfork-like child, however it was made: another process in the memory of the one that
/// counts.
pub fn is_borrowed() -> bool {
    let asked = || {
        // SAFETY: takes no argument and changes nothing. Where a filter may forbid it this is no such child: they run natively.
        unsafe { engine::sys::optional(nr::GETPID, [0; 6]) }
    };
    is_counted() && u32::try_from(asked()).is_ok_and(|pid| pid != identity().pid())
}

#[cold]
fn become_child(mark: &AtomicU32) {
    let _blocked = sys::SignalsBlocked::new();
    if mark.swap(1, Ordering::Relaxed) != 0 {
        return;
    }
    let number = forks::own_number();
    heap::after_fork_in_child();
    threads::after_fork_in_child();
    directories::after_fork_in_child();
    descriptors::after_fork_in_child();
    behind::after_fork_in_child();
    recorder::after_fork_in_child();
    let child = identity().of_child(number);
    IDENTITY.store(Box::into_raw(Box::new(child)), Ordering::Release);
    tracer::after_fork_in_child();
    python::tasks::after_fork_in_child();
    helper::after_fork_in_child();
}

/// Asks libc to tell the end of the process. Registered before anything else, so called last.
fn watch_exit() {
    if let Some(on_exit) = link::find(c"on_exit") {
        // SAFETY: glibc's on_exit (on_exit(3)).
        unsafe {
            let on_exit: unsafe extern "C" fn(
                unsafe extern "C" fn(i32, *mut c_void),
                *mut c_void,
            ) -> i32 = core::mem::transmute(on_exit);
            on_exit(exit_with_status, core::ptr::null_mut());
        }
    } else if let Some(at_exit) = link::find(c"__cxa_atexit") {
        // SAFETY: the function of the Itanium C++ ABI; no object to belong to.
        unsafe {
            let at_exit: unsafe extern "C" fn(
                unsafe extern "C" fn(*mut c_void),
                *mut c_void,
                *mut c_void,
            ) -> i32 = core::mem::transmute(at_exit);
            at_exit(exit_without_status, core::ptr::null_mut(), core::ptr::null_mut());
        }
    }
}

unsafe extern "C" fn exit_with_status(status: i32, _: *mut c_void) {
    // SAFETY: `exits` takes the status.
    unsafe { crate::base::guarded::guarded(status as u8 as usize, exits) };
}

unsafe extern "C" fn exit_without_status(_: *mut c_void) {
    // SAFETY: `exits` takes the status.
    unsafe { crate::base::guarded::guarded(0, exits) };
}

unsafe extern "C" fn exits(status: usize) -> usize {
    if !tracer::sees_exit() {
        end(ProcessEndReason::EXIT, status as i32);
    }
    0
}

/// The process is about to end: everything is written. The first call counts.
pub fn end(reason: ProcessEndReason, status: i32) {
    if !is_counted() {
        return;
    }
    check_fork();
    if !is_borrowed() {
        python::tasks::process_ends();
        behind::process_ends(threads::current().map(|thread| thread.shared));
        recorder::process_ends(reason, status);
        output_folder::tell_what_is_pending();
    }
}

/// The program is about to do what leaves no room for the library: what was counted is written, and then nothing more is done.
pub fn give_up(why: &str) {
    if is_counted() && !is_borrowed() {
        threads::notice(
            notice::PART_NOT_COUNTED,
            0,
            format_args!("the program goes on uncounted: {why}"),
        );
        recorder::give_up();
        crate::base::guarded::switch_off();
    }
}
