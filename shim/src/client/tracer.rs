//! The tracer's place in the shim: the host that it asks, and the thread that it hands over.
//!
//! On a followed thread no hook runs: a branch to one is translated as a branch to the next definition, and
//! the engine reports the system call itself. Other functions of this library that libc calls back (at exit,
//! at a thread's end) run natively and are not counted.
//!
//! Whether a thread is to be followed is in its flags: FOLLOWED is set at the start of a task ([`begin_task`]), or of
//! everything, and cleared at the task's end. The JVM's calls into this library end following; on their way
//! out they go back into the engine if the flag is set ([`go_on`]). So nothing of ours, and nothing
//! that the JVM does for us, runs in the engine's hands, where a fault of its own could not be told.

use crate::{
    base::{clock, filtered, link, sys, tls},
    bridge::{
        jvm::{agent, tasks},
        python::tasks as python,
    },
    count::{behind, descriptors, syscalls},
    entry::process,
    hooks,
    record::{
        forks, helper, recorder,
        threads::{self, Shared, Values},
    },
};
use alloc::boxed::Box;
use conf::settings::{Scope, TaskThreads, Tracer};
use core::{
    arch::naked_asm,
    fmt,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};
use engine::{Call, CallToken, Host, Limits, Notice, Redirect, Thread as _, Tracer as _};
use guest::role::Role;
use records::{Flags, METRIC_COUNT, MetricSet, ProcessEndReason, TaskId, notice};

/// The tracer that this library is built with, and its name in the settings.
#[cfg(not(feature = "gum"))]
use engine::Engine as Chosen;
#[cfg(feature = "gum")]
use gum_tracer::Gum as Chosen;
const OWN: Tracer = if cfg!(feature = "gum") { Tracer::Gum } else { Tracer::Engine };

/// A thread of the tracer.
pub type Thread = <Chosen as engine::Tracer>::Thread;

/// The tracer of this process; null where nothing is followed.
static TRACER: AtomicPtr<Chosen> = AtomicPtr::new(core::ptr::null_mut());

/// Follows from the return address on the stack: `rdi` is the thread. The constructor's stub jumps here.
#[unsafe(naked)]
pub unsafe extern "C" fn enter_return(_thread: *mut Thread) {
    naked_asm!("jmp {enter}", enter = sym <Chosen as engine::Tracer>::enter)
}

/// A function that others call: hands its arguments on, and leaves for the engine if the answer is a thread.
macro_rules! entry {
    ($name:ident, $does:ident, ($( $type:ty ),*)) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name($( _: $type ),*) {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "sub rsp, 8",
                ".cfi_adjust_cfa_offset 8",
                "call {does}",
                "add rsp, 8",
                ".cfi_adjust_cfa_offset -8",
                "test rax, rax",
                "jnz 2f",
                "ret",
                "2:",
                "mov rdi, rax",
                "jmp {enter}",
                ".cfi_endproc",
                does = sym $does,
                enter = sym $crate::client::tracer::enter_return,
            )
        }
    };
}
pub(crate) use entry;

fn tracer() -> Option<&'static Chosen> {
    // SAFETY: null or a leaked box.
    unsafe { TRACER.load(Ordering::Acquire).as_ref() }
}

/// Some thread was followed: handlers and code are the engine's business from now on.
static SERVES: AtomicBool = AtomicBool::new(false);

/// What is followed of this process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Everything,
    Tasks,
}

fn extent() -> Extent {
    let identity = process::identity();
    match (identity.role, identity.settings.scope) {
        (Role::Executor, Scope::Task) | (Role::Driver, Scope::Task | Scope::Executor) => {
            Extent::Tasks
        }
        _ => Extent::Everything,
    }
}

