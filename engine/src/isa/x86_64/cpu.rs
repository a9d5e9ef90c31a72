//! What this CPU has, as far as translations depend on it.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicU8, Ordering};

/// Properties of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu(u8);

impl Cpu {
    const KNOWN: u8 = 1;
    const AMD: u8 = 1 << 1;
    const SSE4_2: u8 = 1 << 2;
    const BMI2: u8 = 1 << 3;

    /// The one that this thread runs on. It is asked once: CPUID leaves a virtual machine.
    pub fn this() -> Cpu {
        static THIS: AtomicU8 = AtomicU8::new(0);
        let mut bits = THIS.load(Ordering::Relaxed);
        if bits == 0 {
            bits = Cpu::ask();
            THIS.store(bits, Ordering::Relaxed);
        }
        Cpu(bits)
    }

    fn ask() -> u8 {
        // SDM vol. 2, "CPUID": 1:ECX bit 20, 7:EBX bit 8. The vendor by its EBX: "AuthenticAMD" and "HygonGenuine".
        let leaf_0 = __cpuid(0);
        let amd = matches!(&leaf_0.ebx.to_le_bytes(), b"Auth" | b"Hygo");
        let sse4_2 = __cpuid(1).ecx & 1 << 20 != 0;
        let bmi2 = leaf_0.eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 8 != 0;
        let properties = [(amd, Cpu::AMD), (sse4_2, Cpu::SSE4_2), (bmi2, Cpu::BMI2)];
        properties.iter().filter(|(has, _)| *has).fold(Cpu::KNOWN, |all, (_, bit)| all | bit)
    }

    /// AMD's, or Hygon's of the same design.
    pub fn is_amd(self) -> bool {
        self.0 & Cpu::AMD != 0
    }

    /// It has CRC32.
    pub fn has_sse4_2(self) -> bool {
        self.0 & Cpu::SSE4_2 != 0
    }

    /// It has RORX.
    pub fn has_bmi2(self) -> bool {
        self.0 & Cpu::BMI2 != 0
    }
}

/// Has the calling thread execute no instruction that it fetched before: it must not where it has written code at other
/// addresses than it executes it at (SDM vol. 3, 9.1.3). By IRETQ: a virtual machine's CPUID takes microseconds.
pub fn serialize() {
    // SAFETY: goes on at the next instruction, with the stack pointer and flags of before.
    unsafe {
        core::arch::asm!(
            "mov {stack}, rsp",
            "mov {word:e}, ss", "push {word}", "push {stack}", "pushfq",
            "mov {word:e}, cs", "push {word}", "lea {word}, [rip + 2f]", "push {word}",
            "iretq",
            "2:",
            stack = out(reg) _, word = out(reg) _, options(preserves_flags),
        );
    }
}
