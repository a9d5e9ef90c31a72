//! What a sequence counts, by the project's rules, apart from the engine: step by step, or by construction.

use engine::METRICS;
use iced_x86::Mnemonic;
use tests::weight::{Lanes, Varying, Weight, may_hide_trap, varying, weigh};

use crate::machine::{Fault, SLOT};
use crate::sequence::Sequence;
use crate::xsave;

/// Counts in the order of [`engine::Metric`].
pub type Counts = [u64; METRICS];

struct Known {
    weight: Weight,
    varying: Option<Varying>,
    sets_flags: bool,
    hides_next: bool,
}

/// An instruction that has begun.
struct Begun {
    item: usize,
    count: u64,
    lanes: u64,
}

/// The weights of a sequence, and what its steps made.
#[derive(Default)]
pub struct Reference {
    pc: u64,
    known: Vec<Known>,
    item_at: Vec<u8>,
    begun: Option<Begun>,
    /// No step was made yet.
    first: bool,
    /// The sum so far.
    pub counts: Counts,
    /// How often each item was completed.
    pub completed: Vec<u32>,
}

impl Reference {
    /// Weighs a sequence.
    pub fn prepare(&mut self, sequence: &Sequence) {
        self.pc = sequence.pc;
        self.known.clear();
        self.item_at.clear();
        self.item_at.resize(SLOT as usize, 0);
        for (number, item) in sequence.items.iter().enumerate() {
            let at = usize::from(item.offset);
            let bytes = &sequence.code[at..at + item.instruction.len()];
            let weight = weigh(bytes, sequence.pc + at as u64);
            self.known.push(Known {
                weight,
                hides_next: weight.hides_next || may_hide_trap(item.instruction.mnemonic()),
                varying: varying(&item.instruction),
                sets_flags: matches!(
                    item.instruction.mnemonic(),
                    Mnemonic::Popf | Mnemonic::Popfq | Mnemonic::Popfd
                ),
            });
            self.item_at[at] = number as u8 + 1;
        }
        self.begun = None;
        self.first = true;
        self.counts = [0; METRICS];
        self.completed.clear();
        self.completed.resize(sequence.items.len(), 0);
    }

    /// Every instruction from the first to the last, or up to where it faulted.
    pub fn by_construction(&mut self, fault: &Fault, passes: u32, xsave: &[u8]) {
        let last = self.known.len().saturating_sub(1);
        // The jump out belongs to the last pass.
        for number in (1..passes).flat_map(|_| 0..last).chain(0..=last) {
            let begins = self.item_at.iter().position(|&at| usize::from(at) == number + 1);
            let stopped =
                fault.signal != 0 && begins.is_some_and(|at| self.pc + at as u64 >= fault.pc);
            if stopped {
                return;
            }
            let lanes = self.known[number].varying.map_or(0, |varying| enabled(&varying, xsave));
            self.complete(&Begun { item: number, count: 0, lanes }, 0, false);
        }
    }

    /// The thread stands at `pc`. Returns whether it is to be stepped on.
    pub fn at(&mut self, pc: u64, gpr: &[u64; 16], xsave: &[u8]) -> bool {
        if let Some(begun) = self.begun.take() {
            let weight = &self.known[begun.item].weight;
            let length = u64::from(weight.length);
            let again = weight.rep && self.item(pc) == Some(begun.item);
            let hidden = self.known[begun.item]
                .hides_next
                .then(|| self.item_behind(begun.item, length))
                .flatten();
            self.complete(&begun, gpr[1], again);
            if let Some(next) = hidden.filter(|&next| self.item(pc) != Some(next)) {
                self.complete(&Begun { item: next, count: 0, lanes: 0 }, 0, false);
            }
        }
        let Some(item) = self.item(pc) else { return false };
        if self.first {
            self.first = false;
            // Where the stepped run's flags were popped from, the other runs have left no trap flag.
            // SAFETY: two words below the stack pointer of a sequence's start, in the window.
            unsafe { *((gpr[4] - 16) as *mut u64) &= !(1 << 8) };
        }
        let known = &self.known[item];
        if known.sets_flags {
            // The trap flag stays; nobody compares what a stepped run leaves.
            // SAFETY: the stack pointer of a tested sequence lies in the window when POPF does not fault.
            unsafe { *(gpr[4] as *mut u16) |= 1 << 8 };
        }
        let lanes = known.varying.as_ref().map_or(0, |varying| enabled(varying, xsave));
        self.begun = Some(Begun { item, count: gpr[1], lanes });
        true
    }

