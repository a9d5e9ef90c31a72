//! Many sequences, each run natively and translated, some stepped.

use std::time::Instant;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Mnemonic};

use crate::compare::{count_differences, differences};
use crate::coverage::Coverage;
use crate::host::HOST;
use crate::machine::{
    CHANGING, CODE, DATA, FAR_CHANGING, FAR_CODE, FAR_DATA, Machine, Mode, Outcome, SLOT, Start,
    WINDOW,
};
use crate::opcodes::{Cell, cells, is_vsib};
use crate::operand::Frame;
use crate::prelude::DIFFER;
use crate::random::Random;
use crate::reference::Reference;
use crate::sequence::{Maker, Sequence, describe};
use crate::xsave::{self, XSAVE_BYTES};

/// What the command line says.
pub struct Options {
    /// How many.
    pub sequences: u64,
    /// All sequences follow from it.
    pub seed: u64,
    /// Number of the first.
    pub from: u64,
    /// Print each sequence.
    pub show: bool,
    /// The translator is broken: one difference is enough.
    pub broken: bool,
    /// Print the count of each opcode.
    pub table: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { sequences: 100_000, seed: 1, from: 0, show: false, broken: false, table: false }
    }
}

/// Bytes that the engine may use: small, so that sums over its counters are quick and flushes frequent.
const ENGINE_MEMORY: usize = 2 << 20;
/// Differing sequences that are shown before a campaign is given up.
const MOST_FAILURES: u32 = 8;
/// One in so many sequences is stepped although its counts are known by construction.
const SAMPLE: u64 = 64;
/// One sequence in so many lies where no arena is within reach.
const FAR_SAMPLE: u64 = 5;
/// Opcodes whose sequences must be stepped are chosen once in so many times.
const STEPPED_CHOICE: u64 = 5;

/// A run of the fuzzer.
pub struct Campaign {
    options: Options,
    machine: Machine,
    maker: Maker,
    cells: Vec<Cell>,
    sequence: Sequence,
    start: Start,
    native: Outcome,
    translated: Outcome,
    stepped: Outcome,
    reference: Reference,
    place: u64,
}

/// What became of one sequence.
struct Verdict {
    lines: Vec<String>,
    faulted: bool,
    stepped: bool,
    /// The stepped run ended otherwise than the native one: its counts say nothing.
    ended_otherwise: bool,
}

/// Does what it accesses, or where it leads, depend on values?
fn needs_steps(code: Code) -> bool {
    let info = code.op_code();
    info.op_kinds().iter().any(|&kind| is_vsib(kind))
        || info.can_use_rep_prefix()
        || !matches!(code.flow_control(), FlowControl::Next)
}

impl Campaign {
    /// Prepares the machine and asks the CPU which opcodes it has.
    pub fn new(options: Options) -> Campaign {
        let mut campaign = Campaign {
            options,
            machine: Machine::new(ENGINE_MEMORY),
            maker: Maker::new(),
            cells: cells(),
            sequence: Sequence::default(),
            start: Start {
                gpr: [0; 16],
                flags: 0,
                fs: 0,
                xsave: [0; XSAVE_BYTES],
                window: Box::new([0; WINDOW]),
            },
            native: Outcome::new(),
            translated: Outcome::new(),
            stepped: Outcome::new(),
            reference: Reference::default(),
            place: 1,
        };
        campaign.keep_what_the_cpu_has();
        campaign
    }

    /// Drops opcodes that raise SIGILL in each of several forms.
    fn keep_what_the_cpu_has(&mut self) {
        const TRIES: u64 = 4;
        let mut known: Option<(Code, bool)> = None;
        let all = std::mem::take(&mut self.cells);
        let of = |code| all.iter().filter(move |cell: &&Cell| cell.code == code);
        let mut kept = Vec::new();
        for &cell in &all {
            let has = match known {
                Some((code, has)) if code == cell.code => has,
                _ => of(cell.code).any(|&cell| (0..TRIES).any(|try_| self.executes(cell, try_))),
            };
            known = Some((cell.code, has));
            if has {
                kept.push(cell);
            }
        }
        self.cells = kept;
    }

    /// Does an instruction of this cell end in anything but SIGILL?
    fn executes(&mut self, cell: Cell, try_: u64) -> bool {
        let mut random = Random::new(try_);
        let frame = Frame::random(&mut random);
        self.random_start(&mut random, &frame);
        self.maker.begin(&mut self.sequence, CODE + SLOT);
        if !self.maker.add(&mut random, &frame, &mut self.sequence, cell, 0)
            || self.maker.end(&mut self.sequence, None).is_none()
        {
            return false;
        }
        self.machine.write(SLOT, &self.sequence.code);
        self.machine.run(Mode::Native, CODE + SLOT, &self.start, &mut self.native);
        self.native.fault.signal != libc::SIGILL
    }

