//! The weights of all counter slots, which others read without a lock.
//!
//! # Design
//! Who weighs a thread's counters walks all slots, some hundred thousand in a large program, for
//! each thread and snapshot: the translator must not wait for that. So the table never moves: it
//! grows by pieces, each twice as long as the one before. Words are atomics, and whoever reads
//! looks at the number of folds before and after it: a fold moves counts to a thread's sums and
//! gives their slots away, so what was read meanwhile is read again.
//!
//! # Limitations
//! Its memory is never unmapped: readers may be anywhere in it. It is given back to the kernel, its
//! addresses are not.

use core::sync::atomic::{
    AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

use crate::metric::{METRICS, Totals, Weights};
use crate::os::memory;

type Slot = [AtomicU16; METRICS];

/// Slots of the first piece.
const FIRST: usize = 1 << 11;
/// Pieces for a million slots.
const PIECES: usize = 10;

/// What readers and the translator share. All zero at first.
struct Shared {
    pieces: [AtomicPtr<Slot>; PIECES],
    len: AtomicUsize,
    /// Twice the number of folds; one more during a fold.
    folds: AtomicU32,
}

impl Shared {
    /// The first `len` slots of a piece, as far as there are so many.
    fn piece(&self, number: usize, len: usize) -> &[Slot] {
        let begin = self.pieces[number].load(Ordering::Acquire);
        if begin.is_null() {
            return &[];
        }
        // SAFETY: mapped for good with `FIRST << number` slots, zeroed; atomics all of them.
        unsafe { core::slice::from_raw_parts(begin, len.min(FIRST << number)) }
    }

    /// The piece of a slot and its place there.
    fn place(slot: usize) -> (usize, usize) {
        let number = (slot / FIRST + 1).ilog2() as usize;
        (number, slot - FIRST * ((1 << number) - 1))
    }
}

/// The table; the translator's, under the engine's lock.
pub struct WeightTable {
    shared: &'static Shared,
    most: usize,
}

/// Reads the table without a lock.
#[derive(Clone, Copy)]
pub struct WeightReader(&'static Shared);

impl WeightTable {
    /// An empty table of at most so many slots; `None` when the kernel refuses memory.
    pub fn new(most: usize) -> Option<WeightTable> {
        let protection = memory::PROT_READ | memory::PROT_WRITE;
        let at = memory::map_anonymous(0, size_of::<Shared>(), protection)?;
        // SAFETY: mapped for good, zeroed and aligned to a page; zeros are a value, and all of it
        // is atomics.
        let shared = unsafe { &*(at as *const Shared) };
        Some(WeightTable { shared, most: most.min(FIRST * ((1 << PIECES) - 1)) })
    }

    /// For whoever weighs without the lock.
    pub fn reader(&self) -> WeightReader {
        WeightReader(self.shared)
    }

    /// Number of slots in use.
    pub fn len(&self) -> usize {
        self.shared.len.load(Ordering::Relaxed)
    }

    /// The weights of a slot.
    pub fn get(&self, slot: u32) -> Weights {
        let (number, at) = Shared::place(slot as usize);
        Weights(self.shared.piece(number, at + 1)[at].each_ref().map(|w| w.load(Ordering::Relaxed)))
    }

    /// Adds a slot and returns its number; `None` when there are as many as there may be, or the
    /// kernel refuses memory.
    pub fn push(&mut self, weights: Weights) -> Option<u32> {
        let slot = self.len();
        if slot >= self.most {
            return None;
        }
        let (number, at) = Shared::place(slot);
        if self.shared.pieces[number].load(Ordering::Relaxed).is_null() {
            let protection = memory::PROT_READ | memory::PROT_WRITE;
            let bytes = size_of::<Slot>() * (FIRST << number);
            let piece = memory::map_anonymous(0, bytes, protection)? as *mut Slot;
            self.shared.pieces[number].store(piece, Ordering::Release);
        }
        for (word, weight) in self.shared.piece(number, at + 1)[at].iter().zip(weights.0) {
            word.store(weight, Ordering::Relaxed);
        }
        self.shared.len.store(slot + 1, Ordering::Release);
        Some(slot as u32)
    }

    /// Moves counts out of the slots, by `fold`, and forgets all slots.
    pub fn fold(&mut self, fold: impl FnOnce(WeightReader)) {
        self.shared.folds.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        fold(self.reader());
        self.shared.len.store(0, Ordering::Release);
        self.shared.folds.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets all slots, whose counts nobody needs.
    pub fn clear(&mut self) {
        self.fold(|_| ());
    }

    /// Gives memory back that it did not have at first; no slot is in use.
    pub fn shrink(&mut self) {
        for number in 1..PIECES {
            let piece = self.shared.pieces[number].load(Ordering::Acquire);
            if !piece.is_null() {
                // SAFETY: our own private mapping, whose contents nobody needs: readers see zeros.
                unsafe { memory::discard(piece as usize, size_of::<Slot>() * (FIRST << number)) };
            }
        }
    }

    /// Bytes of memory in use.
    pub fn bytes(&self) -> usize {
        self.len() * size_of::<Slot>()
    }
}

impl WeightReader {
    /// What counters are worth: the sum of counts times weights.
    pub fn weigh(self, counters: &[AtomicU64]) -> Totals {
        let mut totals = [0u64; METRICS];
        let (mut rest, mut counters) = (self.0.len.load(Ordering::Acquire), counters);
        for number in 0..PIECES {
            let piece = self.0.piece(number, rest);
            for (weights, counter) in piece.iter().zip(counters) {
                let count = counter.load(Ordering::Relaxed);
                if count != 0 {
                    for (sum, weight) in totals.iter_mut().zip(weights) {
                        let weight = u64::from(weight.load(Ordering::Relaxed));
                        *sum = sum.wrapping_add(count.wrapping_mul(weight));
                    }
                }
            }
            rest -= piece.len();
            counters = counters.get(piece.len()..).unwrap_or_default();
            if rest == 0 {
                break;
            }
        }
        totals
    }

    /// What `read` says, if no counts were folded meanwhile.
    pub fn between_folds<R>(self, read: impl FnOnce(WeightReader) -> R) -> Option<R> {
        let before = self.0.folds.load(Ordering::Acquire);
        if !before.is_multiple_of(2) {
            return None;
        }
        let result = read(self);
        fence(Ordering::SeqCst);
        (self.0.folds.load(Ordering::Relaxed) == before).then_some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(of: usize) -> Weights {
        Weights([of as u16; METRICS])
    }

    #[test]
    fn slots_are_found_across_pieces() {
        let mut table = WeightTable::new(5 * FIRST).unwrap();
        for slot in 0..5 * FIRST {
            assert_eq!(table.push(weights(slot)), Some(slot as u32));
        }
        assert_eq!((table.push(weights(0)), table.len()), (None, 5 * FIRST));
        let same = |slot: &usize| table.get(*slot as u32) == weights(*slot);
        assert!((0..5 * FIRST).all(|slot| same(&slot)));
        let counters: std::vec::Vec<_> = (0..6 * FIRST).map(|_| AtomicU64::new(2)).collect();
        let sum: u64 = (0..5 * FIRST as u64).map(|slot| 2 * slot).sum();
        assert_eq!(table.reader().weigh(&counters), [sum; METRICS]);
        assert_eq!(table.reader().weigh(&counters[..2]), [2; METRICS]);
    }

    #[test]
    fn what_is_read_during_a_fold_does_not_count() {
        let mut table = WeightTable::new(10).unwrap();
        table.push(weights(3)).unwrap();
        let reader = table.reader();
        assert_eq!(reader.between_folds(|_| 1), Some(1));
        assert_eq!(
            reader.between_folds(|_| table.fold(|inside| {
                assert_eq!(inside.between_folds(|_| ()), None);
            })),
            None
        );
        assert_eq!((table.len(), reader.between_folds(|_| 2)), (0, Some(2)));
        table.shrink();
        assert_eq!(table.push(weights(4)), Some(0));
    }

    /// Counts move from slots to sums and back again, while others add both up.
    #[test]
    fn readers_never_see_a_fold_half_done() {
        let mut table = WeightTable::new(10).unwrap();
        let (counter, folded, ends) = (AtomicU64::new(0), AtomicU64::new(0), AtomicUsize::new(0));
        let reader = table.reader();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let slot = table.push(weights(1)).unwrap();
                    assert_eq!(slot, 0);
                    counter.store(7, Ordering::Relaxed);
                    table.fold(|inside| {
                        let sum = inside.weigh(core::slice::from_ref(&counter))[0];
                        folded.fetch_add(sum, Ordering::Relaxed);
                        counter.store(0, Ordering::Relaxed);
                    });
                }
                ends.store(1, Ordering::Release);
            });
            let mut last = 0;
            while ends.load(Ordering::Acquire) == 0 {
                let seen = reader.between_folds(|inside| {
                    let sum = inside.weigh(core::slice::from_ref(&counter))[0];
                    sum + folded.load(Ordering::Relaxed)
                });
                if let Some(seen) = seen {
                    assert!(seen >= last, "{seen} after {last}");
                    last = seen;
                }
            }
        });
        assert_eq!(folded.into_inner(), 140_000);
    }
}
