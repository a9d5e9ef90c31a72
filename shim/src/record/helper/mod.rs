//! The ticker, the helper of a counted process: it takes snapshots and writes the record files.
//!
//! # Design
//!
//! The helper is a process of its own that shares the memory of the counted one, and nothing else of it: no thread
//! group, no handlers, no descriptors, no root, directory or umask ([`birth`]). So the counted process has the
//! threads that it made, its files have no numbers in it, and no signal that it sends to its group or to its
//! children meets the helper. It is a child without an exit signal, which only a wait with `__WALL` or `__WCLONE`
//! would see: there is no helper beside a process that waits so.
//!
//! Nobody is woken for a record: the helper looks at the queue while there is something in it, and sleeps
//! until its next snapshot otherwise. It is woken by a futex when the queue is filling up and for what must be
//! written before the process goes on; and by a signal, which the kernel sends it when the process ends. The memory
//! is still there then: whatever ended the process, the last counts are written, and the helper ends.
//!
//! It ends before exec, before the end of the process and before calls that want memory that nobody shares, and is
//! waited for: nobody finds a zombie. Where it is not to be had, the process is counted without: its own threads
//! write when they must.
//!
//! It never has a right that the process has given up ([`rights`]).
//!
//! # Limitations
//!
//! - Who looks at all processes sees one more, with the program's arguments and the name `sparkanalyzer`.
//! - Who kills both at once (the kernel when memory runs out, a signal to all processes) loses what was counted
//!   since the last snapshot. Before Linux 5.16 a signal that leaves a core file ends both.
//! - A change of root, of directory or of namespaces other than the user's is not the helper's.

mod birth;
mod rights;

pub use rights::{mirror, mirrored, mirrors};

use crate::{
    base::{clock, filtered, guarded, heap, lock::Lock, sys, tls},
    entry::process,
    record::{recorder, segment::Segments},
};
use alloc::boxed::Box;
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};
use records::{ProcessEndReason, notice};

/// Between two looks at a queue in which there was something.
const LOOK_NS: u64 = 50_000_000;
/// How long the helper may take to end.
const END_NS: u64 = 2_000_000_000;

/// Whether there is a helper.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum State {
    /// There was none yet.
    Unborn = 0,
    Runs = 1,
    /// It has ended for a call of the program, and comes again after it.
    Away = 2,
    /// There will be none: threads of the process write when they must.
    Without = 3,
    /// Nobody writes any more.
    Silent = 4,
}

static STATE: AtomicU32 = AtomicU32::new(State::Unborn as u32);
/// The helper's process number.
static HELPER: AtomicU32 = AtomicU32::new(0);
/// The helper's thread pointer.
static POINTER: AtomicUsize = AtomicUsize::new(0);
/// Not 0 while the helper shares the memory; cleared by the kernel.
static ALIVE: AtomicU32 = AtomicU32::new(0);
/// Changes whenever the helper has something to do.
static WAKE: AtomicU32 = AtomicU32::new(0);
/// Counts flushes that were asked for, and those that were done.
static ASKED: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
static STOP: AtomicBool = AtomicBool::new(false);
/// What is kept of the files for the helper's successors.
static SEGMENTS: AtomicUsize = AtomicUsize::new(0);
/// The thread that has the helper away because it executes another program: its thread pointer.
static EXECUTES: AtomicUsize = AtomicUsize::new(0);
/// For threads that write themselves.
static OWN_FILES: Lock<()> = Lock::new(());

fn state() -> State {
    match STATE.load(Ordering::Acquire) {
        0 => State::Unborn,
        1 => State::Runs,
        2 => State::Away,
        3 => State::Without,
        _ => State::Silent,
    }
}

