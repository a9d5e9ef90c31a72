//! What the code of a file is made of: basic blocks, instructions, and what one execution of each counts.
//!
//! # Limitations
//!
//! A basic block begins at a function's start, at the target of a direct branch and behind every instruction that
//! ends one. Targets of jump tables that are also reached by falling through are not known, so blocks are a
//! lower bound where tables are. The engine counts the blocks that are executed, each as it is entered.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    InstructionInfoOptions, Mnemonic, OpKind,
};
use object::read::ReadRef;
use weights::metric::{METRICS, Metric};
use weights::x86::{self, Repeats};

use crate::functions::{Function, Functions};
use crate::layout::Layout;

/// What code holds. Each instruction is counted once, as often as it stands there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Basic blocks.
    pub blocks: u64,
    /// What executing every instruction once counts, by the engine's weights, in the order of
    /// [`Metric`]. What a count at run time decides (the iterations of REP, the elements of a mask) is left out.
    pub counts: [u64; METRICS],
    /// Instructions of which such a part is left out.
    pub varying: u64,
    /// `syscall` instructions.
    pub syscalls: u64,
    /// Places that hold no instruction: data between code, or an instruction that the decoder does not know.
    pub undecodable: u64,
}

impl Content {
    /// Instructions.
    pub fn instructions(&self) -> u64 {
        self.counts[Metric::Instructions as usize]
    }

    fn add(&mut self, other: &Content) {
        self.blocks += other.blocks;
        self.varying += other.varying;
        self.syscalls += other.syscalls;
        self.undecodable += other.undecodable;
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }
}

/// The code of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// What each function holds, in the order of the functions.
    pub functions: Vec<Content>,
    /// All of them together.
    pub total: Content,
    /// Addresses of `syscall` instructions, each with its function's place in the list.
    pub syscalls: Vec<(u64, usize)>,
}

/// Decodes every function; `progress` hears of the bytes done.
pub fn read<'data, R: ReadRef<'data>>(
    layout: &Layout<'data, R>,
    functions: &Functions,
    mut progress: impl FnMut(u64),
) -> Code {
    let mut code = Code::default();
    let mut starts = Vec::new();
    let mut factory = InstructionInfoFactory::new();
    for (place, function) in functions.list.iter().enumerate() {
        let mut content = Content::default();
        starts.push(function.address);
        let has_bytes = each_instruction(layout, function, |instruction| {
            if instruction.is_invalid() {
                content.undecodable += 1;
                return;
            }
            let options = InstructionInfoOptions::NO_REGISTER_USAGE;
            let weights = x86::of(instruction, factory.info_options(instruction, options));
            for (sum, weight) in content.counts.iter_mut().zip(weights.fixed.0) {
                *sum += u64::from(weight);
            }
            content.varying += u64::from(weights.repeats != Repeats::Never);
            if instruction.mnemonic() == Mnemonic::Syscall {
                content.syscalls += 1;
                code.syscalls.push((instruction.ip(), place));
            }
            if instruction.flow_control() != FlowControl::Next {
                starts.push(instruction.next_ip());
                let targets = (0..instruction.op_count())
                    .any(|operand| instruction.op_kind(operand) == OpKind::NearBranch64);
                if targets {
                    starts.push(instruction.near_branch64());
                }
            }
        });
        content.undecodable += u64::from(!has_bytes);
        code.functions.push(content);
        progress(function.size);
    }
    starts.sort_unstable();
    starts.dedup();
    for (content, function) in code.functions.iter_mut().zip(&functions.list) {
        let before = |address| starts.partition_point(|start| *start < address);
        content.blocks =
            (before(function.address + function.size) - before(function.address)) as u64;
        code.total.add(content);
    }
    code
}

/// Decodes a function from its start to its end; `false` if the file does not hold its bytes.
pub fn each_instruction<'data, R: ReadRef<'data>>(
    layout: &Layout<'data, R>,
    function: &Function,
    mut visit: impl FnMut(&Instruction),
) -> bool {
    let Some(bytes) = layout.bytes_at(function.address, function.size) else { return false };
    let mut decoder = Decoder::with_ip(64, bytes, function.address, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        visit(&instruction);
    }
    true
}

/// A symbol as its author wrote it: Rust and C++ names are demangled, others stay.
pub fn demangle(symbol: &str) -> String {
    if let Ok(name) = rustc_demangle::try_demangle(symbol) {
        // Without the hash.
        return format!("{name:#}");
    }
    if symbol.starts_with("_Z")
        && let Ok(name) = cpp_demangle::Symbol::new(symbol)
        && let Ok(text) = name.demangle()
    {
        return text;
    }
    symbol.to_owned()
}
