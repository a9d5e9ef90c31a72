//! Where branches stand that are linked while other threads execute them.

use crate::isa::x86_64::emit::buffer::Code;

impl<const N: usize> Code<N> {
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
}
