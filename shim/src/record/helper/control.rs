//! The helper is started, asked to write, and ended.

use crate::{
    base::{clock, filtered, futex, lock::Lock, signals::SizeLimitSignal, survivor, tls},
    process,
    record::{
        helper::{birth, credentials, life},
        helper_state::{
            ALIVE, ASKED, DONE, END_NS, STATE, STOP, State, WAKE, change, is_there, state, wake,
        },
        recorder,
    },
};
use core::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};
use records::notice;

/// The thread that has the helper away because it executes another program: its thread pointer.
static EXECUTES: AtomicUsize = AtomicUsize::new(0);
/// For threads that write themselves.
static OWN_FILES: Lock<()> = Lock::new(());

/// Starts the helper. Where the kernel refuses, the process is counted without.
pub fn start() {
    if !change(State::Unborn, State::Runs) {
        return;
    }
    if let Err(why) = birth::give() {
        STATE.store(State::Without as u32, Ordering::Release);
        tell_without(why);
    }
}

/// The helper comes again after it was away.
pub(super) fn come_again() {
    EXECUTES.store(0, Ordering::Relaxed);
    if change(State::Away, State::Unborn) {
        start();
    }
}

fn tell_without(why: fmt::Arguments<'_>) {
    recorder::notice(
        0,
        notice::NO_SNAPSHOTS,
        0,
        0,
        format_args!("no snapshots while it runs, records at its end: {why}"),
    );
}

/// Has the queue written and waits for it, at most this long; whether it was.
pub fn flush(nanoseconds: u64) -> bool {
    if state() == State::Without || (state() == State::Runs && !is_there()) {
        return write_here();
    }
    if state() != State::Runs {
        return false;
    }
    let asked = ASKED.fetch_add(1, Ordering::AcqRel) + 1;
    wake();
    let until = clock::monotonic_ns() + nanoseconds;
    while ALIVE.load(Ordering::Acquire) != 0 {
        let done = DONE.load(Ordering::Acquire);
        if asked.wrapping_sub(done) as i32 <= 0 {
            return true;
        }
        let now = clock::monotonic_ns();
        if now >= until {
            return false;
        }
        // Short waits: the helper may vanish (a panic) without a word.
        futex::wait(&DONE, done, (until - now).min(50_000_000));
    }
    false
}

/// Writes the queue on the calling thread; the file is closed again.
fn write_here() -> bool {
    if !filtered::may_be_counted() {
        return false;
    }
    let written = OWN_FILES.with(|()| {
        let identity = process::identity();
        let mut segments = life::take_segments();
        let size_limit = SizeLimitSignal::look();
        segments.write_queue(identity, 0, clock::monotonic_ns());
        segments.finish();
        size_limit.take_ours();
        life::keep_segments(segments);
    });
    written.is_some()
}

/// The program image is about to be replaced: everything is written, and the helper ends. If the call fails, it comes
/// again ([`exec_failed`]).
pub fn before_exec() {
    EXECUTES.store(tls::thread_pointer(), Ordering::Relaxed);
    if !stop(State::Away) {
        flush(END_NS);
    }
}

/// To be called where a thread goes on that may have tried to execute another program.
#[inline]
pub fn exec_failed() {
    let executes = EXECUTES.load(Ordering::Relaxed);
    if executes != 0 && executes == tls::thread_pointer() {
        come_again();
    }
}

/// The process ends: everything is written, and the helper is gone.
pub fn finish() {
    if !stop(State::Silent) {
        flush(END_NS);
    }
}

/// Ends the helper when it has written everything, and takes it off the process's children; false if this call had
/// none to end.
pub(super) fn stop(then: State) -> bool {
    if !is_there() || !change(State::Runs, then) {
        return false;
    }
    STOP.store(true, Ordering::Release);
    WAKE.fetch_add(1, Ordering::Release);
    futex::wake(&WAKE, 1);
    let until = clock::monotonic_ns() + END_NS;
    while ALIVE.load(Ordering::Acquire) != 0 {
        let now = clock::monotonic_ns();
        if now >= until {
            // A disk that does not answer. Its memory is in use: there will be no other.
            STATE.store(State::Silent as u32, Ordering::Release);
            return true;
        }
        // The kernel wakes as if the word were shared between memories.
        futex::wait_shared(&ALIVE, 1, until - now);
    }
    birth::reap();
    true
}

/// The process goes on without a helper; what was counted until now is written.
pub(super) fn leave(then: State, why: fmt::Arguments<'_>) {
    tell_without(why);
    if !stop(then) {
        change(State::Away, then);
    }
}

/// In a child of fork, which has no helper: everything starts anew.
pub fn after_fork_in_child() {
    // The helper's area is a copy that nobody uses here.
    survivor::after_fork_in_child();
    life::after_fork_in_child();
    DONE.store(ASKED.load(Ordering::Relaxed), Ordering::Relaxed);
    EXECUTES.store(0, Ordering::Relaxed);
    ALIVE.store(0, Ordering::Relaxed);
    // SAFETY: the child has one thread, and it is not inside the lock.
    unsafe { OWN_FILES.reset() };
    credentials::after_fork_in_child();
    birth::after_fork_in_child();
    // A filter that forbids our calls is the child's too.
    if state() != State::Silent || !credentials::is_filtered() {
        STATE.store(State::Unborn as u32, Ordering::Relaxed);
        start();
    }
}