/// Makes the engine where the settings ask for it. Before the first record file, whose header names the tracer.
pub fn prepare() {
    let identity = process::identity();
    if identity.settings.tracer == Tracer::None
        || identity.metrics.intersection(MetricSet::ENGINE).is_empty()
    {
        return;
    }
    if identity.settings.tracer != OWN {
        return unavailable("this library is built without that tracer");
    }
    #[cfg(feature = "gum")]
    if let Some(why) = crate::hooks::gum::refusal() {
        return unavailable(why);
    }
    if sys::is_simulated() {
        return unavailable("Valgrind runs the program");
    }
    #[cfg(feature = "faults")]
    arm_fault();
    let memory = process::memory_shares(&identity.settings).1;
    match Chosen::new(&SHIM, Limits { memory, from_start: extent() == Extent::Everything }) {
        Some(tracer) => TRACER.store(Box::into_raw(Box::new(tracer)), Ordering::Release),
        None => unavailable("the kernel refuses memory"),
    }
}

/// The fault that the environment asks for.
#[cfg(feature = "faults")]
fn arm_fault() {
    const LARGEST_ENVIRONMENT: usize = 1 << 20;
    let environment = sys::read_file(c"/proc/self/environ", LARGEST_ENVIRONMENT);
    let environment = environment.unwrap_or_default();
    let asked = environment
        .split(|&byte| byte == 0)
        .filter_map(|one| core::str::from_utf8(one).ok()?.strip_prefix("SPARKANALYZER_FAULT="))
        .find_map(|asked| asked.split_once(':'));
    if let Some((name, every)) = asked
        && !engine::faults::arm(name, every.parse().unwrap_or(1))
    {
        unavailable("SPARKANALYZER_FAULT names no fault");
    }
}

/// The calling thread, for the engine to follow; null = the process runs natively, as yet or altogether.
pub fn start() -> *mut Thread {
    if !is_running() || extent() == Extent::Tasks {
        return core::ptr::null_mut();
    }
    let thread = attach();
    // A JVM comes to its agent natively, and does things for it; the Stalker lets go of threads.
    if !thread.is_null() && !process::wants_agent() && !cfg!(feature = "gum") {
        descriptors::keep();
    }
    thread
}

fn attach() -> *mut Thread {
    let (Some(tracer), Some(thread)) = (tracer(), threads::current()) else {
        return core::ptr::null_mut();
    };
    let shared: &'static Shared = thread.shared;
    SERVES.store(true, Ordering::Release);
    // A signal handler of the application must not find the engine's lock taken.
    let _blocked = sys::SignalsBlocked::new();
    let Some(state) = tracer.attach() else {
        shared.flags.fetch_and(!u32::from(Flags::FOLLOWED.0), Ordering::Release);
        threads::notice(
            notice::THREAD_NOT_FOLLOWED,
            0,
            format_args!("no memory to follow this thread, or the engine is switched off"),
        );
        return core::ptr::null_mut();
    };
    // SAFETY: this thread's own block.
    let state = unsafe { &mut *state };
    *state.host_word() = tls::base();
    if let Some(task_id) = tasks::running(thread) {
        *state.inherited_word() = recorder::task_number(task_id);
    }
    adopt(shared, state);
    state
}

/// A task begins on this thread: it is to be followed from the JVM's next instruction on.
pub fn begin_task(thread: &Shared) {
    if is_running() && extent() == Extent::Tasks {
        thread.flags.fetch_or(u32::from(Flags::FOLLOWED.0), Ordering::Release);
    }
}

/// The task on this thread has ended, and its last counters are taken.
pub fn end_task(thread: &Shared) {
    if is_running() && extent() == Extent::Tasks {
        thread.flags.fetch_and(!u32::from(Flags::FOLLOWED.0), Ordering::Release);
    }
}

/// Whether the threads that a task starts count for it.
fn counts_task_threads() -> bool {
    is_running() && process::identity().settings.task_threads == TaskThreads::Followed
}

/// A task has begun on this thread; its record is written.
pub fn task_began(task: TaskId<'static>) {
    if task.task_id >= 0 && counts_task_threads() {
        recorder::task_opens(task);
    }
}

/// A task is about to end on this thread; its record is not written yet.
pub fn task_ends(task_id: i64) {
    if task_id >= 0 && counts_task_threads() {
        recorder::task_closes(task_id);
    }
}

