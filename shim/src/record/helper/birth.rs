//! How the helper is made, what it leaves to the process, and how it sees the process's end.
//!
//! # Design
//!
//! The kernel tells a child of its parent's end by a signal of the child's choice. It comes when the *thread* ends
//! that is the parent; while others go on one of them becomes it, so the signal comes again. When the last thread
//! has left, the parent is another process: then nobody executes in the shared memory any more.
//!
//! The helper's process number is chosen from above where the kernel allows it (CAP_CHECKPOINT_RESTORE), because that
//! does not advance the number that the next child gets.

use super::{ALIVE, HELPER, POINTER, STOP, WAKE, lives};
use crate::{
    base::{
        clock, filtered,
        sys::{self, nr},
        tls,
    },
    entry::process,
    files::log,
};
use core::{
    arch::naked_asm,
    ffi::CStr,
    fmt::{self, Write},
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};

const STACK_BYTES: usize = 128 * 1024;
/// Room above the thread pointer for libc's view of a control block, of which only the canary is read.
const CONTROL_BYTES: usize = 4096;
const CLONE_VM: u64 = 0x100;
const CLONE_SETTLS: u64 = 0x80000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
/// A debugger of the program is not told.
const CLONE_UNTRACED: u64 = 0x80_0000;
/// The signal that tells of the parent's end; handlers are not shared.
const SIGURG: u64 = 23;
/// How long the helper may outlive the process.
const LONGEST_S: u64 = 2;
/// The wait status of children with any exit signal (wait(2)).
const WALL: u64 = 0x4000_0000;

/// The helper's stack and TLS area, kept for its successors.
static AREA: AtomicUsize = AtomicUsize::new(0);
/// Above all process numbers; 1 = numbers cannot be chosen, 0 = not looked at.
static NUMBERS_END: AtomicU32 = AtomicU32::new(0);
/// Children are born into other namespaces than the process's own.
static BORN_ELSEWHERE: AtomicBool = AtomicBool::new(false);
/// Children are born into the process's own namespaces, unless a call of its own has changed that.
static BORN_HERE: AtomicBool = AtomicBool::new(false);
/// The process that the helper belongs to.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// The helper's end is set.
static TIMED: AtomicBool = AtomicBool::new(false);

/// From now on children are born into other namespaces than the process's own, where the first one has duties.
pub fn children_go_elsewhere() {
    BORN_ELSEWHERE.store(true, Ordering::Relaxed);
}

/// Makes the helper.
pub fn give() -> Result<(), fmt::Arguments<'static>> {
    if ALIVE.load(Ordering::Acquire) != 0 {
        return Err(format_args!("the one before has not ended"));
    }
    if !filtered::may_be_counted() {
        return Err(format_args!("a filter of system calls"));
    }
    if BORN_ELSEWHERE.load(Ordering::Relaxed)
        || (!BORN_HERE.load(Ordering::Relaxed) && would_be_first())
    {
        return Err(format_args!("its children are born into another namespace"));
    }
    if sys::is_simulated() {
        return Err(format_args!("Valgrind runs it, which serves no process that shares memory"));
    }
    let tls_bytes = (-tls::offset()) as usize;
    let area_bytes = STACK_BYTES + (tls_bytes + CONTROL_BYTES).next_multiple_of(4096);
    let mut area = AREA.load(Ordering::Relaxed);
    if area == 0 {
        match sys::map_anonymous(area_bytes) {
            Some(start) => area = start as usize,
            None => return Err(format_args!("no memory for the helper")),
        }
        AREA.store(area, Ordering::Relaxed);
    }
    let thread_pointer = (area + area_bytes - CONTROL_BYTES) & !63;
    // SAFETY: inside the area, which nobody else uses: the last helper has ended.
    unsafe {
        (thread_pointer as *mut usize).write(thread_pointer);
        ((thread_pointer as isize + tls::offset()) as *mut [usize; 2]).write([0; 2]);
    }
    POINTER.store(thread_pointer, Ordering::Relaxed);
    PROCESS.store(process::identity().pid(), Ordering::Relaxed);
    TIMED.store(false, Ordering::Relaxed);
    STOP.store(false, Ordering::Relaxed);
    ALIVE.store(1, Ordering::SeqCst);
    // All of the helper's signals are blocked from its first instruction on.
    let _blocked = sys::SignalsBlocked::new();
    let result = make(area, thread_pointer);
    if sys::failed(result) {
        ALIVE.store(0, Ordering::SeqCst);
        log::line(log::Level::Warn, format_args!("clone: error {result}; no helper"));
        return Err(format_args!("the kernel refuses a process"));
    }
    HELPER.store(result as u32, Ordering::Relaxed);
    BORN_HERE.store(true, Ordering::Relaxed);
    Ok(())
}