    fn random_start(&mut self, random: &mut Random, frame: &Frame) {
        let start = &mut self.start;
        for register in &mut start.gpr {
            *register = match random.below(4) {
                0 => random.below(256),
                1 => random.next() as i32 as u64,
                _ => random.next(),
            };
        }
        let middle = DATA + WINDOW as u64 / 4;
        for base in frame.bases {
            start.gpr[base] = middle;
        }
        if random.one_in(60) {
            start.gpr[frame.bases[0]] =
                random.pick(&[0, 0x1000, 1 << 63, !0xfff, 0x8000_0000_0000]);
        }
        start.gpr[frame.index] = 64 * random.below(2);
        start.gpr[4] = DATA + WINDOW as u64 * 3 / 4;
        start.fs = middle;
        start.flags = 0x202 | random.next() & 0x8d5;
        if random.one_in(16) {
            start.flags |= 1 << 10;
        }
        xsave::layout().random(random, frame.vector_index, &mut start.xsave);
        let (pattern, rest) = start.window.split_at_mut(WINDOW / 4);
        random.fill(pattern);
        rest.chunks_mut(WINDOW / 4).for_each(|part| part.copy_from_slice(pattern));
    }

    /// Makes sequence number `number`.
    fn make(&mut self, number: u64) {
        let mut random = Random::new(
            Random::new(self.options.seed).next() ^ number.wrapping_mul(0xd134_2543_de82_ef95),
        );
        loop {
            let mut frame = Frame::random(&mut random);
            self.random_start(&mut random, &frame);
            let mut code = if random.one_in(8) { CHANGING } else { CODE };
            if number.is_multiple_of(FAR_SAMPLE) {
                code = if number.is_multiple_of(2 * FAR_SAMPLE) { FAR_CHANGING } else { FAR_CODE };
                frame.near = [FAR_DATA; 3];
            }
            self.maker.begin(&mut self.sequence, code + self.place * SLOT);
            let wanted = 4 + random.below(13) as usize;
            let mut tries = 0;
            while self.sequence.items.len() < wanted && tries < 96 {
                tries += 1;
                let cell = random.below(self.cells.len() as u64) as u32;
                let what = self.cells[cell as usize];
                if needs_steps(what.code) && !self.options.broken && !random.one_in(STEPPED_CHOICE)
                {
                    continue;
                }
                if !self.maker.add(&mut random, &frame, &mut self.sequence, what, cell)
                    && self.sequence.code.len() > SLOT as usize / 2
                {
                    break;
                }
            }
            let again = random.one_in(4).then(Machine::again);
            if self.maker.end(&mut self.sequence, again).is_some() {
                return;
            }
        }
    }

    /// Runs the sequence. AMD CPUs forget where the last x87 instruction lies when the kernel changes threads (natively too: 949
    /// of 300,000 FNSTENV beside two busy threads), so what stores that differs only if it does so each time.
    fn judge(&mut self, number: u64) -> Verdict {
        const TRIES: u32 = 4;
        let mut verdict = self.judge_once(number);
        for _ in 1..TRIES {
            if verdict.lines.is_empty() || !self.stores_x87_pointer() {
                break;
            }
            verdict = self.judge_once(number);
        }
        verdict
    }

    fn stores_x87_pointer(&self) -> bool {
        use iced_x86::Mnemonic::*;
        let stores = |one: Mnemonic| {
            matches!(one, Fnsave | Fnstenv | Fxsave | Fxsave64 | Xsave | Xsave64)
                || matches!(one, Xsavec | Xsavec64 | Xsaveopt | Xsaveopt64)
        };
        Decoder::with_ip(64, &self.sequence.code, self.sequence.pc, DecoderOptions::NONE)
            .into_iter()
            .any(|one| stores(one.mnemonic()))
    }

    fn judge_once(&mut self, number: u64) -> Verdict {
        let pc = self.sequence.pc;
        self.machine.write(self.place * SLOT, &self.sequence.code);
        self.machine.run(Mode::Native, pc, &self.start, &mut self.native);
        let faulted = self.native.fault.signal != 0;
        let mut lines = Vec::new();
        self.reference.prepare(&self.sequence);
        // In which pass it faulted is not seen from outside.
        let unknown = self.sequence.dynamic || faulted && self.sequence.passes > 1;
        let stepped = unknown || number.is_multiple_of(SAMPLE);
        if stepped {
            let reference = std::mem::take(&mut self.reference);
            self.reference = self.machine.step(pc, &self.start, &mut self.stepped, reference);
        }
        if !unknown {
            let steps = self.reference.counts;
            if stepped {
                self.reference.prepare(&self.sequence);
            }
            self.reference.by_construction(
                &self.native.fault,
                self.sequence.passes,
                &self.start.xsave,
            );
            if stepped && self.stepped.fault.signal == self.native.fault.signal {
                lines.extend(count_differences(&steps, &self.reference.counts, "stepped"));
            }
        }
        // The kernel's save and restore between steps raises an x87 exception that FLDENV left pending.
        let ended_otherwise = stepped && self.stepped.fault.signal != self.native.fault.signal;
        let counted = self.machine.run(Mode::Translated, pc, &self.start, &mut self.translated);
        lines.extend(differences(&self.native, &self.translated));
        if !(unknown && ended_otherwise) {
            lines.extend(count_differences(&self.reference.counts, &counted, "reference"));
        }
        let released = HOST.take_unexpected();
        if released != 0 {
            lines.push(format!("the engine released the thread at {released:#x}"));
        }
        Verdict { lines, faulted, stepped, ended_otherwise }
    }