/// The calling thread if it is to be followed when the library's function returns that the JVM has called; else null.
pub fn go_on() -> *mut Thread {
    let is_wanted = || {
        threads::known()
            .is_some_and(|t| !t.stays_native && t.shared.flags().contains(Flags::FOLLOWED))
    };
    if is_running() && is_wanted() && !follows_current() { attach() } else { core::ptr::null_mut() }
}

/// Does something on the calling thread, natively: what it calls of this library does not begin to follow.
pub fn natively(work: impl FnOnce()) {
    if let Some(thread) = threads::known() {
        thread.stays_native = true;
    }
    work();
    if let Some(thread) = threads::known() {
        thread.stays_native = false;
    }
}

/// The engine's part in what threads that are not followed do to the whole process, once somebody was followed.
fn serving() -> Option<&'static Chosen> {
    if SERVES.load(Ordering::Acquire) { tracer() } else { None }
}

/// Whether calls that change handlers or code must be told to the engine.
pub fn is_serving() -> bool {
    serving().is_some()
}

/// `rt_sigaction` on a thread that is not followed; the kernel's answer. Only where [`is_serving`].
pub fn set_action(signal: u64, new: u64, old: u64) -> i64 {
    const ENOSYS: i64 = 38;
    serving().map_or(-ENOSYS, |tracer| tracer.set_action(signal, new, old))
}

/// Memory was mapped, unmapped or protected on a thread that is not followed.
pub fn memory_changed(start: u64, len: u64) {
    if let Some(tracer) = serving() {
        tracer.memory_changed(start, len);
    }
}

/// The loader has unmapped libraries on a thread that is not followed.
pub fn libraries_unloaded() {
    if let Some(tracer) = serving() {
        tracer.libraries_unloaded();
    }
}

/// The JVM has generated code that it never changes: its blocks need not be compared.
pub fn settle(start: u64, len: u64) {
    if let Some(tracer) = tracer() {
        tracer.settle(start, len);
    }
}

/// The JVM's compiled code lies here.
pub fn guard(start: u64, len: u64) {
    if let Some(tracer) = tracer() {
        tracer.guard(start, len);
    }
}

/// The thread's last counters are taken, and it ends natively.
pub fn forget(thread: &Shared) {
    // SAFETY: 0 or a block that outlives its thread.
    let state = unsafe { (thread.engine.load(Ordering::Acquire) as *const Thread).as_ref() };
    if let (Some(tracer), Some(state)) = (tracer(), state) {
        tracer.forget(state);
    }
}

fn unavailable(why: &str) {
    threads::notice(notice::ENGINE_UNAVAILABLE, 0, format_args!("{why}"));
}

/// From now on the engine's counts of this thread are part of its values.
fn adopt(shared: &Shared, state: &mut Thread) {
    shared.engine.store((&raw mut *state) as usize, Ordering::Release);
    shared.flags.fetch_or(u32::from(Flags::FOLLOWED.0), Ordering::Release);
}

/// Whether the engine counts in this process.
pub fn is_running() -> bool {
    tracer().is_some()
}

/// Whether the engine will see the process's exit system call; else libc's exit handler is the end.
pub fn sees_exit() -> bool {
    follows_current()
}

/// The engine's counts of a thread so far, in their places in the metric table.
pub fn totals(thread: &Shared) -> Values {
    // SAFETY: 0 or a block that outlives its thread.
    let state = unsafe { (thread.engine.load(Ordering::Acquire) as *const Thread).as_ref() };
    state.map_or([0; METRIC_COUNT], values_of)
}

fn values_of(state: &Thread) -> Values {
    let mut values = [0; METRIC_COUNT];
    values[..engine::METRICS].copy_from_slice(&engine::Thread::totals(state));
    values
}

/// Whether the engine follows the calling thread, and so will see its exit system call.
pub fn follows_current() -> bool {
    is_running() && Chosen::current().is_some_and(engine::Thread::is_followed)
}

/// A thread was found to have ended without a word.
pub fn thread_vanished(thread: &'static Shared) {
    forget(thread);
}