/// `struct clone_args` of clone3(2).
#[repr(C)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

fn make(area: usize, thread_pointer: usize) -> i64 {
    const EEXIST: i64 = -17;
    const EAGAIN: i64 = -11;
    let flags = CLONE_VM | CLONE_UNTRACED | CLONE_SETTLS | CLONE_CHILD_CLEARTID;
    let clear = ALIVE.as_ptr() as u64;
    let mut tries = 0;
    while let Some(number) = number(tries) {
        let arguments = CloneArgs {
            flags,
            pidfd: 0,
            child_tid: clear,
            parent_tid: 0,
            exit_signal: 0,
            stack: area as u64,
            stack_size: STACK_BYTES as u64,
            tls: thread_pointer as u64,
            set_tid: &raw const number as u64,
            set_tid_size: 1,
            cgroup: 0,
        };
        let size = size_of::<CloneArgs>() as u64;
        // SAFETY: the stack and the TLS area are the new process's own.
        let result =
            unsafe { clone_helper(nr::CLONE3, &raw const arguments as u64, size, 0, 0, 0) };
        match result {
            EEXIST if tries < 4 => tries += 1,
            EAGAIN => return EAGAIN,
            made if !sys::failed(made) => return made,
            _ => {
                NUMBERS_END.store(1, Ordering::Relaxed);
                break;
            }
        }
    }
    let (stack, tls) = ((area + STACK_BYTES) as u64, thread_pointer as u64);
    // SAFETY: as above.
    unsafe { clone_helper(nr::CLONE, flags, stack, 0, clear, tls) }
}

