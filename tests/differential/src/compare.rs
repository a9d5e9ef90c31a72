//! What differs between two runs.

use engine::{METRICS, Metric};

use crate::machine::{DATA, Outcome};
use crate::reference::Counts;

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
/// RFLAGS that programs own: status, DF, TF, AC, ID and the constant bits; RF depends on how a fault came about.
const FLAGS: u64 = 0x0024_7fd7;
/// The x87 instruction pointer in the XSAVE area.
const FIP: std::ops::Range<usize> = 8..16;

/// Lines that say what differs; none when nothing does.
pub fn differences(native: &Outcome, translated: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |what: &str, a: u64, b: u64| {
        if a != b {
            lines.push(format!("{what}: native {a:#x}, translated {b:#x}"));
        }
    };
    for (register, name) in NAMES.iter().enumerate() {
        say(name, native.gpr[register], translated.gpr[register]);
    }
    say("rflags", native.flags & FLAGS, translated.flags & FLAGS);
    say("fs base", native.fs, translated.fs);
    say("signal", native.fault.signal as u64, translated.fault.signal as u64);
    say("si_code", native.fault.code as u64, translated.fault.code as u64);
    say("si_addr", native.fault.address, translated.fault.address);
    say("pc", native.fault.pc, translated.fault.pc);
    let faulted = native.fault.signal != 0;
    if native.xsave != translated.xsave {
        for (at, (a, b)) in native.xsave.iter().zip(&translated.xsave).enumerate() {
            // A thread that is released keeps the pointer to the last x87 instruction in the cache in the CPU; what
            // a sequence stores itself, and what a handler sees, is compared.
            if FIP.contains(&at) && !faulted {
                continue;
            }
            if a != b {
                say(&format!("xsave area, byte {at}"), u64::from(*a), u64::from(*b));
            }
        }
    }
    if native.window != translated.window {
        for (at, (a, b)) in native.window.iter().zip(&translated.window[..]).enumerate() {
            if a != b {
                say(&format!("memory {:#x}", DATA + at as u64), u64::from(*a), u64::from(*b));
            }
        }
    }
    lines
}

/// Lines that say which counts differ.
pub fn count_differences(expected: &Counts, counted: &Counts, by: &str) -> Vec<String> {
    (0..METRICS)
        .filter(|&m| expected[m] != counted[m])
        .map(|m| format!("{}: {by} {}, engine {}", Metric::ALL[m].name(), expected[m], counted[m]))
        .collect()
}
