//! The helper as others see it: whether it lives, and the words by which it is woken and asked.

use crate::base::futex;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How long the helper may take to end.
pub const END_NS: u64 = 2_000_000_000;

/// Whether there is a helper.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
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

pub static STATE: AtomicU32 = AtomicU32::new(State::Unborn as u32);

/// The helper's process number.
pub static HELPER: AtomicU32 = AtomicU32::new(0);

/// Not 0 while the helper shares the memory; cleared by the kernel.
pub static ALIVE: AtomicU32 = AtomicU32::new(0);

/// Changes whenever the helper has something to do.
pub static WAKE: AtomicU32 = AtomicU32::new(0);

/// Counts flushes that were asked for, and those that were done.
pub static ASKED: AtomicU32 = AtomicU32::new(0);

pub static DONE: AtomicU32 = AtomicU32::new(0);

pub static STOP: AtomicBool = AtomicBool::new(false);

pub fn state() -> State {
    match STATE.load(Ordering::Acquire) {
        0 => State::Unborn,
        1 => State::Runs,
        2 => State::Away,
        3 => State::Without,
        _ => State::Silent,
    }
}

pub fn change(from: State, to: State) -> bool {
    STATE.compare_exchange(from as u32, to as u32, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// The helper lives and can be asked.
pub fn is_there() -> bool {
    state() == State::Runs && ALIVE.load(Ordering::Acquire) != 0
}

/// Has the queue written soon.
pub fn wake() {
    WAKE.fetch_add(1, Ordering::Release);
    if is_there() {
        futex::wake(&WAKE, 1);
    }
}