/// A process number to ask for: high, where the kernel's own count comes last.
fn number(tries: u64) -> Option<u32> {
    let mut end = NUMBERS_END.load(Ordering::Relaxed);
    if end == 0 {
        end = if may_choose() { numbers_end().unwrap_or(1) } else { 1 };
        NUMBERS_END.store(end, Ordering::Relaxed);
    }
    if end == 1 || !engine::seccomp::allows(nr::CLONE3, &[0; 6]) {
        return None;
    }
    let seed = clock::monotonic_ns() ^ u64::from(process::identity().pid()) << 32 ^ tries << 56;
    let mixed = (seed ^ seed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    Some(end - 1 - ((mixed >> 32) as u32) % (end / 8))
}

/// Whether this thread has a right that choosing a process number needs.
fn may_choose() -> bool {
    const VERSION_3: u64 = 0x2008_0522;
    const SYS_ADMIN: u32 = 21;
    const CHECKPOINT_RESTORE: u32 = 40;
    let header = [VERSION_3, 0];
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: the kernel reads a header and writes two times three words (capget(2)).
    let result = unsafe { sys::call2(nr::CAPGET, &raw const header as u64, &raw mut sets as u64) };
    let effective = u64::from(sets[0][0]) | u64::from(sets[1][0]) << 32;
    !sys::failed(result) && effective & (1 << SYS_ADMIN | 1 << CHECKPOINT_RESTORE) != 0
}

fn numbers_end() -> Option<u32> {
    let text = sys::read_file(c"/proc/sys/kernel/pid_max", 64).ok()?;
    core::str::from_utf8(&text).ok()?.trim_ascii_end().parse().ok().filter(|&end| end >= 301)
}

/// Whether a child would be the first process of a PID namespace.
fn would_be_first() -> bool {
    let inode = |path: &CStr| sys::stat(path).map(|status| status.inode);
    let (own, of_children) =
        (inode(c"/proc/self/ns/pid"), inode(c"/proc/self/ns/pid_for_children"));
    own.is_some() && own != of_children
}

/// `clone` or `clone3` with a new stack, on which the child runs [`run`] and exits.
#[unsafe(naked)]
unsafe extern "C" fn clone_helper(number: u64, a: u64, b: u64, c: u64, d: u64, e: u64) -> i64 {
    naked_asm!(
        ".cfi_startproc",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "call {run}",
        "mov edi, eax",
        "mov eax, 231",
        "syscall",
        "ud2",
        ".cfi_endproc",
        run = sym run,
    )
}

unsafe extern "C" fn run() -> usize {
    // SAFETY: `lives` ignores its argument. A panic in it ends the helper; the process goes on.
    unsafe { crate::base::guarded::guarded(0, lives) }
}

/// The helper's first steps: it watches its parent, and leaves what the process shares to it.
pub fn settle() {
    watch_parent();
    // SAFETY: what these change is this process's own.
    unsafe {
        // Signals to the process's group are not for the helper. A session of its own would be scheduled as one.
        sys::call2(nr::SETPGID, 0, 0);
        const PR_SET_TSC: u64 = 26;
        sys::call2(nr::PRCTL, PR_SET_TSC, 1);
    }
    own_descriptors();
    sys::set_thread_name(c"sparkanalyzer");
}

/// `struct sigaction` of rt_sigaction(2).
#[repr(C)]
struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

fn watch_parent() {
    const SA_RESTORER: u64 = 0x0400_0000;
    const SA_RESTART: u64 = 0x1000_0000;
    let action = Action {
        handler: parent_ends as *const () as u64,
        flags: SA_RESTORER | SA_RESTART,
        restorer: restorer as *const () as u64,
        mask: u64::MAX,
    };
    let others = !(1u64 << (SIGURG - 1));
    const SIG_SETMASK: u64 = 2;
    // SAFETY: handlers and mask are this process's own; the structures live as long as the calls.
    unsafe {
        sys::call4(nr::RT_SIGACTION, SIGURG, &raw const action as u64, 0, 8);
        sys::call4(nr::RT_SIGPROCMASK, SIG_SETMASK, &raw const others as u64, 0, 8);
    }
    ask_for_signal();
    // It may have ended before.
    parent_ends(0);
}

/// Asks for the signal at the parent's end. Also after a change of credentials, where the kernel forgets it.
pub fn ask_for_signal() {
    const PR_SET_PDEATHSIG: u64 = 1;
    // SAFETY: changes only what this process is told.
    unsafe { engine::sys::optional(nr::PRCTL, [PR_SET_PDEATHSIG, SIGURG, 0, 0, 0, 0]) };
}

/// The handler: the helper looks around, and is killed if it is still there some time after the process's end,
/// whatever it waits for.
extern "C" fn parent_ends(_: i32) {
    WAKE.fetch_add(1, Ordering::Release);
    if !is_orphan() || TIMED.swap(true, Ordering::Relaxed) {
        return;
    }
    const CLOCK_MONOTONIC: u64 = 1;
    // `struct sigevent`: the value, then SIGKILL and SIGEV_SIGNAL.
    let event = [0u64, 9, 0, 0, 0, 0, 0, 0];
    let (mut timer, at) = (0u32, [0, 0, LONGEST_S, 0]);
    // SAFETY: the structures live as long as the calls.
    unsafe {
        sys::call3(
            nr::TIMER_CREATE,
            CLOCK_MONOTONIC,
            &raw const event as u64,
            &raw mut timer as u64,
        );
        sys::call4(nr::TIMER_SETTIME, u64::from(timer), 0, &raw const at as u64, 0);
    }
}

#[unsafe(naked)]
unsafe extern "C" fn restorer() {
    naked_asm!("mov eax, 15", "syscall", "ud2")
}

/// Whether the process that the helper belongs to has ended.
pub fn is_orphan() -> bool {
    // SAFETY: takes no argument and changes nothing. A filter under which the helper goes on allows it.
    let parent = unsafe { sys::call0(nr::GETPPID) };
    parent >= 0 && parent as u32 != PROCESS.load(Ordering::Relaxed)
}

/// Whether the process has another memory by now: a way to exec that nobody saw.
pub fn has_executed() -> bool {
    const KCMP_VM: u64 = 1;
    let process = PROCESS.load(Ordering::Relaxed);
    let own = u64::from(sys::getpid());
    // SAFETY: compares only.
    let order =
        unsafe { engine::sys::optional(nr::KCMP, [u64::from(process), own, KCMP_VM, 0, 0, 0]) };
    order > 0 && !first_thread_has_ended(process)
}

/// Whether others may go on without the first thread, which has no memory any more (proc(5): the state stands behind
/// the name in parentheses).
fn first_thread_has_ended(process: u32) -> bool {
    let mut path = Text { bytes: [0; 40], used: 0 };
    let _ = write!(path, "/proc/{process}/stat\0");
    let Ok(text) = sys::read_file(path.as_c_str(), 4096) else { return true };
    let after_name = text.iter().rposition(|&byte| byte == b')').map_or(0, |at| at + 2);
    !matches!(text.get(after_name), Some(b'R' | b'S' | b'D' | b'T' | b't' | b'I'))
}

/// A short path.
pub struct Text {
    bytes: [u8; 40],
    used: usize,
}

impl Text {
    /// `/proc/PID/ns/user` of the process.
    pub fn user_namespace() -> Text {
        let mut path = Text { bytes: [0; 40], used: 0 };
        let _ = write!(path, "/proc/{}/ns/user\0", PROCESS.load(Ordering::Relaxed));
        path
    }

    /// As C has it.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.used..self.used + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.used += text.len();
        Ok(())
    }
}

