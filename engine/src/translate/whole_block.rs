//! From a basic block to its fragment.
//!
//! Most instructions are copied byte for byte. What depends on its own address is re-encoded: RIP-relative
//! operands, branches, calls. Every fragment keeps a map from host offsets to instructions, so that the
//! application's state can be told wherever a signal or fault interrupts.

use ::weights::x86::Repeats;
use iced_x86::Instruction;

use crate::cache::arena::Tail;
use crate::cache::fragment::{ExitKind, Fragment, Place, Recipe};
use crate::isa::x86_64::count::insert::{self, is_narrow};
use crate::isa::x86_64::count::place as counter_place;
use crate::isa::x86_64::count::place::How;
use crate::isa::x86_64::count::weigh::sum_weights;
use crate::isa::x86_64::decode::block::{Block, End, MAX_INSTRUCTIONS};
use crate::isa::x86_64::decode::x87_stores::{stores_wide_x87_pointer, stores_x87_pointer};
use crate::isa::x86_64::emit::buffer::Code;
use crate::isa::x86_64::exits::Way;
use crate::isa::x86_64::registers::number;
use crate::metric::Weights;
use crate::translate::self_loop;
use crate::translate::translator::{Failure, Source, Translator};

impl Translator {
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

        let mut dynamic = [(0usize, Repeats::Never); MAX_INSTRUCTIONS];
        let mut dynamic_weights = [Weights::default(); MAX_INSTRUCTIONS];
        let mut dynamics = 0;
        let sum = sum_weights(instructions, &mut self.factory, |i, w| {
            dynamic[dynamics] = (i, w.repeats);
            dynamic_weights[dynamics] = w.repeated;
            dynamics += 1;
        });
        #[cfg(feature = "sabotage")]
        let sum = {
            let mut sum = sum;
            crate::mutants::break_weights(&mut sum, false);
            dynamic_weights[..dynamics]
                .iter_mut()
                .for_each(|weights| crate::mutants::break_weights(weights, true));
            sum
        };
        let slot = self.slots.push(sum).ok_or(Failure::Full)?;
        for weights in &dynamic_weights[..dynamics] {
            self.slots.push(*weights).ok_or(Failure::Full)?;
        }

        let copies = self_loop::copies(block, dynamics);
        let counter = counter_place::find(block, copies == 1, &mut self.factory);
        #[cfg(feature = "sabotage")]
        let counter = if crate::mutants::is("flags_are_always_dead") {
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
                insert::before(&mut code, &mut self.encoder, instruction, dynamic_slot, repeats);
                if repeats == Repeats::Iterations {
                    let narrow = is_narrow(instruction);
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
                insert::after(&mut code, instruction, dynamic_slot, repeats);
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
        crate::mutants::break_code(code.bytes_mut(), crate::isa::x86_64::context::disp::spill);
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
}

#[cfg(test)]
mod tests {
    use std::println;

    use super::*;
    use crate::cache::address_space::AddressSpace;
    use crate::isa::x86_64::cpu::Cpu;
    use crate::isa::x86_64::emit::ibl::Lookups;

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
