//! What the helper leaves to the process, and how it sees the process's end.
//!
//! # Design
//!
//! The kernel tells a child of its parent's end by a signal of the child's choice. It comes when the *thread* ends
//! that is the parent; while others go on one of them becomes it, so the signal comes again. When the last thread
//! has left, the parent is another process: then nobody executes in the shared memory any more.

use crate::{
    base::{
        file, ids, survivor,
        sys::{self, nr},
        text::Text,
    },
    files::log,
    record::helper_state::WAKE,
};
use core::{
    arch::naked_asm,
    sync::atomic::{AtomicBool, Ordering},
};

/// The signal that tells of the parent's end; handlers are not shared.
const SIGURG: u64 = 23;

/// How long the helper may outlive the process.
const LONGEST_S: u64 = 2;

/// The helper's end is set.
static TIMED: AtomicBool = AtomicBool::new(false);

/// The helper's first steps: it watches its parent, and leaves what the process shares to it.
pub fn leave_to_parent() {
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

/// Another helper is about to be made.
pub fn forget_last_helper() {
    TIMED.store(false, Ordering::Relaxed);
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
    if !survivor::is_orphan() || TIMED.swap(true, Ordering::Relaxed) {
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

/// Whether the process has another memory by now: a way to exec that nobody saw.
pub fn has_other_memory() -> bool {
    const KCMP_VM: u64 = 1;
    let process = survivor::process();
    let own = u64::from(ids::getpid());
    // SAFETY: compares only.
    let order =
        unsafe { engine::sys::optional(nr::KCMP, [u64::from(process), own, KCMP_VM, 0, 0, 0]) };
    order > 0 && !first_thread_has_ended(process)
}

/// Whether others may go on without the first thread, which has no memory any more (proc(5): the state stands behind
/// the name in parentheses).
fn first_thread_has_ended(process: u32) -> bool {
    let path = Text::<40>::new(format_args!("/proc/{process}/stat"));
    let Ok(text) = file::read_file(path.as_c_str(), 4096) else { return true };
    let after_name = text.iter().rposition(|&byte| byte == b')').map_or(0, |at| at + 2);
    !matches!(text.get(after_name), Some(b'R' | b'S' | b'D' | b'T' | b't' | b'I'))
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
            file::open(c"/", O_PATH, 0);
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
    let directory = file::open(c"/proc/self/fd", O_DIRECTORY, 0);
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
                file::close(fd);
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    file::close(directory as i32);
}
