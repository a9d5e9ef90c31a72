//! Where the data of mapped files lie, as far as it is known without asking.
//!
//! The descriptors of restartable sequences lie there ([`super::restartable`]). Constants that only look like addresses are told
//! from them before anything is read: a fault of the engine's own is caught, but a debugger or a tracer would see it.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::isa::x86_64::app_memory::read_memory;

/// More ranges than most programs have, neighbours merged; past them any address may be one.
const MOST: usize = 1024;

static RANGES: [[AtomicU64; 2]; MOST] = [const { [const { AtomicU64::new(0) }; 2] }; MOST];
/// Ranges in use; more than [`MOST`] where there was no room for all.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn known() -> impl Iterator<Item = &'static [AtomicU64; 2]> {
    RANGES[..COUNT.load(Ordering::Acquire).min(MOST)].iter()
}

/// Forgets everything: the list is about to be read anew. Changes are made under an engine's lock.
pub fn forget() {
    COUNT.store(0, Ordering::Release);
}

/// Adds `[start, end)`, mapped from a file and readable.
pub fn add(start: u64, end: u64) {
    let count = COUNT.load(Ordering::Relaxed);
    if let Some([_, last]) = known().last()
        && last.load(Ordering::Relaxed) == start
    {
        last.store(end, Ordering::Release);
        return;
    }
    if let Some([from, to]) = RANGES.get(count) {
        to.store(end, Ordering::Relaxed);
        from.store(start, Ordering::Relaxed);
    }
    COUNT.store(count + 1, Ordering::Release);
}

/// `[start, end)` is something else now.
pub fn remove(start: u64, end: u64) {
    let mut behind = None;
    for [from, to] in known() {
        let (first, last) = (from.load(Ordering::Relaxed), to.load(Ordering::Relaxed));
        if first < end && start < last {
            if last > end {
                behind = Some((end, last));
            }
            to.store(start.max(first), Ordering::Release);
        }
    }
    if let Some((start, end)) = behind {
        add(start, end);
    }
}

/// Reads what may be a file's data; whether it could be read. The address is told from others without touching it.
pub fn read(at: u64, into: &mut [u8]) -> bool {
    let end = at.wrapping_add(into.len() as u64);
    match COUNT.load(Ordering::Acquire) {
        // Nobody keeps the list (the tracer is another one), or it is not whole.
        0 => return read_memory(at, into),
        count if count > MOST => return read_memory(at, into),
        _ => {}
    }
    let is_inside = known().any(|[from, to]| {
        from.load(Ordering::Relaxed) <= at && at < end && end <= to.load(Ordering::Relaxed)
    });
    if is_inside {
        for (offset, byte) in into.iter_mut().enumerate() {
            // SAFETY: mapped and readable: calls that take it away are seen, and are made under the same lock as this. A
            // file that was cut short meanwhile breaks the program natively too.
            *byte = unsafe { ((at as usize + offset) as *const u8).read_volatile() };
        }
    }
    is_inside
}
