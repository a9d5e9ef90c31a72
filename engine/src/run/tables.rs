//! State under the engine's lock.

use crate::cache::block_map::BlockMap;
use crate::code::mappings::CodeMemory;
use crate::code::write_protect::Guarded;
use crate::contract::Notice;
use crate::os::reserved::Reserved;
use crate::translate::translator::Translator;

/// Why a branch target is not translated.
pub(crate) enum Away {
    /// It cannot be: the thread is released with this notice.
    Release(Notice, u64),
    /// Following ends here.
    Leave,
    /// A function of the host's own.
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
    /// Addresses of all threads' blocks; those whose thread has ended are used again.
    pub blocks: Reserved<usize>,
    /// Grows with each flush: fragments and exits of an older one are gone.
    pub generation: u32,
    /// Nobody may go into the cache: it is about to be flushed.
    pub closed: bool,
}

impl Tables {
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
        let ways_in = &mut translator.targets;
        map.retain(|pc, fragment| {
            let dead = fragments[fragment as usize].dead;
            if dead {
                ways_in.iter_mut().for_each(|targets| targets.remove(pc));
            }
            !dead
        });
    }
}
