//! From a basic block to host code.
//!
//! Most instructions are copied byte for byte. What depends on its own address is re-encoded: RIP-relative
//! operands, branches, calls. Every fragment keeps a map from host offsets to instructions, so that the
//! application's state can be told wherever a signal or fault interrupts.

use core::sync::atomic::AtomicU64;

use ::weights::x86 as weights;
use ::weights::x86::Repeats;
use iced_x86::{Decoder, DecoderOptions, Encoder, Instruction, InstructionInfoFactory};

use crate::cache::address_space::AddressSpace;
use crate::cache::arenas::Cache;
use crate::cache::fragment::{Exit, Fragment, Place};
use crate::cache::ibl_table::Targets;
use crate::isa::x86_64::count::weigh::{sum_weights, weigh};
use crate::isa::x86_64::decode::block::{Block, Refusal};
use crate::isa::x86_64::emit::buffer::{Code, FAR_PADDING};
use crate::isa::x86_64::emit::encode::encode;
use crate::isa::x86_64::emit::ibl::Lookups;
use crate::isa::x86_64::exits::Way;
use crate::metric::{Totals, Weights};
use crate::os::reserved::Reserved;

/// What may happen to the memory that a block is translated from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its bytes hold still.
    Stable,
    /// Stores may change it at any time, the block's own included.
    Changing,
    /// Stores of code that lies elsewhere may change it, and the engine may watch them.
    Guarded,
}

/// Why a block was not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its first instruction cannot be.
    Refused(Refusal),
    /// There is no room: the configured memory is used up, or the kernel refuses more.
    Full,
}

/// The translator's tables and scratch space.
pub struct Translator {
    /// Where translations go.
    pub cache: Cache,
    /// All fragments; per arena their host addresses ascend.
    pub fragments: Reserved<Fragment>,
    /// Their maps.
    pub places: Reserved<Place>,
    /// All exits.
    pub exits: Reserved<Exit>,
    /// Weights of all counter slots.
    pub slots: Reserved<Weights>,
    /// Ways in for indirect branches.
    pub targets: [Targets; 2],
    pub(crate) lookups: Lookups,
    pub(crate) factory: InstructionInfoFactory,
    pub(super) encoder: Encoder,
    pub(super) block: Block,
    pub(super) to_engine: u64,
}

/// Direct branches of one block at most (conditional: two).
const EXITS_PER_SLOT: usize = 2;
/// Of large programs blocks have six instructions on average.
const PLACES_PER_SLOT: usize = 16;

impl Translator {
    /// Fresh tables. `to_engine` is the address that stubs jump to, `miss` says where a lookup without success leads.
    pub fn new(
        to_engine: u64,
        miss: fn(Way) -> u64,
        lookups: Lookups,
        space: AddressSpace,
    ) -> Option<Translator> {
        let table = |way| Targets::new(miss(way), lookups.shift);
        Some(Translator {
            cache: Cache::new(space),
            fragments: Reserved::new(space.slots)?,
            places: Reserved::new(space.slots * PLACES_PER_SLOT)?,
            exits: Reserved::new(space.slots * EXITS_PER_SLOT)?,
            slots: Reserved::new(space.slots)?,
            targets: [table(Way::Jump)?, table(Way::Return)?],
            lookups,
            factory: InstructionInfoFactory::new(),
            encoder: Encoder::new(64),
            block: Block::empty(),
            to_engine,
        })
    }

    /// Makes the decoder and encoder build their tables now: they ask the host's allocator for them, and later
    /// the application may hold locks.
    pub fn warm_up(&mut self) {
        let mut bytes = [0u8; 16];
        let code = [0x48u8, 0x8b, 0x05, 0, 0, 0, 0, 0xf3, 0xa4];
        let mut decoder = Decoder::with_ip(64, &code, 0, DecoderOptions::NONE);
        for instruction in &mut decoder {
            let _ = self.factory.info(&instruction);
            self.encode(&instruction, 0, &mut bytes);
        }
    }

    /// Bytes of memory in use, code and tables.
    pub fn memory(&self) -> usize {
        self.cache.used()
            + self.fragments.bytes()
            + self.places.bytes()
            + self.exits.bytes()
            + self.slots.bytes()
            + self.targets.iter().map(Targets::memory).sum::<usize>()
    }