    /// Runs given code, lines of a name and hexadecimal bytes, from several states; `false` when one differs.
    pub fn run_vectors(mut self, text: &str) -> bool {
        const STATES: u64 = 16;
        let mut failures = 0;
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        for line in lines {
            let (name, hex) = line.split_once(':').expect("name: bytes");
            let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
            let code: Vec<u8> = digits
                .chunks(2)
                .map(|pair| std::str::from_utf8(pair).expect("ASCII"))
                .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal bytes"))
                .collect();
            for state in 0..STATES {
                let mut random = Random::new(state);
                self.random_start(&mut random, &Frame::of_vectors());
                self.place += 1;
                let base = match state % 8 {
                    3 => CHANGING,
                    5 => FAR_CODE,
                    7 => FAR_CHANGING,
                    _ => CODE,
                };
                self.maker.begin(&mut self.sequence, base + self.place * SLOT);
                self.maker.put_bytes(&mut self.sequence, &code);
                let again = (state % 2 == 1).then(Machine::again);
                self.maker.end(&mut self.sequence, again).expect("room for the end");
                self.sequence.dynamic = true;
                let verdict = self.judge(state);
                if !verdict.lines.is_empty() {
                    failures += 1;
                    println!("{name} differs:\n{}", describe(&self.sequence));
                    verdict.lines.iter().take(12).for_each(|line| println!("    {line}"));
                    break;
                }
            }
        }
        failures == 0
    }

    /// Runs all sequences; `false` when one differs.
    pub fn run(mut self) -> bool {
        let before = Instant::now();
        let mut coverage = Coverage::new(&self.cells);
        let (mut faulted, mut stepped, mut failures, mut done) = (0u64, 0u64, 0u32, 0u64);
        let (mut unrepeated, mut ended_otherwise) = (0u64, 0u64);
        let options = &self.options;
        println!(
            "seed {}, sequences {} to {}",
            options.seed,
            options.from,
            options.from + options.sequences
        );
        for number in self.options.from..self.options.from + self.options.sequences {
            self.place += 1;
            if self.place >= Machine::slots() {
                self.place = 2;
                self.machine.forget_code();
            }
            self.make(number);
            if self.options.show {
                print!("{}", describe(&self.sequence));
            }
            let mut verdict = self.judge(number);
            if !verdict.lines.is_empty() && !self.options.broken {
                // Once more: at a context switch AMD's CPUs forget the x87 pointers unless an exception is pending, so
                // FNSTENV stores zeros after one.
                self.place += 1;
                self.make(number);
                verdict = self.judge(number);
                unrepeated += u64::from(verdict.lines.is_empty());
            }
            done += 1;
            faulted += u64::from(verdict.faulted);
            stepped += u64::from(verdict.stepped);
            ended_otherwise += u64::from(verdict.ended_otherwise);
            for (item, &times) in self.sequence.items.iter().zip(&self.reference.completed) {
                if let Some(cell) = item.cell {
                    coverage.add(cell, u64::from(times));
                }
            }
            if !verdict.lines.is_empty() {
                failures += 1;
                println!(
                    "sequence {number} differs (--seed {} --only {number}):",
                    self.options.seed
                );
                print!("{}", describe(&self.sequence));
                verdict.lines.iter().take(12).for_each(|line| println!("    {line}"));
                if failures == if self.options.broken { 1 } else { MOST_FAILURES } {
                    break;
                }
            }
            if done.is_multiple_of(1_000_000) {
                println!("{done} sequences, {faulted} with a fault, {:.0?}", before.elapsed());
            }
        }
        println!(
            "{done} sequences of {} opcodes and shapes, {faulted} with a fault, {stepped} stepped, {failures} differ, \
             {unrepeated} differed once and not again, {ended_otherwise} ended otherwise when stepped, {:.1?}",
            self.cells.len(),
            before.elapsed()
        );
        println!("{}", coverage.summary());
        println!("differ by nature, overwritten directly behind:");
        for (mnemonic, _, reason) in DIFFER {
            println!("  {mnemonic:?}: {reason}");
        }
        let rare = coverage.below(100);
        println!("retired less than 100 times: {}", rare.len());
        for (cell, times) in rare.iter().take(if self.options.table { usize::MAX } else { 0 }) {
            println!("  {:?} {:?}: {times}", cell.code, cell.shape);
        }
        if self.options.table {
            println!("{}", coverage.table());
        }
        failures == 0
    }
}