/// The calling thread's id, for a followed one without asking the kernel.
pub fn own_tid() -> u32 {
    let known = if is_running() { Chosen::current().map_or(0, engine::Thread::tid) } else { 0 };
    if known == 0 { sys::gettid() } else { known }
}

/// This process is a child made by fork. The engine itself calls [`Host::fork_child`] for followed threads. In the
/// child of another one its tables may be half written: nobody is followed there. Handlers stay right without.
pub fn after_fork_in_child() {
    if is_running() && !follows_current() {
        TRACER.store(core::ptr::null_mut(), Ordering::Release);
        descriptors::give_up();
    }
}

/// The way out for a panic in the engine or below it: the thread goes on natively. Returns where the engine is
/// not concerned.
pub fn abandon() {
    if is_running() {
        Chosen::abandon();
    }
}

/// The host that the engine asks.
struct Shim;

static SHIM: Shim = Shim;

/// Is this address in the library's own code?
fn is_own(pc: u64) -> bool {
    let (start, end) = link::own_range();
    (start..end).contains(&(pc as usize))
}

/// The listed part of the thread whose words these are, if there is one yet.
fn listed_already() -> Option<&'static Shared> {
    threads::known().map(|thread| thread.shared)
}

/// The calling thread's listed part; `None` after its end.
fn listed() -> Option<&'static Shared> {
    threads::current().map(|thread| thread.shared)
}

impl Host<Thread> for Shim {
    fn redirect(&self, pc: u64) -> Redirect {
        match hooks::next_of_stub(pc as usize) {
            Some(_) if hooks::serves_bridge(pc as usize) && process::wants_agent() => {
                Redirect::Leave
            }
            Some(next) => Redirect::To(next as u64),
            None if agent::is_callback(pc as usize) => Redirect::Leave,
            None if is_own(pc) => Redirect::Native,
            None => Redirect::Follow,
        }
    }

    fn before_syscall(&self, thread: &mut Thread, call: &Call) -> CallToken {
        if python::is_watching() {
            on_own_tls(thread, |_| python::before_call(call.number, call.arguments[0]));
        }
        if behind::concerns(call.number) {
            on_own_tls(thread, |_| {
                if let Some(shared) = listed() {
                    behind::before(shared, call.number, &call.arguments);
                }
            });
        }
        let token = if syscalls::is_counted(call.number) {
            syscalls::before(call.number, &call.arguments)
        } else {
            clock::before_call(call.number, &call.arguments);
            if engine::seccomp::installation(call.number, &call.arguments).is_some() {
                on_own_tls(thread, |_| recorder::make_room_for_good());
            }
            if is_debugging(call) {
                on_own_tls(thread, |_| tell_of_debugger());
            }
            if engine::dispatches_to_user(call) {
                on_own_tls(thread, |_| process::give_up("system-call user dispatch"));
            }
            if helper::mirrors(call.number, &call.arguments) {
                on_own_tls(thread, |_| helper::mirror(call.number, &call.arguments));
            }
            let flags = forks::clone_flags(call.number, &call.arguments);
            if flags.is_some_and(|flags| flags & forks::CLONE_VFORK != 0) {
                on_own_tls(thread, |_| threads::enter_vfork());
            }
            match flags {
                Some(flags) if flags & forks::CLONE_VM == 0 => {
                    on_own_tls(thread, |_| listed().map(forks::about_to)).unwrap_or_default()
                }
                _ => CallToken::default(),
            }
        };
        // Behind the look at what is closed.
        descriptors::before(call.number, &call.arguments);
        token
    }

    fn after_syscall(&self, thread: &mut Thread, call: &Call, result: i64, before: CallToken) {
        descriptors::after(call.number, &call.arguments, result);
        if behind::concerns(call.number) {
            on_own_tls(thread, |_| {
                if let Some(shared) = listed() {
                    behind::after(shared, call.number, &call.arguments, result);
                }
            });
        }
        if syscalls::is_counted(call.number) {
            on_own_tls(thread, |_| {
                syscalls::observe(listed(), call.number, &call.arguments, before, result);
            });
        } else if helper::mirrors(call.number, &call.arguments) {
            on_own_tls(thread, |_| helper::mirrored(call.number, &call.arguments, result));
        } else if matches!(call.number, sys::nr::EXECVE | sys::nr::EXECVEAT) {
            on_own_tls(thread, |_| helper::exec_failed());
        } else if before != CallToken::default() && result != 0 {
            on_own_tls(thread, |_| {
                if let Some(shared) = listed() {
                    forks::made(shared, before, result);
                }
            });
        }
        if python::is_watching() {
            on_own_tls(thread, |_| python::after_call(call.number, call.arguments[0], result));
        }
    }