/// Takes the ended helper off the process's children.
pub fn reap() {
    let helper = u64::from(HELPER.swap(0, Ordering::Relaxed));
    if helper != 0 {
        // SAFETY: no status is asked for. It has left the memory, so it ends at once.
        unsafe { while sys::call4(nr::WAIT4, helper, 0, WALL, 0) == sys::EINTR {} }
    }
}

/// Ends a helper that does not answer.
pub fn kill() {
    let helper = u64::from(HELPER.load(Ordering::Relaxed));
    if helper != 0 {
        // SAFETY: a child of this process that was not waited for: the number is its own.
        unsafe { sys::call2(nr::KILL, helper, 9) };
    }
}

/// In a child of fork.
pub fn after_fork_in_child() {
    HELPER.store(0, Ordering::Relaxed);
    BORN_ELSEWHERE.store(false, Ordering::Relaxed);
    BORN_HERE.store(true, Ordering::Relaxed);
}

/// Leaves the application's descriptors to it: closes the helper's copies.
fn own_descriptors() {
    // SAFETY: the helper's table is its own copy, and so are its root, directory and umask.
    unsafe {
        const LAST: u64 = u32::MAX as u64;
        let first = if log::uses_standard_error() { 3 } else { 0 };
        if sys::failed(sys::call3(nr::CLOSE_RANGE, first, LAST, 0)) {
            // Before Linux 5.9: one by one.
            close_each(first);
        }
        // Numbers that others could take for the standard streams stay taken.
        const O_PATH: u64 = 0o10_000_000;
        for _ in first..3 {
            sys::open(c"/", O_PATH, 0);
        }
        sys::call1(nr::UMASK, 0);
        sys::call1(nr::CHDIR, c"/".as_ptr() as u64);
    }
}

/// # Safety
///
/// In the helper only.
unsafe fn close_each(first: u64) {
    const O_DIRECTORY: u64 = 0o200_000;
    let directory = sys::open(c"/proc/self/fd", O_DIRECTORY, 0);
    let mut buffer = [0u8; 4096];
    loop {
        // SAFETY: the kernel writes within the buffer only.
        let count = unsafe {
            sys::call3(
                nr::GETDENTS64,
                directory as u64,
                buffer.as_mut_ptr() as u64,
                buffer.len() as u64,
            )
        };
        if count <= 0 {
            break;
        }
        let mut rest = &buffer[..count as usize];
        while rest.len() > 19 {
            let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
            let digits = rest.get(19..length).unwrap_or_default();
            let digits = digits.split(|&byte| byte == 0).next().unwrap_or_default();
            if let Some(fd) = core::str::from_utf8(digits).ok().and_then(|text| text.parse().ok())
                && i64::from(fd) != directory
                && i64::from(fd) >= first as i64
            {
                sys::close(fd);
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    sys::close(directory as i32);
}
