//! From an interrupted host state to the application's: registers, flags and PC as they would be natively, and counts
//! that end at the instruction the application sees.

use core::sync::atomic::Ordering;

use crate::cache::fragment::{Fragment, Place, Recipe};
use crate::isa::x86_64::context::{Stage, ThreadState, spill};
use crate::isa::x86_64::masks::enabled_elements;
use crate::isa::x86_64::registers::gpr;
use crate::isa::x86_64::signal_frame::{CONTEXT, CONTEXT_FLAGS, CONTEXT_RIP, UserContext};
use crate::metric::METRICS;
use crate::run::engine::Engine;
use crate::run::stubs::{gadget, landing};

/// What interrupted a thread in the code cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// A signal that may as well come somewhat later.
    Asynchronous,
    /// A fault: the instruction did not happen.
    Fault,
    /// INT3, behind which the thread stands.
    Breakpoint,
    /// The application's trap flag: the thread stands between two instructions. Where the counter is about to stand,
    /// status flags that the next instructions overwrite may be the counter's.
    TrapFlag,
}

impl Engine {
    /// Rewrites a context inside the engine's system call to the application's state. `refused`: a filter has raised SIGSYS
    /// instead of the call.
    pub(crate) fn show_syscall(
        &self,
        thread: &mut ThreadState,
        context: &mut UserContext,
        before: bool,
        refused: bool,
    ) {
        const ENOSYS: i64 = 38;
        // Not made yet, or to be restarted: the application is at its SYSCALL, as its block says.
        if thread.in_syscall == Stage::Application {
            if refused {
                // A filter's SECCOMP_RET_TRAP: the number is in RAX still.
                self.finish_syscall(thread, -ENOSYS);
                thread.gpr[gpr::RAX] = context.registers[CONTEXT[gpr::RAX]] as u64;
            } else if !before {
                self.finish_syscall(thread, context.registers[CONTEXT[gpr::RAX]]);
            } else if context.registers[CONTEXT[gpr::RCX]] as u64 != gadget().after {
                self.not_made(thread);
            }
        }
        thread.in_syscall = Stage::None;
        for (register, &at) in CONTEXT.iter().enumerate() {
            context.registers[at] = thread.gpr[register] as i64;
        }
        context.registers[CONTEXT_RIP] = thread.pc as i64;
        context.registers[CONTEXT_FLAGS] = thread.rflags as i64;
        if context.fpstate != 0 {
            // FXSAVE layout (SDM vol. 1, 10.5.1): MXCSR at 24, xmm0 at 160; XSTATE_BV at 512 of the XSAVE area,
            // which is there when the magic number at 464 says so.
            let area = context.fpstate as *mut u8;
            // SAFETY: the kernel's frame holds a whole FXSAVE area, and the extended one if so marked.
            unsafe {
                area.add(24).cast::<u32>().write_unaligned(thread.mxcsr);
                core::ptr::copy_nonoverlapping(
                    thread.xmm.as_ptr().cast::<u8>(),
                    area.add(160),
                    256,
                );
                const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
                if area.add(464).cast::<u32>().read_unaligned() == FP_XSTATE_MAGIC1 {
                    let components = area.add(512).cast::<u64>();
                    components.write_unaligned(components.read_unaligned() | 2);
                }
            }
        }
    }

    /// A comparison of changing code with its copy was stopped by the application's alignment check (RFLAGS.AC):
    /// it is made here. `false` when that is not what happened.
    pub(crate) fn compare_misaligned(
        &self,
        thread: &mut ThreadState,
        context: &mut UserContext,
    ) -> bool {
        const ALIGNMENT_CHECK: i64 = 1 << 18;
        let host = context.registers[CONTEXT_RIP] as u64;
        let flags = context.registers[CONTEXT_FLAGS];
        let found = self.with_tables(|tables| {
            let translator = &tables.translator;
            let fragment = translator.fragment_at(host)?;
            let body = fragment.host + u64::from(translator.places_of(&fragment)[0].host);
            (fragment.is_changing() && host < body && flags & ALIGNMENT_CHECK != 0)
                .then_some((fragment, body))
        });
        let Some((fragment, body)) = found else { return false };
        restore_rax_and_flags(thread, context, spill::ANY);
        // SAFETY: the thread has just read its source.
        if unsafe { fragment.source_is_the_same() } {
            context.registers[CONTEXT_RIP] = body as i64;
        } else {
            self.source_changed(fragment.pc);
            thread.pc = fragment.pc;
            context.registers[CONTEXT_RIP] = landing() as i64;
        }
        true
    }

