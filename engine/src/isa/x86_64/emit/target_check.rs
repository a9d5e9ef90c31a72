//! The look at the target of an indirect branch: what stands in front of the code that it leads to.
//!
//! # Design
//! The table has told 16 of the target's bits ([`super::lookup`]); the rest must be compared without touching a flag. CRC32
//! does so in one instruction: begun with the right number it gives the wanted one for the right target. It is as exact as a
//! comparison: with 16 bits known, two addresses of user space can differ in 31 bits, and the redundancy checks of these 31
//! are linearly independent, so no difference of two addresses has the check 0 (a test computes their rank). An
//! address that no memory can have, with any of the bits 47 to 63 set, is taken for the target in one of 2^32 cases;
//! natively the branch to it would fault. CPUs without SSE4.2 compare by LEA and BSWAP.
//!
//! LOOP goes on behind itself when RCX was 1, so it stands where the target is right and the branch is not taken: a taken
//! one for each pad wants a place in the branch predictor, of which large programs have too few. Where it is slow, JRCXZ is
//! taken when the target is right.

use crate::isa::x86_64::context::disp;
use crate::isa::x86_64::emit::buffer::Code;
use crate::isa::x86_64::emit::ibl::Comparison;
use crate::isa::x86_64::exits::Way;
use crate::isa::x86_64::registers::gpr;

/// The polynomial of the CRC32 instruction (SDM vol. 2), bits reflected: Castagnoli's.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What CRC32 must begin with to give `end` for this word.
fn crc_begin(word: u64, end: u32) -> u32 {
    word.to_le_bytes().iter().rev().fold(end, |after: u32, &byte| {
        let before = (0..8).fold(after, |crc, _| match crc >> 31 {
            0 => crc << 1,
            _ => (crc ^ POLYNOMIAL) << 1 | 1,
        });
        before ^ u32::from(byte)
    })
}

/// Bytes of `jmp [link]`.
const LEAVE_BYTES: usize = 6;

impl<const N: usize> Code<N> {
    /// The way in for an indirect branch to `pc`: goes on behind when that is the target, else through the word at
    /// `link`. RCX lies aside. Returns the offset of its first instruction.
    pub fn pad(&mut self, way: Way, pc: u64, link: u64, comparison: Comparison) -> usize {
        let mut entry = self.len();
        match comparison {
            Comparison::CrcAndLoop => {
                let other = self.len();
                self.leave_by(link);
                entry = self.len();
                self.check(way, crc_begin(pc, 1));
                self.put(&[0xe2]); // loop other
                self.put(&[(other as i8).wrapping_sub(self.len() as i8 + 1).cast_unsigned()]);
            }
            Comparison::Crc => {
                self.check(way, crc_begin(pc, 0));
                self.put(&[0xe3, LEAVE_BYTES as u8]); // jrcxz over the jump
                self.leave_by(link);
            }
            Comparison::Difference => {
                self.subtract(way, pc);
                self.put(&[0xe3, LEAVE_BYTES as u8]);
                self.leave_by(link);
            }
        }
        #[cfg(feature = "sabotage")]
        if crate::mutants::is("pad_loses_rcx") {
            return entry;
        } else if crate::mutants::is("pad_changes_flags") {
            self.put(&[0x65, 0x48, 0x03, 0x0c, 0x25]); // add rcx, gs:[spill]: RCX is 0
            self.put(&(disp::spill(crate::isa::x86_64::context::spill::ANY) as u32).to_le_bytes());
            return entry;
        }
        self.unspill_rcx();
        entry
    }

    /// `jmp [link]`
    fn leave_by(&mut self, link: u64) {
        self.put(&[0xff, 0x25]);
        self.put_disp_to(link);
    }

