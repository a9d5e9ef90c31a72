//! State under the engine's lock.

use core::sync::atomic::Ordering;

use crate::cache::block_map::BlockMap;
use crate::code::mappings::CodeMemory;
use crate::code::write_protect::Guarded;
use crate::contract::Notice;
use crate::isa::x86_64::context::ThreadContext;
use crate::os::reserved::Reserved;
use crate::translate::translator::Translator;

/// Why a branch target is not translated.
pub(crate) enum NotTranslated {
    /// It cannot be: the thread is released with this notice.
    Release(Notice, u64),
    /// Following ends here.
    Leave,
    /// A function of the client's own.
    Native,
    /// The cache must be flushed first.
    Full,
}

/// An exit to be linked, unless its fragment was flushed meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub exit: u32,
    pub generation: u32,
}

/// State under the engine's lock.
pub(crate) struct Tables {
    pub translator: Translator,
    pub code: CodeMemory,
    pub guarded: Guarded,
    pub map: BlockMap,
    /// Addresses of all threads' contexts; those whose thread has ended are used again.
    pub contexts: Reserved<usize>,
    /// Grows with each flush: fragments and exits of an older one are gone.
    pub generation: u32,
    /// Nobody may go into the cache: it is about to be flushed.
    pub closed: bool,
}

impl Tables {
    /// The contexts of all threads, whether these have ended or not.
    pub fn contexts(&self) -> impl Iterator<Item = &'static ThreadContext> + use<'_> {
        references(&self.contexts)
    }

    /// Moves what was counted to the threads' sums, before all slots are given away. No thread is
    /// inside the cache.
    pub fn fold_counts(&mut self) {
        let Tables { translator, contexts, .. } = self;
        let slots = translator.slots.len();
        translator.slots.fold(|weights| {
            for thread in references(contexts) {
                let counted = weights.weigh(thread.counters());
                for (adjust, counted) in thread.adjust.iter().zip(counted) {
                    adjust.fetch_add(counted, Ordering::Relaxed);
                }
                // SAFETY: its owner is outside the cache, and nobody else writes counters.
                unsafe { thread.clear_counters(slots) };
            }
        });
    }

    /// Nothing leads to a fragment any more: its source has changed.
    pub fn drop_fragment(&mut self, index: u32) {
        let pc = self.translator.fragments.as_slice()[index as usize].pc;
        self.translator.kill_one(index);
        self.map.remove(pc);
        self.translator.targets.iter_mut().for_each(|targets| targets.remove(pc));
    }

    /// Code in a range may be other code now: nothing translated from there is found any more.
    pub fn forget_code(&mut self, start: u64, len: u64) {
        if !self.code.changed(start, len) || !self.translator.kill(start, start.saturating_add(len))
        {
            return;
        }
        let Tables { translator, map, .. } = self;
        let fragments = translator.fragments.as_slice();
        let ibl_table = &mut translator.targets;
        map.retain(|pc, fragment| {
            let dead = fragments[fragment as usize].dead;
            if dead {
                ibl_table.iter_mut().for_each(|targets| targets.remove(pc));
            }
            !dead
        });
    }
}

/// The contexts at these addresses, by reference.
fn references(
    contexts: &Reserved<usize>,
) -> impl Iterator<Item = &'static ThreadContext> + use<'_> {
    // SAFETY: made by `ThreadContext::new`, which gave a shared reference to each; contexts that
    // are listed are never unmapped.
    contexts.as_slice().iter().map(|&at| unsafe { &*(at as *const ThreadContext) })
}