    /// The instruction that had begun ended in a fault.
    pub fn faulted(&mut self, fault: &Fault, gpr: &[u64; 16], xsave: &[u8]) {
        let Some(begun) = self.begun.take() else { return };
        // A trap comes behind its instruction.
        let trap = fault.signal == libc::SIGTRAP;
        let known = &self.known[begun.item];
        let begun = match &known.varying {
            // Elements that were reached have left the mask.
            Some(varying) if varying.each_lane_is_an_access && !trap => {
                let lanes = begun.lanes - enabled(varying, xsave);
                Begun { lanes, ..begun }
            }
            _ => begun,
        };
        let in_part =
            known.weight.rep || known.varying.is_some_and(|varying| varying.each_lane_is_an_access);
        if trap || in_part {
            self.complete(&begun, gpr[1], !trap);
        }
    }

    fn item(&self, pc: u64) -> Option<usize> {
        let at = self.item_at.get(pc.wrapping_sub(self.pc) as usize)?;
        usize::from(*at).checked_sub(1)
    }

    fn item_behind(&self, item: usize, length: u64) -> Option<usize> {
        let at = self.item_at.iter().position(|&at| usize::from(at) == item + 1)?;
        self.item(self.pc + at as u64 + length)
    }

    /// Adds an instruction; with `going_on` only the iterations that it made.
    fn complete(&mut self, begun: &Begun, count_now: u64, going_on: bool) {
        let Known { weight, varying, .. } = &self.known[begun.item];
        let accesses = [weight.reads.into(), weight.writes.into()];
        let bytes = [u64::from(weight.bytes_read), u64::from(weight.bytes_written)];
        let mut times = 1;
        if weight.rep {
            times = begun.count.wrapping_sub(count_now);
            if weight.short_count {
                times = u64::from(times as u32);
            }
        }
        let mut moved = [times * bytes[0], times * bytes[1]];
        let mut made: [u64; 2] = accesses.map(|each: u64| times * each);
        if let Some(varying) = varying {
            let directions = [varying.reads, varying.writes].map(u64::from);
            moved = directions.map(|yes| yes * begun.lanes * u64::from(varying.bytes));
            if varying.each_lane_is_an_access {
                made = directions.map(|yes| yes * begun.lanes);
            } else {
                made = directions;
            }
        }
        let instructions = u64::from(!going_on);
        let barriers = instructions * u64::from(weight.barriers);
        let adds: Counts = [instructions, made[0], made[1], moved[0], moved[1], barriers];
        for (sum, add) in self.counts.iter_mut().zip(adds) {
            *sum += add;
        }
        self.completed[begun.item] += u32::from(!going_on);
    }
}

/// How many lanes a mask enables.
fn enabled(varying: &Varying, area: &[u8]) -> u64 {
    let layout = xsave::layout();
    match varying.lanes {
        Lanes::Opmask { register, lanes } => {
            let mask = layout.opmask(area, register.into());
            let kept = if lanes == 64 { u64::MAX } else { (1 << lanes) - 1 };
            u64::from((mask & kept).count_ones())
        }
        Lanes::Signs { register, lanes, element } => {
            let bytes = layout.vector(area, register.into());
            (1..=usize::from(lanes))
                .filter(|lane| bytes[lane * usize::from(element) - 1] & 0x80 != 0)
                .count() as u64
        }
        Lanes::MmxSigns { register } => {
            let bytes = layout.mmx(area, register.into());
            bytes.iter().filter(|&&byte| byte & 0x80 != 0).count() as u64
        }
    }
}