    /// RCX becomes the redundancy check of the target.
    fn check(&mut self, way: Way, begin: u32) {
        self.put(&[0xb9]); // mov ecx, imm32
        self.put(&begin.to_le_bytes());
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

    /// RCX becomes 0 if `pc` is the target, and only then.
    fn subtract(&mut self, way: Way, pc: u64) {
        match way {
            Way::Jump => self.load(gpr::RCX, disp::LOOKUP_TARGET),
            Way::Return => self.put(&[0x48, 0x8b, 0x4c, 0x24, 0xf8]), // mov rcx, [rsp-8]
        }
        let low = pc as i32;
        let high = (pc.wrapping_sub(low as u64) >> 32) as u32;
        self.subtract_from_rcx(i64::from(low));
        if high != 0 {
            // If it was the target, RCX is its upper half in the upper half now; a displacement is of the lower.
            self.put(&[0x48, 0x0f, 0xc9]); // bswap rcx
            self.subtract_from_rcx(i64::from(high.swap_bytes()));
        }
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
    use crate::isa::x86_64::emit::ibl::HASH_BITS;
    use crate::os::memory;

    /// Executes a pad for `pc` with `target` below the stack pointer; whether it took it for its own.
    fn takes(comparison: Comparison, pc: u64, target: u64) -> bool {
        let page = memory::map_anonymous(
            0,
            4096,
            memory::PROT_READ | memory::PROT_WRITE | memory::PROT_EXEC,
        );
        let page = page.unwrap() as u64;
        let (link, other) = (page + 1024, page + 2048);
        let mut code: Code<128> = Code::at(page + 16);
        let entry = code.pad(Way::Return, pc, link, comparison) as u8;
        // The pad ends by loading RCX from GS, which is nobody's here: left out.
        let bytes = &code.bytes()[..code.len() - 9];
        // SAFETY: a fresh page; the code returns 1 or, through the word at `link`, 0.
        unsafe {
            *(page as *mut [u8; 4]) = [0x56, 0x59, 0xeb, 12 + entry]; // push rsi; pop rcx; jmp to the pad
            let pad = (page + 16) as *mut u8;
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), pad, bytes.len());
            let end = [0xb8, 1, 0, 0, 0, 0xc3]; // mov eax, 1; ret
            core::ptr::copy_nonoverlapping(end.as_ptr(), pad.add(bytes.len()), 6);
            *(other as *mut [u8; 3]) = [0x31, 0xc0, 0xc3]; // xor eax, eax; ret
            *(link as *mut u64) = other;
            let pad: extern "sysv64" fn(u64, u64) -> u32 = core::mem::transmute(page as usize);
            let taken = pad(0, target) == 1;
            memory::unmap(page as usize, 4096);
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
        for comparison in [Comparison::CrcAndLoop, Comparison::Crc, Comparison::Difference] {
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

    /// CRC32 of a word, begun with this number.
    fn crc(begin: u32, word: u64) -> u32 {
        word.to_le_bytes().iter().fold(begin, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * POLYNOMIAL))
        })
    }

    #[test]
    fn crc_begins_with_what_ends_as_it_should() {
        for word in [0, 1, u64::MAX, 0x7f12_8765_4321] {
            for end in [0, 1] {
                assert_eq!(crc(crc_begin(word, end), word), end, "{word:x}");
            }
        }
    }

    #[test]
    fn no_two_addresses_of_one_entry_have_the_same_check() {
        const ADDRESS_BITS: u32 = 47;
        for shift in [0, 4] {
            // Gauss: a check that the ones before it give together would become 0.
            let mut independent = [0u32; 32];
            let compared =
                (0..ADDRESS_BITS).filter(|bit| !(shift..shift + HASH_BITS).contains(bit));
            for bit in compared {
                let mut rest = crc(0, 1 << bit);
                while rest != 0 && independent[rest.ilog2() as usize] != 0 {
                    rest ^= independent[rest.ilog2() as usize];
                }
                assert_ne!(rest, 0, "bit {bit} of targets at shift {shift}");
                independent[rest.ilog2() as usize] = rest;
            }
        }
    }
}