    fn before_exec(&self, thread: &mut Thread, call: &mut Call) {
        let mut path = [0u8; 224];
        let at = if call.number == engine::sys::nr::EXECVEAT { 1 } else { 0 };
        on_own_tls(thread, |_| {
            // First, as it has something to say that the records must have.
            if !filtered::may_be_counted() {
                filtered::keep_out(&mut call.arguments[at + 2]);
            }
            recorder::before_exec(sys::read_string(call.arguments[at], &mut path));
        });
    }

    fn thread_started(&self, thread: &mut Thread) -> bool {
        let task = match *thread.inherited_word() {
            0 => python::served(),
            task => task,
        };
        if extent() == Extent::Tasks && !recorder::is_task_open(task) {
            return false;
        }
        let present = tls::base();
        *thread.host_word() = if is_own_tls(present) {
            present
        } else {
            // Its creator's, or another runtime's.
            let Some(area) = tls::map_area() else { return true };
            area | OUR_AREA
        };
        on_own_tls(thread, |thread| {
            begin(thread);
            if let Some(shared) = listed().filter(|_| task != 0) {
                recorder::task_thread_starts(shared, task);
            }
        });
        true
    }

    fn fork_child(&self, thread: &mut Thread) {
        on_own_tls(thread, |thread| {
            process::check_fork();
            begin(thread);
        });
    }

    fn exiting(&self, thread: &mut Thread, process: bool, status: i32) {
        let end = |thread: &mut Thread| {
            if threads::is_unlisted() {
                threads::add_after_end(&values_of(thread));
            } else if !process {
                threads::end_current();
            }
        };
        if process {
            on_own_tls(thread, |thread| {
                end(thread);
                process::end(ProcessEndReason::EXIT, i32::from(status as u8));
            });
        } else if *thread.host_word() & OUR_AREA != 0 {
            on_own_tls(thread, end);
            // SAFETY: this thread's last use of it; the FS base is the application's again.
            unsafe { tls::unmap_area(*thread.host_word() & !OUR_AREA) };
            *thread.host_word() = 0;
        } else if tls::is_libcs(*thread.host_word()) {
            // Else libc has given the thread's memory back already, as musl does: the ticker will miss the thread.
            on_own_tls(thread, end);
        }
    }

    fn notice(&self, thread: &mut Thread, notice: Notice, at: u64, detail: u64) {
        on_own_tls(thread, |thread| write_notice(thread, notice, at, detail));
    }
}

/// In a thread's word, which is the FS base for the host's code: it is an area of [`tls::map_area`].
const OUR_AREA: u64 = 1;

/// Runs the host's part of something with the thread-local words of this thread.
#[inline]
fn on_own_tls<R>(thread: &mut Thread, work: impl FnOnce(&mut Thread) -> R) -> R {
    match *thread.host_word() {
        0 => work(thread),
        own => tls::with_base(own & !OUR_AREA, || work(thread)),
    }
}

/// Whether the words behind this FS base are this thread's to use: libc's, and not those of a living other thread.
fn is_own_tls(base: u64) -> bool {
    tls::is_libcs(base) && {
        let tid = sys::gettid();
        listed_already().is_none_or(|shared| shared.tid == tid)
    }
}

/// A followed thread is there.
fn begin(thread: &mut Thread) {
    if let Some(shared) = listed() {
        adopt(shared, thread);
    }
}

