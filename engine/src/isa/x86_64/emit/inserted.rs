//! The forms of what the engine inserts into a block. None changes a flag but [`Code::count`] and [`Code::increment`].

use crate::isa::x86_64::context::{disp, spill};
use crate::isa::x86_64::emit::buffer::Code;
use crate::isa::x86_64::registers::gpr;

impl<const N: usize> Code<N> {
    /// `add qword gs:[counter], times`: the block's counter where flags are dead.
    pub fn count(&mut self, slot: u32, times: u8) {
        self.put(&[0x65, 0x48, 0x83, 0x04, 0x25]);
        self.put_u32(disp::counter(slot) as u32);
        self.put(&[times]);
    }

    /// `inc qword gs:[counter]`: the block's counter where all flags but the carry are dead.
    pub fn increment(&mut self, slot: u32) {
        self.put(&[0x65, 0x48, 0xff, 0x04, 0x25]);
        self.put_u32(disp::counter(slot) as u32);
    }

    /// The block's counter where flags are live: through LEA and a register that is put aside.
    pub fn count_aside(&mut self, register: usize, slot: u32, times: u8) {
        self.store(register, disp::spill(spill::ANY));
        self.count_through(register, slot, times);
        self.load(register, disp::spill(spill::ANY));
    }

    /// The block's counter through a register whose value is not needed.
    pub fn count_through(&mut self, register: usize, slot: u32, times: u8) {
        self.load(register, disp::counter(slot));
        let (high, low) = (register as u8 >> 3, register as u8 & 7);
        self.put(&[0x48 | high << 2 | high, 0x8d, 0x40 | low << 3 | low]); // lea register, [register+times]
        if low == gpr::RSP as u8 {
            self.put(&[0x24]); // R12 as a base needs a SIB byte
        }
        self.put(&[times]);
        self.store(register, disp::counter(slot));
    }

    /// Adds RCX (ECX when the instruction's addresses are 32-bit) to a slot, flags untouched.
    pub fn add_rcx(&mut self, slot: u32, narrow: bool) {
        self.with_rcx_and_slot(slot, narrow, &[0x48, 0x8d, 0x04, 0x10]); // lea rax, [rax+rdx]
    }

    /// Subtracts RCX (or ECX) from a slot, flags untouched.
    pub fn subtract_rcx(&mut self, slot: u32, narrow: bool) {
        // not rax; lea rax, [rax+rdx+1]
        self.with_rcx_and_slot(slot, narrow, &[0x48, 0xf7, 0xd0, 0x48, 0x8d, 0x44, 0x10, 0x01]);
    }

    fn with_rcx_and_slot(&mut self, slot: u32, narrow: bool, combine: &[u8]) {
        self.store(gpr::RAX, disp::spill(spill::RAX));
        self.store(gpr::RDX, disp::spill(spill::RDX));
        self.load(gpr::RDX, disp::counter(slot));
        if narrow {
            self.put(&[0x89, 0xc8]); // mov eax, ecx
        } else {
            self.put(&[0x48, 0x89, 0xc8]); // mov rax, rcx
        }
        self.put(combine);
        self.store(gpr::RAX, disp::counter(slot));
        self.load(gpr::RAX, disp::spill(spill::RAX));
        self.load(gpr::RDX, disp::spill(spill::RDX));
    }

    /// Adds the number of bits set in `RAX & lanes` to a slot; `mask` fetches the bits into RAX. Flags are
    /// kept by LAHF/SETO, because POPCNT clears them.
    pub fn add_population(&mut self, slot: u32, lanes: u64, mask: &[u8]) {
        self.store(gpr::RAX, disp::spill(spill::RAX));
        self.put(&[0x9f, 0x0f, 0x90, 0xc0]); // lahf; seto al
        self.store(gpr::RAX, disp::spill(spill::FLAGS));
        self.put(mask);
        match lanes {
            64 => {}
            32 => self.put(&[0x89, 0xc0]), // mov eax, eax
            _ => {
                self.put(&[0x25]); // and eax, imm32
                self.put_u32((1u32 << lanes) - 1);
            }
        }
        self.put(&[0xf3, 0x48, 0x0f, 0xb8, 0xc0]); // popcnt rax, rax
        self.put(&[0x65, 0x48, 0x01, 0x04, 0x25]); // add gs:[slot], rax
        self.put_u32(disp::counter(slot) as u32);
        self.load(gpr::RAX, disp::spill(spill::FLAGS));
        self.put(&[0x04, 0x7f, 0x9e]); // add al, 0x7f; sahf
        self.load(gpr::RAX, disp::spill(spill::RAX));
    }

    /// Compares `len` bytes at `source` with their copy and goes on behind when they are equal, else to `changed`.
    /// RAX and the status flags are kept: what stands there by now may read them.
    ///
    /// A source that is `far` is out of a displacement's reach.
    pub fn compare_source(&mut self, source: u64, copy: u64, len: usize, changed: u64, far: bool) {
        self.store(gpr::RAX, disp::spill(spill::ANY));
        self.put(&[0x9f, 0x0f, 0x90, 0xc0]); // lahf; seto al
        self.store(gpr::RAX, disp::spill(spill::FLAGS));
        let mut done = 0;
        while done < len {
            // The last chunk overlaps the one before it rather than reading beyond the end.
            let size = match len {
                8.. => 8,
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
            let at = done.min(len - size) as u64;
            for (opcode, from) in [(0x8b, source), (0x3b, copy)] {
                // mov rax, [rip+source]; cmp rax, [rip+copy], and their narrow forms; `mov rax, [source]` has one with
                // an address of 64 bits.
                let by_address = far && from == source;
                let opcode = if by_address { 0xa1 } else { opcode };
                match size {
                    8 => self.put(&[0x48, opcode]),
                    4 => self.put(&[opcode]),
                    2 => self.put(&[0x66, opcode]),
                    _ => self.put(&[opcode - 1]),
                }
                if by_address {
                    self.put(&(from + at).to_le_bytes());
                } else {
                    self.put(&[0x05]);
                    self.put_disp_to(from + at);
                }
            }
            self.put(&[0x0f, 0x85]); // jne
            self.put_disp_to(changed);
            done += size;
        }
        self.after_compare();
    }

    /// Restores what [`Code::compare_source`] works with.
    pub fn after_compare(&mut self) {
        self.load(gpr::RAX, disp::spill(spill::FLAGS));
        self.put(&[0x04, 0x7f, 0x9e]); // add al, 0x7f; sahf
        self.load(gpr::RAX, disp::spill(spill::ANY));
    }
}
