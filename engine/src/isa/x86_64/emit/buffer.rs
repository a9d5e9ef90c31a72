//! A buffer of machine code at a known address, and the few instruction forms that the engine inserts.
//!
//! None of the inserted forms changes a flag, except [`Code::count`].

use core::mem::MaybeUninit;

use crate::isa::x86_64::context::{disp, spill};
use crate::isa::x86_64::registers::gpr;

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

    pub(crate) fn put_u32(&mut self, value: u32) {
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

    /// Keeps RCX aside, which the ways to and from a lookup work with.
    pub fn spill_rcx(&mut self) {
        self.store(gpr::RCX, disp::spill(spill::ANY));
    }

    /// Gives RCX back.
    pub fn unspill_rcx(&mut self) {
        self.load(gpr::RCX, disp::spill(spill::ANY));
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
