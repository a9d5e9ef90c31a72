//! The look at the target of an indirect branch: what stands in front of the code that it leads to.
//!
//! # Design
//! The table has told the target's low 16 bits; the rest must be compared without touching a flag. CRC32 does so in one
//! instruction: begun with the right number it gives zero for the right target. A cyclic redundancy check of 32 bits finds
//! every burst of errors up to 32 bits long (Peterson and Brown, "Cyclic codes for error detection", 1961), and
//! addresses of user space with the same low 16 bits differ in bits 16 to 46 alone, so it is as exact as a comparison. An
//! address that no memory can have, with any of the bits 47 to 63 set, is taken for the target in one of 2^32 cases;
//! natively the branch to it would fault. CPUs without SSE4.2 compare by LEA and BSWAP.

use core::sync::atomic::{AtomicU8, Ordering};

use super::emit::Code;
use super::targets::Way;
use super::thread::{disp, gpr};

/// The polynomial of the CRC32 instruction (SDM vol. 2), bits reflected: Castagnoli's.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// How a pad compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// By CRC32.
    Crc,
    /// By LEA and BSWAP.
    Difference,
}

impl Comparison {
    /// The best that this CPU has. It is asked once: CPUID leaves a virtual machine.
    pub fn of_this_cpu() -> Comparison {
        const SSE4_2: u32 = 1 << 20; // CPUID.1:ECX (SDM vol. 2)
        static KNOWN: AtomicU8 = AtomicU8::new(0);
        let mut known = KNOWN.load(Ordering::Relaxed);
        if known == 0 {
            known = if core::arch::x86_64::__cpuid(1).ecx & SSE4_2 != 0 { 1 } else { 2 };
            KNOWN.store(known, Ordering::Relaxed);
        }
        if known == 1 { Comparison::Crc } else { Comparison::Difference }
    }
}

/// What CRC32 must begin with to give zero for this word.
fn crc_begin(word: u64) -> u32 {
    word.to_le_bytes().iter().rev().fold(0, |after: u32, &byte| {
        let before = (0..8).fold(after, |crc, _| match crc >> 31 {
            0 => crc << 1,
            _ => (crc ^ POLYNOMIAL) << 1 | 1,
        });
        before ^ u32::from(byte)
    })
}

impl<const N: usize> Code<N> {
    /// The way in for an indirect branch to `pc`: goes on behind when that is the target, else through the word at
    /// `link`. RCX lies aside.
    pub fn pad(&mut self, way: Way, pc: u64, link: u64, comparison: Comparison) {
        match comparison {
            Comparison::Crc => {
                self.put(&[0xb9]); // mov ecx, imm32
                self.put(&crc_begin(pc).to_le_bytes());
                match way {
                    Way::Jump => {
                        // crc32 rcx, qword gs:[target]
                        self.put(&[0x65, 0xf2, 0x48, 0x0f, 0x38, 0xf1, 0x0c, 0x25]);
                        self.put(&(disp::LOOKUP_TARGET as u32).to_le_bytes());
                    }
                    // crc32 rcx, qword [rsp-8]
                    Way::Return => self.put(&[0xf2, 0x48, 0x0f, 0x38, 0xf1, 0x4c, 0x24, 0xf8]),
                }
            }
            Comparison::Difference => {
                match way {
                    Way::Jump => self.load(gpr::RCX, disp::LOOKUP_TARGET),
                    Way::Return => self.put(&[0x48, 0x8b, 0x4c, 0x24, 0xf8]), // mov rcx, [rsp-8]
                }
                let low = pc as i32;
                let high = (pc.wrapping_sub(low as u64) >> 32) as u32;
                self.subtract_from_rcx(i64::from(low));
                if high != 0 {
                    // If it was the target, RCX is its upper half in the upper half now; a displacement is of the
                    // lower.
                    self.put(&[0x48, 0x0f, 0xc9]); // bswap rcx
                    self.subtract_from_rcx(i64::from(high.swap_bytes()));
                }
            }
        }
        self.put(&[0xe3, 0x06]); // jrcxz over the jump
        self.put(&[0xff, 0x25]); // jmp [link]
        self.put_disp_to(link);
        self.unspill_rcx();
    }

    /// `lea rcx, [rcx - value]`, in two steps when the value has 32 bits without its sign.
    fn subtract_from_rcx(&mut self, value: i64) {
        let steps = match i32::try_from(-value) {
            Ok(whole) => [whole, 0],
            Err(_) => [(-value / 2) as i32, (-value - -value / 2) as i32],
        };
        for step in steps.into_iter().filter(|&step| step != 0) {
            self.put(&[0x48, 0x8d, 0x89]);
            self.put(&step.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    /// Executes a pad for `pc` with `target` below the stack pointer; whether it took it for its own.
    fn takes(comparison: Comparison, pc: u64, target: u64) -> bool {
        let page = sys::map_anonymous(0, 4096, sys::PROT_READ | sys::PROT_WRITE | sys::PROT_EXEC);
        let page = page.unwrap() as u64;
        let (link, other) = (page + 1024, page + 2048);
        let mut code: Code<128> = Code::at(page);
        code.put(&[0x56, 0x59]); // push rsi; pop rcx
        code.pad(Way::Return, pc, link, comparison);
        // The pad ends by loading RCX from GS, which is nobody's here: left out.
        let bytes = &code.bytes()[..code.len() - 9];
        // SAFETY: a fresh page; the code returns 1 or, through the word at `link`, 0.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), page as *mut u8, bytes.len());
            let end = [0xb8, 1, 0, 0, 0, 0xc3]; // mov eax, 1; ret
            core::ptr::copy_nonoverlapping(end.as_ptr(), (page as *mut u8).add(bytes.len()), 6);
            *(other as *mut [u8; 3]) = [0x31, 0xc0, 0xc3]; // xor eax, eax; ret
            *(link as *mut u64) = other;
            let pad: extern "sysv64" fn(u64, u64) -> u32 = core::mem::transmute(page as usize);
            let taken = pad(0, target) == 1;
            sys::unmap(page as usize, 4096);
            taken
        }
    }

    #[test]
    fn a_pad_takes_its_own_target_alone() {
        let targets = [
            0x40_1000u64,
            0x5555_5555_1234,
            0x7fff_8000_0000,
            0x7fff_ffff_fffe,
            0x8000_0001,
            0x7f12_8765_4321,
        ];
        for comparison in [Comparison::Crc, Comparison::Difference] {
            for pc in targets {
                assert!(takes(comparison, pc, pc), "{comparison:?} {pc:x}");
                for bit in 0..64 {
                    assert!(!takes(comparison, pc, pc ^ 1 << bit), "{comparison:?} {pc:x} {bit}");
                }
                for i in 1..200u64 {
                    let other = pc ^ (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33 << 16);
                    assert!(!takes(comparison, pc, other), "{comparison:?} {pc:x} {other:x}");
                }
            }
        }
    }

    #[test]
    fn crc_begins_with_what_ends_in_zero() {
        for word in [0, 1, u64::MAX, 0x7f12_8765_4321] {
            let mut crc = crc_begin(word);
            for byte in word.to_le_bytes() {
                crc ^= u32::from(byte);
                for _ in 0..8 {
                    crc = crc >> 1 ^ if crc & 1 == 0 { 0 } else { POLYNOMIAL };
                }
            }
            assert_eq!(crc, 0, "{word:x}");
        }
    }
}
