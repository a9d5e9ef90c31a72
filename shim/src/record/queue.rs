//! Encoded groups that wait for the helper.
//!
//! What does not fit is counted, and told in a notice. Bytes of whole groups are counted apart, so that whoever comes
//! after a thread that was killed in the middle of one finds the others.

use crate::{base::heap, record::counters::Values};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use guest::budget::Weight;
use records::{Event, Flags, MAX_GROUP_BYTES, Stamp, encode_group, notice};

/// Bytes that may wait for the helper before threads wait too. Where the helper has no processor they give up waiting, and
/// the queue grows on, to [`heap::queue_bytes`].
const QUEUE_BYTES: usize = 512 * 1024;
/// It grows by so much.
const STEP: usize = QUEUE_BYTES / 8;
/// From here on the helper is woken for anything.
const HIGH: usize = QUEUE_BYTES / 4;
/// From here on threads wait for the helper before what must not be lost.
const FILLING_FROM: usize = QUEUE_BYTES / 2;
/// From here on nothing of the kind is put into it.
const NEARLY_FULL: usize = QUEUE_BYTES - QUEUE_BYTES / 8;
/// One group in the queue: its weight and length before its bytes.
const ENTRY_HEADER: usize = 4;

/// The queue is filling up.
static FILLING: AtomicBool = AtomicBool::new(false);
/// Bytes of whole groups in the queue.
static WHOLE: AtomicUsize = AtomicUsize::new(0);
/// Somebody has waited in vain.
static STUCK: AtomicBool = AtomicBool::new(false);

/// What is put into the queue.
pub struct Group<'a> {
    /// What may be left out first.
    pub weight: Weight,
    /// The thread, or 0 for the process.
    pub tid: u32,
    /// How it is to be read.
    pub flags: Flags,
    /// What has happened.
    pub event: &'a Event<'a>,
    /// The counters at that moment.
    pub values: Option<&'a Values>,
    /// When it was.
    pub stamp: Stamp,
}

/// The queue.
pub struct Queue {
    bytes: Vec<u8>,
    /// Groups that did not fit.
    dropped: u64,
    sequence: u32,
}

impl Queue {
    /// Nothing waits.
    pub const fn new() -> Queue {
        Queue { bytes: Vec::new(), dropped: 0, sequence: 0 }
    }

    /// Encodes a group; whether the helper should be woken.
    pub fn put(&mut self, group: &Group<'_>) -> bool {
        let start = self.bytes.len();
        let needed = start + ENTRY_HEADER + MAX_GROUP_BYTES;
        let is_full = needed > heap::queue_bytes() && group.weight != Weight::Last;
        // Not doubled: the heap may be little larger.
        if is_full
            || (needed > self.bytes.capacity()
                && self.bytes.try_reserve_exact(STEP + needed - start).is_err())
        {
            self.dropped += 1;
            return true;
        }
        self.bytes.resize(needed, 0);
        let Group { weight, tid, flags, event, values, stamp } = *group;
        let bytes = &mut self.bytes[start + ENTRY_HEADER..];
        let Ok(length) = encode_group(bytes, self.sequence, stamp, tid, flags, event, values)
        else {
            self.bytes.truncate(start);
            self.dropped += 1;
            return true;
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes[start] = weight as u8;
        self.bytes[start + 2..start + 4].copy_from_slice(&(length as u16).to_le_bytes());
        self.bytes.truncate(start + ENTRY_HEADER + length);
        if self.bytes.len() > FILLING_FROM {
            FILLING.store(true, Ordering::Relaxed);
        }
        WHOLE.store(self.bytes.len(), Ordering::Release);
        self.is_high()
    }

    /// Whether the helper should be woken for anything.
    pub fn is_high(&self) -> bool {
        self.bytes.len() > HIGH
    }

    /// Whether nothing that may wait is to be put into it.
    pub fn is_nearly_full(&self) -> bool {
        self.bytes.len() > NEARLY_FULL
    }

    /// Takes room for what comes until the helper is woken.
    pub fn reserve(&mut self) {
        // Without it what does not fit is counted, and told.
        let _ = self.bytes.try_reserve_exact(HIGH);
    }

    /// Leaves out what a thread has left half done that was killed.
    pub fn repair(&mut self) {
        self.bytes.truncate(WHOLE.load(Ordering::Acquire));
    }

    /// Groups that did not fit since this was asked for.
    pub fn take_dropped(&mut self) -> u64 {
        core::mem::take(&mut self.dropped)
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Hands over what waits, for memory to go on with.
    pub fn swap(&mut self, other: &mut Vec<u8>) {
        core::mem::swap(&mut self.bytes, other);
        self.bytes.clear();
        reset_words();
    }

    /// In a child of fork: forgets what waited. The memory may have been half changed by a thread that does not exist here: it
    /// is left alone.
    pub fn abandon(&mut self) {
        core::mem::forget(core::mem::replace(self, Queue::new()));
        reset_words();
    }
}

fn reset_words() {
    WHOLE.store(0, Ordering::Release);
    FILLING.store(false, Ordering::Relaxed);
    STUCK.store(false, Ordering::Relaxed);
}

/// The notice of groups that did not fit.
pub fn dropped(count: u64) -> Event<'static> {
    Event::Notice { code: notice::TABLE_FULL, a: count, b: 0, text: b"queue of records" }
}

/// Whether groups wait in the queue.
pub fn has_waiting() -> bool {
    WHOLE.load(Ordering::Relaxed) > 0
}

/// Whether threads are to wait for the helper before what must not be lost.
pub fn is_filling() -> bool {
    FILLING.load(Ordering::Relaxed) && !is_stuck()
}

/// Whether somebody has waited for the helper in vain, since it came last.
pub fn is_stuck() -> bool {
    STUCK.load(Ordering::Relaxed)
}

/// Somebody has waited in vain: nobody else does until the helper has come.
pub fn set_stuck() {
    STUCK.store(true, Ordering::Relaxed);
}

/// The entries of a drained queue.
pub fn entries(mut queue: &[u8]) -> impl Iterator<Item = (Weight, &[u8])> {
    core::iter::from_fn(move || {
        let (header, rest) = queue.split_at_checked(ENTRY_HEADER)?;
        let length = usize::from(u16::from_le_bytes([header[2], header[3]]));
        let weight = match header[0] {
            0 => Weight::Periodic,
            1 => Weight::Minor,
            2 => Weight::Major,
            _ => Weight::Last,
        };
        let (group, rest) = rest.split_at_checked(length)?;
        queue = rest;
        Some((weight, group))
    })
}
