//! The application and executor that tasks of this process belong to.

use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicUsize, Ordering},
};

/// The id of the executor that runs tasks in the driver (`SparkContext.DRIVER_IDENTIFIER`).
const DRIVER: &[u8] = b"driver";

/// As much as a task's record holds of an application's id.
const LONGEST: usize = 64;

/// Stands in [`Answer::len`] for «is being written».
const WRITING: usize = usize::MAX;

/// What Spark has answered; 0 bytes until there is one.
struct Answer {
    len: AtomicUsize,
    bytes: UnsafeCell<[u8; LONGEST]>,
}

// SAFETY: the bytes are written once, by the thread that has put WRITING for 0 into `len`, and read by others only after
// it has put their number there.
unsafe impl Sync for Answer {}

static ANSWER: Answer = Answer { len: AtomicUsize::new(0), bytes: UnsafeCell::new([0; LONGEST]) };

/// The application's id and its executor's, if Spark was asked; else both are empty.
pub fn answered() -> (&'static [u8], &'static [u8]) {
    match ANSWER.len.load(Ordering::Acquire) {
        0 | WRITING => (&[], &[]),
        // SAFETY: as said at `Sync`: nobody writes any more.
        len => (unsafe { &(&*ANSWER.bytes.get())[..len] }, DRIVER),
    }
}

/// Keeps an application's id, as Spark says it.
pub fn keep(id: &[u8]) {
    // A part of an id would be another application's.
    if id.is_empty() || id.len() > LONGEST {
        return;
    }
    if ANSWER.len.compare_exchange(0, WRITING, Ordering::Acquire, Ordering::Relaxed).is_ok() {
        // SAFETY: as said at `Sync`: this thread alone writes.
        unsafe { (&mut *ANSWER.bytes.get())[..id.len()].copy_from_slice(id) };
        ANSWER.len.store(id.len(), Ordering::Release);
    }
}
