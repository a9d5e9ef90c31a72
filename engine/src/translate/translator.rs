//! From a basic block to host code.
//!
//! Most instructions are copied byte for byte. What depends on its own address is re-encoded: RIP-relative
//! operands, branches, calls. Every fragment keeps a map from host offsets to instructions, so that the
//! application's state can be told wherever a signal or fault interrupts.

use core::sync::atomic::AtomicU64;

use iced_x86::{Decoder, DecoderOptions, Encoder, InstructionInfoFactory};

use super::Instruction;
use super::address_space::AddressSpace;
use super::block::{self, Block, End, Refusal};
use super::cache::{Cache, Tail};
use super::counter_place::{self, How};
use super::counting;
use super::emit::{Code, FAR_PADDING};
use super::extended_state::{stores_wide_x87_pointer, stores_x87_pointer};
use super::fragment::{Exit, ExitKind, Fragment, Place, Recipe};
use super::lookup::Lookups;
use super::plain::number;
use super::self_loop;
use super::targets::{Targets, Way};
use super::weights::{self, Repeats};
use crate::metric::{Totals, Weights};
use crate::reserved::Reserved;

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
    pub(super) lookups: Lookups,
    pub(super) factory: InstructionInfoFactory,
    encoder: Encoder,
    block: Block,
    to_engine: u64,
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

    /// Translates the block at `pc`; returns the fragment's index.
    ///
    /// `pad`: an indirect branch leads there.
    ///
    /// # Safety
    /// `[pc, limit)` must be readable application code.
    pub unsafe fn translate(
        &mut self,
        pc: u64,
        limit: u64,
        source: Source,
        pad: Option<Way>,
    ) -> Result<u32, Failure> {
        let mut block = core::mem::replace(&mut self.block, Block::empty());
        // SAFETY: forwarded.
        unsafe {
            match source {
                Source::Stable => block.decode(pc, limit),
                Source::Changing => block.decode_changing(pc, limit, Some(&mut self.factory)),
                Source::Guarded => block.decode_changing(pc, limit, None),
            }
        }
        let mut guarded = source == Source::Guarded;
        if guarded && block.instructions().first().is_some_and(stores_x87_pointer) {
            // It has a way in of its own already.
            guarded = false;
            // SAFETY: forwarded.
            unsafe { block.decode_changing(pc, limit, Some(&mut self.factory)) };
        }
        let result = self.emit(&block, guarded, pad);
        self.block = block;
        result
    }

    fn emit(&mut self, block: &Block, guarded: bool, pad: Option<Way>) -> Result<u32, Failure> {
        if let Some(refusal) = block.refusal {
            return Err(Failure::Refused(refusal));
        }
        let arena = self.arena_near(block.pc).ok_or(Failure::Full)?;
        let pad = pad.map(|way| (way, self.emit_pad(way, arena, block.pc, None)));
        let instructions = block.instructions();

        let mut dynamic = [(0usize, Repeats::Never); block::MAX_INSTRUCTIONS];
        let mut dynamic_weights = [Weights::default(); block::MAX_INSTRUCTIONS];
        let mut dynamics = 0;
        let sum = block::sum_weights(instructions, &mut self.factory, |i, w| {
            dynamic[dynamics] = (i, w.repeats);
            dynamic_weights[dynamics] = w.repeated;
            dynamics += 1;
        });
        #[cfg(feature = "sabotage")]
        let sum = {
            let mut sum = sum;
            super::sabotage::break_weights(&mut sum, false);
            dynamic_weights[..dynamics]
                .iter_mut()
                .for_each(|weights| super::sabotage::break_weights(weights, true));
            sum
        };
        let slot = self.slots.push(sum).ok_or(Failure::Full)?;
        for weights in &dynamic_weights[..dynamics] {
            self.slots.push(*weights).ok_or(Failure::Full)?;
        }

        let copies = self_loop::copies(block, dynamics);
        let counter = counter_place::find(block, copies == 1, &mut self.factory);
        #[cfg(feature = "sabotage")]
        let counter = if super::sabotage::is("flags_are_always_dead") {
            counter_place::CounterPlace { how: How::Add, ..counter }
        } else {
            counter
        };
        let mut code: Code = Code::at(self.cache.arena(arena).hot_address());
        let (watch, copy) = match block.changing {
            true if guarded => self.emit_watch(&mut code, arena, block)?,
            true => (0, self.emit_compare(&mut code, arena, block)?),
            false => (0, 0),
        };
        if let Some(first) = instructions.first()
            && stores_x87_pointer(first)
        {
            let kind = ExitKind::X87Pointer { wide: stores_wide_x87_pointer(first) };
            let index = self.unlinked_exit(arena, block.pc, kind)?;
            code.exit(index, self.cache.arena(arena).to_dispatcher);
        }
        let map = self.places.len() as u32;
        let mut next_dynamic = 0;
        let with_target = (counter.how == How::WithTarget).then_some(slot);
        let mut ways_out = [0; self_loop::MOST_COPIES - 1];
        let all =
            (1..=copies).flat_map(|copy| instructions.iter().enumerate().map(move |i| (copy, i)));
        for (copy, (i, instruction)) in all {
            let host = code.len();
            if i == counter.at && copy == copies {
                match counter.how {
                    How::Add => code.count(slot, copies as u8),
                    How::Increment => code.increment(slot),
                    How::Through(register) => {
                        code.count_through(number(register), slot, copies as u8)
                    }
                    How::Aside(register) => code.count_aside(number(register), slot, copies as u8),
                    How::WithTarget => {} // once RCX is aside
                }
            }
            let mut recipe = Recipe::Plain;
            let mut counted = None;
            if next_dynamic < dynamics && dynamic[next_dynamic].0 == i {
                let dynamic_slot = slot + 1 + next_dynamic as u32;
                let repeats = dynamic[next_dynamic].1;
                counting::before(&mut code, &mut self.encoder, instruction, dynamic_slot, repeats);
                if repeats == Repeats::Iterations {
                    let narrow = counting::is_narrow(instruction);
                    recipe = Recipe::Rep { slot: next_dynamic as u8, narrow };
                }
                counted = Some((dynamic_slot, repeats));
                next_dynamic += 1;
            }
            let last = i + 1 == instructions.len();
            let body = if last && copy < copies {
                ways_out[copy - 1] = code.leave_loop(instruction);
                host
            } else if last && block.end != End::Cut {
                self.emit_end(&mut code, arena, block, with_target, &mut recipe)?
            } else {
                self.emit_plain(&mut code, block, instruction, &mut recipe)?
            };
            if let Some((dynamic_slot, repeats)) = counted {
                counting::after(&mut code, instruction, dynamic_slot, repeats);
            }
            let place = Place {
                host: host as u16,
                body: (body - host) as u8,
                app_len: instruction.len() as u8,
                recipe: recipe.pack(),
            };
            self.places.push(place).ok_or(Failure::Full)?;
        }
        if matches!(block.end, End::Cut | End::Trap) {
            self.emit_exit_jump(&mut code, arena, block.next_pc)?;
        }

        let exits = self.exits.len() as u32;
        if copies > 1 {
            let behind = self.exits.as_slice()[exits as usize - 1].site - 1;
            let behind = self.cache.arena(arena).base + u64::from(behind);
            self.emit_settlement(&mut code, arena, slot, &ways_out[..copies - 1], behind);
        }
        #[cfg(feature = "sabotage")]
        super::sabotage::break_code(code.bytes_mut());
        let arena_ref = self.cache.arena(arena);
        arena_ref.put(code.bytes());
        let jcc = block.end == End::Conditional
            && copies == 1
            && instructions.last().is_some_and(Instruction::is_jcc_short_or_near);
        arena_ref.tail = jcc.then(|| Tail { taken: exits - 2, end: arena_ref.hot_address() });
        let before_last = (copies - 1) * instructions.len();
        let fragment = Fragment {
            pc: block.pc,
            host: code.address,
            slot,
            map,
            host_len: code.len() as u16,
            app_len: (block.next_pc - block.pc) as u16,
            len: (copies * instructions.len()) as u8,
            copies: copies as u8,
            counter_at: (before_last + counter.at) as u8,
            whole_from: if counter.until > 0 { (before_last + counter.until) as u8 } else { 0 },
            dead: false,
            watch,
            incoming: 0,
            copy,
        };
        let index = self.fragments.push(fragment).ok_or(Failure::Full)?;
        self.cache.arena(arena).fragments.push(index).ok_or(Failure::Full)?;
        // Other threads go there from now on: the code behind the pad is whole.
        if let Some((way, pad)) = pad {
            self.ways_in(way).add(block.pc, pad.entry, pad.link).ok_or(Failure::Full)?;
        }
        Ok(index)
    }

    /// The arena for `pc`, its routines in place.
    fn arena_near(&mut self, pc: u64) -> Option<u8> {
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
        counting::weigh(self.slots.as_slice(), counters)
    }

    pub(super) fn encode(
        &mut self,
        instruction: &Instruction,
        rip: u64,
        into: &mut [u8; 16],
    ) -> Option<usize> {
        counting::encode(&mut self.encoder, instruction, rip, into)
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
        let mut sum = block::sum_weights(done, &mut self.factory, |_, _| dynamics += 1);
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

#[cfg(test)]
mod tests {
    use std::println;

    use super::*;
    use crate::x86::cpu::Cpu;

    /// Translates this test program's own code from end to end, as a program with no repetition would have it.
    #[test]
    fn translates_the_text_of_this_program() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let text = maps.lines().find(|line| line.contains(" r-xp ")).unwrap();
        let (start, end) = text.split(' ').next().unwrap().split_once('-').unwrap();
        let (start, end) =
            (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        let mut translator = Translator::new(
            0x1000,
            |_| 0x2000,
            Lookups::of(Cpu::this()),
            AddressSpace::under(None),
        )
        .unwrap();
        let (mut pc, mut blocks, mut refused) = (start, 0u32, 0u32);
        let before = std::time::Instant::now();
        while pc < end && blocks < 200_000 {
            // SAFETY: the program's own text.
            match unsafe { translator.translate(pc, end, Source::Stable, None) } {
                Ok(fragment) => {
                    let fragment = translator.fragments.as_slice()[fragment as usize];
                    pc += u64::from(fragment.app_len);
                    blocks += 1;
                }
                Err(Failure::Refused(_)) => {
                    pc += 1;
                    refused += 1;
                }
                Err(Failure::Full) => panic!("full after {blocks} blocks"),
            }
        }
        let bytes = translator.memory() as f64 / f64::from(blocks);
        println!(
            "{blocks} blocks, {refused} refused, {bytes:.0} bytes a block, {:?}",
            before.elapsed()
        );
        assert!(blocks > 1_000);
        assert!(bytes < 200.0, "{bytes} bytes a block");
    }
}