fn change(from: State, to: State) -> bool {
    STATE.compare_exchange(from as u32, to as u32, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// The helper lives and can be asked.
fn is_there() -> bool {
    state() == State::Runs && ALIVE.load(Ordering::Acquire) != 0
}

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
fn come_again() {
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

/// What the helper does. Returns its exit status.
unsafe extern "C" fn lives(_: usize) -> usize {
    birth::settle();
    let identity = process::identity();
    let interval = identity.settings.snapshot_interval_ms.0 * 1_000_000;
    let mut segments = match SEGMENTS.swap(0, Ordering::AcqRel) {
        0 => Box::new(Segments::new(identity)),
        // SAFETY: left there by the last helper, which has ended.
        kept => unsafe { Box::from_raw(kept as *mut Segments) },
    };
    let mut tick = 0u64;
    let mut next = clock::monotonic_ns() + interval;
    // A JVM's header waits for the bridge, which knows only later how it notices tasks.
    let mut write = !identity.waits_for_bridge;
    let mut pause = if write { LOOK_NS } else { interval };
    loop {
        let wake = WAKE.load(Ordering::Acquire);
        let asked = ASKED.load(Ordering::Acquire);
        let stopping = STOP.load(Ordering::Acquire);
        let now = clock::monotonic_ns();
        if birth::is_orphan() {
            last_words(&mut segments, tick + 1, now, ProcessEndReason::UNKNOWN);
            return 0;
        }
        rights::serve();
        if now >= next {
            tick += 1;
            next = (next + interval).max(now + interval / 2);
            if birth::has_executed() {
                last_words(&mut segments, tick, now, ProcessEndReason::EXEC);
                return 0;
            }
            recorder::tick();
            if tick.is_multiple_of(16) {
                recorder::end_vanished();
            }
            write = true;
        }
        let waits = recorder::has_waiting() && (tick > 0 || !identity.waits_for_bridge);
        pause = if waits { LOOK_NS } else { (pause * 2).min(interval) };
        if write || waits || stopping || asked != DONE.load(Ordering::Relaxed) {
            segments.write_queue(identity, tick, now);
            DONE.store(asked, Ordering::Release);
            sys::futex_wake(&DONE, u32::MAX >> 1);
        }
        write = false;
        if stopping || guarded::switched_off() {
            segments.finish();
            break;
        }
        if WAKE.load(Ordering::Acquire) == wake {
            let until_next = next.saturating_sub(clock::monotonic_ns()).max(1);
            sys::futex_wait(&WAKE, wake, until_next.min(pause));
        }
        // Who wakes it wants something written.
        write |= WAKE.load(Ordering::Acquire) != wake;
    }
    SEGMENTS.store(Box::into_raw(segments) as usize, Ordering::Release);
    0
}

/// Nobody executes in this memory any more: what was counted last is written.
fn last_words(segments: &mut Segments, tick: u64, now: u64, reason: ProcessEndReason) {
    recorder::put_process_end(reason, 0);
    segments.write_queue(process::identity(), tick, now);
    segments.finish();
}

/// Whether this is the helper of a process that has ended: locks that are held now are held for ever.
pub fn is_survivor() -> bool {
    POINTER.load(Ordering::Relaxed) == tls::thread_pointer()
        && state() != State::Unborn
        && birth::is_orphan()
}

/// Has the queue written soon.
pub fn wake() {
    WAKE.fetch_add(1, Ordering::Release);
    if is_there() {
        sys::futex_wake(&WAKE, 1);
    }
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
        sys::futex_wait(&DONE, done, (until - now).min(50_000_000));
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
        let mut segments = match SEGMENTS.swap(0, Ordering::AcqRel) {
            0 => Box::new(Segments::new(identity)),
            // SAFETY: left there by the helper, which has ended, or by a thread that had the lock.
            kept => unsafe { Box::from_raw(kept as *mut Segments) },
        };
        let size_limit = sys::SizeLimitSignal::look();
        segments.write_queue(identity, 0, clock::monotonic_ns());
        segments.finish();
        size_limit.take_ours();
        SEGMENTS.store(Box::into_raw(segments) as usize, Ordering::Release);
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
fn stop(then: State) -> bool {
    if !is_there() || !change(State::Runs, then) {
        return false;
    }
    STOP.store(true, Ordering::Release);
    WAKE.fetch_add(1, Ordering::Release);
    sys::futex_wake(&WAKE, 1);
    let until = clock::monotonic_ns() + END_NS;
    while ALIVE.load(Ordering::Acquire) != 0 {
        let now = clock::monotonic_ns();
        if now >= until {
            // A disk that does not answer. Its memory is in use: there will be no other.
            STATE.store(State::Silent as u32, Ordering::Release);
            return true;
        }
        // The kernel wakes as if the word were shared between memories.
        sys::futex_wait_shared(&ALIVE, 1, until - now);
    }
    birth::reap();
    true
}

/// The process goes on without a helper; what was counted until now is written.
fn leave(then: State, why: fmt::Arguments<'_>) {
    tell_without(why);
    if !stop(then) {
        change(State::Away, then);
    }
}

/// In a child of fork, which has no helper: everything starts anew.
pub fn after_fork_in_child() {
    // The helper's area is a copy that nobody uses here; the parent's files are the parent's.
    SEGMENTS.store(0, Ordering::Relaxed);
    DONE.store(ASKED.load(Ordering::Relaxed), Ordering::Relaxed);
    EXECUTES.store(0, Ordering::Relaxed);
    ALIVE.store(0, Ordering::Relaxed);
    // SAFETY: the child has one thread, and it is not inside the lock.
    unsafe { OWN_FILES.reset() };
    rights::after_fork_in_child();
    birth::after_fork_in_child();
    // A filter that forbids our calls is the child's too.
    if state() != State::Silent || !rights::is_filtered() {
        STATE.store(State::Unborn as u32, Ordering::Relaxed);
        start();
    }
}

/// Makes the shim's heap usable for the survivor of its owner.
pub fn inherit_heap() {
    if is_survivor() {
        heap::after_fork_in_child();
    }
}
