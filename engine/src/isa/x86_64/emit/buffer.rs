//! A buffer of machine code at a known address, and the few instruction forms that the engine inserts.
//!
//! None of the inserted forms changes a flag, except [`Code::count`].

use core::mem::MaybeUninit;

use super::thread::{disp, gpr, spill};

/// Largest translation of one block.
pub const MAX_CODE: usize = 12 * 1024;

/// Bytes of padding before a far jump's first byte.
pub const FAR_PADDING: usize = 2;

/// Code under construction for `address`, at most `N` bytes.
pub struct Code<const N: usize = MAX_CODE> {
    /// Where the first byte will be executed.
    pub address: u64,
    bytes: [MaybeUninit<u8>; N],
    len: usize,
}

impl<const N: usize> Code<N> {
    /// An empty buffer for code at `address`.
    pub fn at(address: u64) -> Code<N> {
        // Clearing 12 KiB for each block would cost more than emitting it.
        Code { address, bytes: [const { MaybeUninit::uninit() }; N], len: 0 }
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the first `len` bytes were written by `put`.
        unsafe { core::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.len) }
    }

    /// The same, to be broken.
    #[cfg(feature = "sabotage")]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        unsafe { core::slice::from_raw_parts_mut(self.bytes.as_mut_ptr().cast(), self.len) }
    }

    /// Number of bytes so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Address of the next byte.
    pub fn here(&self) -> u64 {
        self.address + self.len as u64
    }

    /// Appends raw bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].write_copy_of_slice(bytes);
        self.len += bytes.len();
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    /// Overwrites a 32-bit field at an offset.
    pub fn set_u32(&mut self, offset: usize, value: u32) {
        assert!(offset + 4 <= self.len);
        self.bytes[offset..offset + 4].write_copy_of_slice(&value.to_le_bytes());
    }

    /// `op reg, gs:[disp32]` in its 64-bit form.
    fn gs_form(&mut self, opcode: u8, reg: usize, disp: usize) {
        self.put(&[0x65, 0x48 | ((reg as u8 & 8) >> 1), opcode, ((reg as u8 & 7) << 3) | 4, 0x25]);
        self.put_u32(disp as u32);
    }

    /// `mov gs:[disp], reg`
    pub fn store(&mut self, reg: usize, disp: usize) {
        self.gs_form(0x89, reg, disp);
    }

    /// `mov reg, gs:[disp]`
    pub fn load(&mut self, reg: usize, disp: usize) {
        self.gs_form(0x8b, reg, disp);
    }

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

    /// `mov reg, imm64`
    pub fn load_immediate(&mut self, reg: usize, value: u64) {
        self.put(&[0x48 | (reg as u8 >> 3), 0xb8 | (reg as u8 & 7)]);
        self.put(&value.to_le_bytes());
    }

    /// `push qword [literal]`, one full store so that the matching RET's load is forwarded.
    pub fn push_literal(&mut self, literal: u64) {
        self.put(&[0xff, 0x35]);
        self.put_disp_to(literal);
    }

    /// The 32-bit displacement, last in its instruction, that leads to `target`.
    pub fn put_disp_to(&mut self, target: u64) {
        let next = self.here() + 4;
        self.put_u32(target.wrapping_sub(next) as u32);
    }

    /// `jmp rel32` to a fixed place in the same arena.
    pub fn jump(&mut self, target: u64) {
        self.put(&[0xe9]);
        self.put_disp_to(target);
    }

    /// May a displacement that is linked lie at this address? It is written by one store: see
    /// [`super::cache::Arena::patch`].
    pub fn holds_field(at: u64) -> bool {
        at % 8 <= 4
    }

    /// May a jump (`e9 rel32`) that is linked stand at this address? A NOP takes its place, and it that of a NOP.
    pub fn holds_jump(at: u64) -> bool {
        at % 8 <= 3
    }

    /// Begins a branch whose displacement, `before` bytes from here, may be written by one store.
    pub fn align_field(&mut self, before: u64) {
        self.prefix_until(|at| Self::holds_field(at + before));
    }

    /// Begins a jump whose opcode may stand here.
    pub fn align_jump(&mut self) {
        self.prefix_until(Self::holds_jump);
    }

    /// Puts as few CS prefixes as there can be: branches and NOPs ignore them, and they are no instruction more.
    fn prefix_until(&mut self, right: impl Fn(u64) -> bool) {
        while !right(self.here()) {
            self.put(&[0x2e]);
        }
    }

    /// Pads with as few NOPs as there can be until the address is right.
    pub fn pad_until(&mut self, right: impl Fn(u64) -> bool) {
        /// The multi-byte forms that the SDM recommends (vol. 2, NOP).
        const NOPS: [&[u8]; 7] = [
            &[0x90],
            &[0x66, 0x90],
            &[0x0f, 0x1f, 0],
            &[0x0f, 0x1f, 0x40, 0],
            &[0x0f, 0x1f, 0x44, 0, 0],
            &[0x66, 0x0f, 0x1f, 0x44, 0, 0],
            &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
        ];
        let here = self.here();
        let mut bytes = (0..).find(|bytes| right(here + bytes)).unwrap_or(0) as usize;
        while bytes > 0 {
            let nop = NOPS[bytes.min(NOPS.len()) - 1];
            self.put(nop);
            bytes -= nop.len();
        }
    }

    /// Keeps RCX aside, which the ways to and from a lookup work with.
    pub fn spill_rcx(&mut self) {
        self.store(gpr::RCX, disp::spill(spill::ANY));
    }

    /// Gives RCX back.
    pub fn unspill_rcx(&mut self) {
        self.load(gpr::RCX, disp::spill(spill::ANY));
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

    /// Names the exit and leaves for the dispatcher.
    pub fn exit(&mut self, exit: u32, to_dispatcher: u64) {
        self.put(&[0x65, 0xc7, 0x04, 0x25]); // mov dword gs:[exit], imm32
        self.put_u32(disp::EXIT as u32);
        self.put_u32(exit);
        self.jump(to_dispatcher);
    }

    /// `jmp [rip+0]` with the 64-bit address behind it: reaches anywhere. Comes after [`FAR_PADDING`] bytes where the
    /// code begins at a multiple of eight: the address is aligned, as the application may have alignment checks on.
    pub fn jump_far(&mut self, target: u64) {
        self.put(&[0x90; FAR_PADDING]);
        self.put(&[0xff, 0x25, 0, 0, 0, 0]);
        self.put(&target.to_le_bytes());
    }
}