fn write_notice(thread: &mut Thread, notice: Notice, at: u64, detail: u64) {
    if !thread.is_followed() || notice == Notice::ThreadNotFollowed {
        descriptors::give_up();
    }
    let shared = listed();
    if let Some(shared) = shared
        && !thread.is_followed()
    {
        shared.flags.fetch_and(!u32::from(Flags::FOLLOWED.0), Ordering::Relaxed);
        shared.flags.fetch_or(u32::from(Flags::WAS_RELEASED.0), Ordering::Release);
        if let Some(thread) = threads::known() {
            threads::watch_end(thread);
        }
    }
    let tid = shared.map_or(0, |shared| shared.tid);
    let tell = |code, a, text: fmt::Arguments<'_>| recorder::notice(tid, code, a, detail, text);
    match notice {
        Notice::Untranslatable => {
            let why = match detail {
                1 => "not known to the decoder",
                2 => "uses GS, which the engine needs",
                4 => "enters a restartable sequence (rseq), which only runs natively",
                _ => "of a kind that is not translated",
            };
            tell(notice::THREAD_RELEASED, at, format_args!("instruction {why}"));
        }
        Notice::NotExecutable => {
            tell(
                notice::THREAD_RELEASED,
                at,
                format_args!("branch to memory that is not executable"),
            );
        }
        Notice::MemoryLimit => {
            tell(notice::MEMORY_LIMIT, detail, format_args!("the engine's memory is used up"));
        }
        Notice::MemoryRefused => {
            let why = match detail {
                1 | 13 => {
                    "code may not be made here (PR_SET_MDWE, MemoryDenyWriteExecute or a security module)"
                }
                12 => "the address space (ulimit -v, RLIMIT_AS) or the system's memory is used up",
                _ => "the kernel refuses",
            };
            tell(
                notice::THREAD_RELEASED,
                at,
                format_args!("no memory for translations: {why} (errno {detail})"),
            );
        }
        Notice::ThreadNotFollowed if detail != 0 => tell(
            notice::PART_NOT_COUNTED,
            at,
            format_args!("a thread or process was made in a way that cannot be followed: {detail}"),
        ),
        Notice::ThreadNotFollowed => {
            tell(notice::THREAD_NOT_FOLLOWED, at, format_args!("no memory to follow a new thread"));
        }
        Notice::VforkChild => spawned(detail as u32, tell),
        Notice::SignalHandler => tell(
            notice::PART_NOT_COUNTED,
            at,
            format_args!("the handler of signal {detail}, and it sees addresses of the tracer"),
        ),
        Notice::ChangedCode => {
            tell(notice::THREAD_RELEASED, at, format_args!("code changed that was translated"));
        }
    }
}

/// Whether a call makes one of the traced programs another's debugger.
fn is_debugging(call: &Call) -> bool {
    const PTRACE: u64 = 101;
    const TRACEME: u64 = 0;
    const ATTACH: u64 = 16;
    const SEIZE: u64 = 0x4206;
    call.number == PTRACE && [TRACEME, ATTACH, SEIZE].contains(&call.arguments[0])
}

/// A debugger stops a thread wherever it is, not where the engine could show the application's state.
fn tell_of_debugger() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        let text =
            format_args!("a debugger among the programs sees registers and code of the tracer");
        threads::notice(notice::PART_NOT_COUNTED, 0, text);
    }
}

/// A vfork-like child has executed another program (or ended): the parent runs again.
fn spawned(pid: u32, tell: impl Fn(u16, u64, fmt::Arguments<'_>)) {
    let mut link = [0u8; 32];
    let mut path = [0u8; 224];
    let mut text = Path { bytes: &mut link, used: 0 };
    let _ = fmt::Write::write_fmt(&mut text, format_args!("/proc/{pid}/exe\0"));
    let link = core::ffi::CStr::from_bytes_until_nul(&link).unwrap_or_default();
    tell(notice::VFORK_CHILD, u64::from(pid), format_args!("ran natively until it executed"));
    recorder::spawned(pid, sys::read_link(link, &mut path).unwrap_or_default());
}

struct Path<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl fmt::Write for Path<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.used..self.used + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.used += text.len();
        Ok(())
    }
}
