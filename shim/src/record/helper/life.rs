//! What the helper does.

use crate::{
    base::{clock, futex, guarded, survivor},
    process,
    record::{
        helper::{credentials, parent},
        helper_state::{ASKED, DONE, STOP, WAKE},
        queue, recorder,
        segment::Segments,
    },
};
use alloc::boxed::Box;
use core::{
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering},
};
use records::ProcessEndReason;

/// Between two looks at a queue in which there was something.
const LOOK_NS: u64 = 50_000_000;

/// What is kept of the files for the helper's successors; null = nothing, or somebody has it.
static SEGMENTS: AtomicPtr<Segments> = AtomicPtr::new(null_mut());

/// The writer's state: its only owner is who has taken it.
pub fn take_segments() -> Box<Segments> {
    let kept = SEGMENTS.swap(null_mut(), Ordering::AcqRel);
    if kept.is_null() {
        return Box::new(Segments::new(process::identity()));
    }
    // SAFETY: `keep_segments` has left it there, out of a box, and the swap gives it to one alone.
    unsafe { Box::from_raw(kept) }
}

/// Leaves it to who writes next.
pub fn keep_segments(segments: Box<Segments>) {
    SEGMENTS.store(Box::into_raw(segments), Ordering::Release);
}

/// In a child of fork: the parent's files are the parent's.
pub fn after_fork_in_child() {
    SEGMENTS.store(null_mut(), Ordering::Relaxed);
}

/// What the helper does. Returns its exit status.
pub unsafe extern "C" fn lives(_: usize) -> usize {
    parent::leave_to_parent();
    let identity = process::identity();
    let interval = identity.settings.snapshot_interval_ms.0 * 1_000_000;
    let mut segments = take_segments();
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
        if survivor::is_orphan() {
            last_words(&mut segments, tick + 1, now, ProcessEndReason::UNKNOWN);
            return 0;
        }
        credentials::serve();
        if now >= next {
            tick += 1;
            next = (next + interval).max(now + interval / 2);
            if parent::has_other_memory() {
                last_words(&mut segments, tick, now, ProcessEndReason::EXEC);
                return 0;
            }
            recorder::tick();
            if tick.is_multiple_of(16) {
                recorder::end_vanished();
            }
            write = true;
        }
        let waits = queue::has_waiting() && (tick > 0 || !identity.waits_for_bridge);
        pause = if waits { LOOK_NS } else { (pause * 2).min(interval) };
        if write || waits || stopping || asked != DONE.load(Ordering::Relaxed) {
            segments.write_queue(identity, tick, now);
            DONE.store(asked, Ordering::Release);
            futex::wake(&DONE, u32::MAX >> 1);
        }
        write = false;
        if stopping || guarded::switched_off() {
            segments.finish();
            break;
        }
        if WAKE.load(Ordering::Acquire) == wake {
            let until_next = next.saturating_sub(clock::monotonic_ns()).max(1);
            futex::wait(&WAKE, wake, until_next.min(pause));
        }
        // Who wakes it wants something written.
        write |= WAKE.load(Ordering::Acquire) != wake;
    }
    keep_segments(segments);
    0
}

/// Nobody executes in this memory any more: what was counted last is written.
fn last_words(segments: &mut Segments, tick: u64, now: u64, reason: ProcessEndReason) {
    recorder::put_process_end(reason, 0);
    segments.write_queue(process::identity(), tick, now);
    segments.finish();
}