    /// The arena for `pc`, its routines in place.
    pub(super) fn arena_near(&mut self, pc: u64) -> Option<u8> {
        let (index, fresh) = self.cache.near(pc)?;
        if fresh {
            self.equip(index);
        }
        Some(index)
    }

    /// Puts the routines that all fragments of an arena share at its beginning.
    fn equip(&mut self, arena: u8) {
        let arena = self.cache.arena(arena);
        let mut code: Code = Code::at(arena.hot_address());
        code.jump_far(self.to_engine);
        arena.to_dispatcher = code.address + FAR_PADDING as u64;
        arena.put(code.bytes());
    }

    /// Is nothing translated, so that nothing could be dropped to make room?
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// Forgets all translations and gives the memory of their code up, which a child of fork may share with its parent.
    pub fn leave_code(&mut self) {
        self.cache.give_up();
        self.begin_anew();
    }

    /// Gives the memory of all code up, for good; nothing is translated.
    pub fn give_up(&mut self) {
        self.cache.give_up();
        self.cache.refuse();
        self.places.shrink();
        self.fragments.shrink();
        self.exits.shrink();
        self.slots.shrink();
        self.targets.iter_mut().for_each(Targets::give_up);
    }

    /// Bytes of address space that [`Translator::give_up`] gives back, nearly.
    pub fn address_space(&self) -> u64 {
        let tables = self.places.address_space()
            + self.fragments.address_space()
            + self.exits.address_space()
            + self.slots.address_space();
        let targets: u64 = self.targets.iter().map(Targets::address_space).sum();
        self.cache.address_space() + tables as u64 + targets
    }

    /// Forgets all translations; nobody may be executing them.
    pub fn begin_anew(&mut self) {
        self.fragments.clear();
        self.places.clear();
        self.exits.clear();
        self.slots.clear();
        self.forget_targets();
        for arena in self.cache.empty() {
            self.equip(arena);
        }
    }

    /// What counters of blocks are worth: the sum of counts times weights.
    pub fn weigh(&self, counters: &[AtomicU64]) -> Totals {
        weigh(self.slots.as_slice(), counters)
    }

    pub(crate) fn encode(
        &mut self,
        instruction: &Instruction,
        rip: u64,
        into: &mut [u8; 16],
    ) -> Option<usize> {
        encode(&mut self.encoder, instruction, rip, into)
    }

    /// The fragment whose host code holds this address.
    pub fn fragment_at(&self, host: u64) -> Option<Fragment> {
        let all = self.fragments.as_slice();
        let here = self.cache.at(host)?.fragments.as_slice();
        let behind = here.partition_point(|&index| all[index as usize].host <= host);
        let fragment = all[here[behind.checked_sub(1)?] as usize];
        (host - fragment.host < u64::from(fragment.host_len)).then_some(fragment)
    }

    /// The places of a fragment's instructions.
    pub fn places_of(&self, fragment: &Fragment) -> &[Place] {
        &self.places.as_slice()
            [fragment.map as usize..fragment.map as usize + usize::from(fragment.len)]
    }

    /// Weights of the first `until` instructions of a fragment, decoded again; and if a mask decides what the one
    /// behind them accesses, the number of its dynamic part and how it repeats.
    ///
    /// # Safety
    /// The fragment's source must still be readable.
    pub unsafe fn weights_before(
        &mut self,
        fragment: &Fragment,
        until: usize,
    ) -> (Weights, Option<(u32, Repeats)>) {
        let mut block = core::mem::replace(&mut self.block, Block::empty());
        let source = fragment.source();
        // SAFETY: forwarded. Weights do not depend on where an instruction lies.
        unsafe { block.decode(source, source + u64::from(fragment.app_len)) };
        let copies = if fragment.copies > 1 { until / block.len } else { 0 };
        let until = until - copies * block.len;
        let (done, rest) = block.instructions().split_at(until.min(block.len));
        let mut dynamics = 0;
        let mut sum = sum_weights(done, &mut self.factory, |_, _| dynamics += 1);
        for _ in 0..copies {
            sum.accumulate(&self.slots.as_slice()[fragment.slot as usize]);
        }
        let begun =
            rest.first().map(|next| weights::of_instruction(next, &mut self.factory).repeats);
        let masked =
            begun.filter(|repeats| !matches!(repeats, Repeats::Never | Repeats::Iterations));
        self.block = block;
        (sum, masked.map(|repeats| (dynamics, repeats)))
    }
}

const _: () = assert!(size_of::<weights::InstructionWeights>() < 128);
