//! What stands in front of a block's translation: pads, and looks at source that may change.

use crate::cache::arena::WORDS_BYTES;
use crate::cache::fragment::{Exit, ExitKind};
use crate::cache::ibl_table::Targets;
use crate::isa::x86_64::decode::block::Block;
use crate::isa::x86_64::emit::buffer::Code;
use crate::isa::x86_64::exits::Way;
use crate::translate::translator::{Failure, Translator};

/// Where a pad's code lies, and where its word is written.
pub(crate) struct PadCode {
    pub entry: u64,
    pub link: u64,
}

/// Most bytes of a pad, with its jump.
const PAD_BYTES: usize = 64;
/// Bytes of the stub behind a comparison that failed: [`Code::after_compare`] and [`Code::exit`].
const CHANGED_BYTES: usize = 21 + 17;

impl Translator {
    /// At the entry of a block whose source may change: a look at it. Returns how far its copy lies from it.
    pub(crate) fn emit_compare(
        &mut self,
        code: &mut Code,
        arena: u8,
        block: &Block,
    ) -> Result<i64, Failure> {
        let index = self.unlinked_exit(arena, block.pc, ExitKind::Changed)?;
        let arena = self.cache.arena(arena);
        let far = !arena.reaches(block.pc);
        let copy = arena.put_cold(block.source(), 8);
        let mut stub: Code<CHANGED_BYTES> = Code::at(arena.cold_address(CHANGED_BYTES));
        stub.after_compare();
        stub.exit(index, arena.to_dispatcher);
        let changed = arena.put_cold(stub.bytes(), 1);
        debug_assert_eq!((stub.len(), stub.address), (CHANGED_BYTES, changed));
        #[cfg(feature = "sabotage")]
        let far = far && !crate::mutants::is("far_source_taken_for_near");
        code.compare_source(block.pc, copy, block.source().len(), changed, far);
        Ok(copy.wrapping_sub(block.pc) as i64)
    }

    /// Whether who enters the fragment of a guarded block goes to the dispatcher first.
    pub fn set_watched(&mut self, index: u32, watched: bool) {
        let Some(exit) = self.fragments.as_slice()[index as usize].watch.checked_sub(1) else {
            return;
        };
        let Exit { site, stub, arena, .. } = self.exits.as_slice()[exit as usize];
        let arena = self.cache.arena(arena);
        let behind = arena.base + u64::from(site) + 4;
        arena.patch(site, if watched { arena.base + u64::from(stub) } else { behind });
    }

    /// At the entry of a block whose memory is guarded: the way to the dispatcher, for as long as it is open. Returns the
    /// exit, plus one, and how far the copy of the source lies from it.
    pub(crate) fn emit_watch(
        &mut self,
        code: &mut Code,
        arena: u8,
        block: &Block,
    ) -> Result<(u32, i64), Failure> {
        self.emit_exit_jump(code, arena, block.pc)?;
        let exit = self.exits.len() as u32;
        self.exits.as_mut_slice()[exit as usize - 1].kind = ExitKind::Changed;
        let copy = self.cache.arena(arena).put_cold(block.source(), 8);
        Ok((exit, copy.wrapping_sub(block.pc) as i64))
    }

    /// A way in for indirect branches to `pc`: to the fragment, else to what comes behind the pad.
    pub(crate) fn emit_pad(
        &mut self,
        way: Way,
        arena: u8,
        pc: u64,
        fragment: Option<u64>,
    ) -> PadCode {
        let comparison = self.lookups.comparison;
        let arena = self.cache.arena(arena);
        let link = arena.put_word(0);
        let mut code: Code<PAD_BYTES> = Code::at(arena.hot_address());
        let entry = code.pad(way, pc, link, comparison);
        if let Some(host) = fragment {
            code.jump(host);
        }
        #[cfg(feature = "sabotage")]
        crate::mutants::break_code(code.bytes_mut(), crate::isa::x86_64::context::disp::spill);
        arena.put(code.bytes());
        PadCode { entry: code.address + entry as u64, link: arena.writable(link) }
    }

    /// The targets that are come to this way.
    pub(crate) fn ways_in(&mut self, way: Way) -> &mut Targets {
        &mut self.targets[way as usize]
    }

    /// No indirect branch finds a fragment any more.
    pub fn forget_targets(&mut self) {
        self.targets.iter_mut().for_each(Targets::clear);
    }

    /// From now on indirect branches to `pc` find the fragment without the dispatcher.
    pub fn make_target(&mut self, way: Way, pc: u64, fragment: u32) -> Result<(), Failure> {
        if self.ways_in(way).knows(pc) {
            return Ok(());
        }
        let host = self.fragments.as_slice()[fragment as usize].host;
        let arena = self.cache.number_of(host).ok_or(Failure::Full)?;
        if self.cache.arena(arena).free() < 2 * PAD_BYTES + WORDS_BYTES {
            return Err(Failure::Full);
        }
        let pad = self.emit_pad(way, arena, pc, Some(host));
        self.ways_in(way).add(pc, pad.entry, pad.link).ok_or(Failure::Full)
    }
}
