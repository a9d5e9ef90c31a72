//! How the helper is made, and what is left of it.
//!
//! # Design
//!
//! Its process number is chosen from above where the kernel allows it (CAP_CHECKPOINT_RESTORE), because that
//! does not advance the number that the next child gets.

use crate::{
    base::{
        clock, file, filtered, guarded, ids,
        signals::SignalsBlocked,
        survivor,
        sys::{self, nr},
        tls,
    },
    files::log,
    record::{
        helper::{life, parent},
        helper_state::{ALIVE, HELPER, STOP},
    },
};
use core::{
    arch::naked_asm,
    ffi::CStr,
    fmt,
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
    survivor::expect(ids::counted(), thread_pointer);
    parent::forget_last_helper();
    STOP.store(false, Ordering::Relaxed);
    ALIVE.store(1, Ordering::SeqCst);
    // All of the helper's signals are blocked from its first instruction on.
    let _blocked = SignalsBlocked::new();
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
    let seed = clock::monotonic_ns() ^ u64::from(ids::counted()) << 32 ^ tries << 56;
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
    let text = file::read_file(c"/proc/sys/kernel/pid_max", 64).ok()?;
    core::str::from_utf8(&text).ok()?.trim_ascii_end().parse().ok().filter(|&end| end >= 301)
}

/// Whether a child would be the first process of a PID namespace.
fn would_be_first() -> bool {
    let inode = |path: &CStr| file::stat(path).map(|status| status.inode);
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
    unsafe { guarded::guarded(0, life::lives) }
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