    /// Rewrites a context inside the code cache to the application's state, counts corrected for the part of
    /// the block that was not executed. `false` when this is no place where that is possible.
    pub(crate) fn show_application(
        &self,
        thread: &mut ThreadState,
        context: &mut UserContext,
        interruption: Interruption,
    ) -> bool {
        let mut host = context.registers[CONTEXT_RIP] as u64;
        let trapped = interruption == Interruption::Breakpoint;
        if trapped {
            host -= 1;
        }
        self.with_tables(|tables| {
            let translator = &mut tables.translator;
            let Some(fragment) = translator.fragment_at(host) else { return false };
            let anywhere = interruption != Interruption::Asynchronous;
            let places = translator.places_of(&fragment);
            let Some(found) = find(places, &fragment, host, anywhere) else { return false };
            let mut pc = fragment.pc + found.app_offset;
            let mut executed = found.index;
            if trapped {
                pc += found.app_len;
                executed += 1;
            }
            // SAFETY: a stable mapping, which the followed thread has just executed from.
            let (part, begun) = unsafe { translator.weights_before(&fragment, executed) };
            // A mask that cannot be read: this CPU has no such registers, and so not the instruction.
            let unread = interruption == Interruption::Fault && found.counting && begun.is_some();
            match found.recipe {
                _ if unread => restore_rax_and_flags(thread, context, spill::RAX),
                Recipe::Plain => {}
                #[cfg(feature = "sabotage")]
                Recipe::Spilled(_) if crate::mutants::is("fault_keeps_spilled_register") => {}
                Recipe::Spilled(register) => {
                    context.registers[CONTEXT[register as usize]] =
                        thread.spills[spill::ANY] as i64;
                }
                Recipe::Compare => restore_rax_and_flags(thread, context, spill::ANY),
                Recipe::Rep { slot, narrow } => {
                    let mut left = context.registers[CONTEXT[gpr::RCX]] as u64;
                    if narrow {
                        left = u64::from(left as u32);
                    }
                    let counter =
                        &thread.counters()[(fragment.slot + 1 + u32::from(slot)) as usize];
                    counter.store(
                        counter.load(Ordering::Relaxed).wrapping_sub(left),
                        Ordering::Relaxed,
                    );
                }
            }
            #[cfg(feature = "sabotage")]
            if crate::mutants::is("fault_shows_next_instruction") {
                pc += found.app_len;
            }
            context.registers[CONTEXT_RIP] = pc as i64;
            thread.pc = pc;
            if let Some((slot, repeats)) = begun
                && found.begun
                && !trapped
            {
                // A mask's elements were counted beforehand; those that were not reached are in the mask still.
                let counter = &thread.counters()[(fragment.slot + 1 + slot) as usize];
                // SAFETY: the kernel's frame, of a thread that is about to execute the instruction.
                let left = unsafe { enabled_elements(repeats, context.fpstate) };
                let counted = counter.load(Ordering::Relaxed).wrapping_sub(left);
                counter.store(counted, Ordering::Relaxed);
            }
            #[cfg(feature = "sabotage")]
            if crate::mutants::is("fault_counts_whole_block") {
                return true;
            }
            let whole = translator.slots.as_slice()[fragment.slot as usize];
            for m in 0..METRICS {
                let counted = if found.counted { u64::from(fragment.copies) } else { 0 };
                let counted = counted * u64::from(whole.0[m]);
                let difference = u64::from(part.0[m]).wrapping_sub(counted);
                thread.adjust[m].fetch_add(difference, Ordering::Relaxed);
            }
            true
        })
    }
}

/// Puts back what inserted code put aside: RAX in this spill slot, the status flags in `FLAGS`.
fn restore_rax_and_flags(thread: &ThreadState, context: &mut UserContext, rax: usize) {
    context.registers[CONTEXT[gpr::RAX]] = thread.spills[rax] as i64;
    let flags = context.registers[CONTEXT_FLAGS] as u64;
    context.registers[CONTEXT_FLAGS] = with_saved_flags(flags, thread.spills[spill::FLAGS]) as i64;
}

/// Flags whose status part was saved by LAHF into AH and SETO into AL.
fn with_saved_flags(flags: u64, saved: u64) -> u64 {
    /// SF, ZF, AF, PF, CF (SDM vol. 1, 3.4.3.1), in the places where LAHF has them.
    const IN_AH: u64 = 0xd5;
    const OVERFLOW: u64 = 1 << 11;
    flags & !(IN_AH | OVERFLOW) | saved >> 8 & IN_AH | (saved & 1) << 11
}

impl Engine {
    /// The application's instruction whose translation begins at this host address.
    pub(crate) fn instruction_at(&self, host: u64) -> Option<u64> {
        self.with_tables(|tables| {
            let translator = &tables.translator;
            let fragment = translator.fragment_at(host)?;
            let offset = (host - fragment.host) as u16;
            let places = translator.places_of(&fragment);
            let index = places.iter().position(|place| place.host == offset)?;
            Some(fragment.pc + fragment.offset_of(places, index))
        })
    }
}

/// What a host address inside a fragment stands for.
struct Found {
    index: usize,
    app_offset: u64,
    app_len: u64,
    recipe: Recipe,
    counted: bool,
    /// At the instruction proper: what stands before it was executed.
    begun: bool,
    /// Amid what stands before it.
    counting: bool,
}

fn find(places: &[Place], fragment: &Fragment, host: u64, anywhere: bool) -> Option<Found> {
    let offset = (host - fragment.host) as u16;
    if fragment.is_changing() && offset < places[0].host {
        // Its source cannot be read any more: natively the first instruction could not be fetched.
        let app_len = u64::from(places[0].app_len);
        let recipe = Recipe::Compare;
        return anywhere.then_some(Found {
            index: 0,
            app_offset: 0,
            app_len,
            recipe,
            counted: false,
            begun: false,
            counting: false,
        });
    }
    let index = places.iter().rposition(|p| p.host <= offset)?;
    let place = &places[index];
    let app_offset = fragment.offset_of(places, index);
    let at_start = offset == place.host;
    let body = place.host + u16::from(place.body);
    let at_body = offset == body;
    // From the counter on, flags or a register are not the application's until they are overwritten.
    let counter_at = usize::from(fragment.counter_at);
    let past_counter = index > counter_at || (index == counter_at && !at_start);
    let is_whole = !past_counter || index >= usize::from(fragment.whole_from);
    let found = Found {
        index,
        app_offset,
        app_len: u64::from(place.app_len),
        recipe: if at_start && place.body > 0 { Recipe::Plain } else { place.recipe() },
        counted: past_counter,
        begun: offset >= body,
        counting: !at_start && offset < body,
    };
    (anywhere || (is_whole && (at_start || at_body))).then_some(found)
}
