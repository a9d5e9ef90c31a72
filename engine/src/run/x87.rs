//! What lies in the x87 and vector state of an interrupted thread: the x87 instruction pointer, and masks.
//!
//! # Design
//! The CPU remembers where the last x87 instruction lay (FIP), and FNSTENV, FNSAVE, FXSAVE and the XSAVE family store it.
//! For translated code that is a place in the cache. So a block that begins with one of these first leaves for the
//! dispatcher, which puts the application's address into the CPU by FXRSTOR; then they store what they would
//! natively, in every format. Signal frames are corrected when a handler is about to see them.
//!
//! # Limitations
//! A pointer into a cache that another thread flushed meanwhile is shown as zero. A thread that is released keeps the cache's address until its
//! next x87 instruction.

use core::arch::x86_64::{_fxrstor, _fxrstor64, _fxsave64};

use crate::run::engine::Engine;

/// Offset of the 64-bit instruction pointer in the FXSAVE64 area (SDM vol. 1, 10.5.1).
const FIP: usize = 8;
const FOP: usize = 6;
const FDP: usize = 16;

#[repr(C, align(16))]
struct FxsaveArea([u8; 512]);

impl Engine {
    /// Puts the application's address of the last x87 instruction into the CPU.
    ///
    /// `wide`: for an instruction that stores 64 bits of it; the others store the lower half and the code segment.
    /// AMD's FXSAVE and XSAVE store the pointers of a pending exception alone (AMD APM vol. 2, 11.4.4), FNSTENV always, but the
    /// lower half.
    pub(crate) fn show_x87_pointer(&self, wide: bool) {
        let mut area = FxsaveArea([0; 512]);
        // SAFETY: aligned and large enough; every x86-64 CPU has FXSAVE.
        unsafe { _fxsave64(area.0.as_mut_ptr()) };
        let mut pointer = u64::from_le_bytes(area.0[FIP..FIP + 8].try_into().expect("eight bytes"));
        if wide {
            if let Some(shown) = self.x87_instruction(pointer) {
                shown.put(&mut area);
                // SAFETY: what was saved a moment ago but for the pointer.
                unsafe { _fxrstor64(area.0.as_ptr()) };
            }
            return;
        }
        let mut environment = [0u32; 7];
        // SAFETY: 28 bytes are written. Exceptions are masked until FXRSTOR.
        unsafe {
            core::arch::asm!("fnstenv [{}]", in(reg) environment.as_mut_ptr(), options(nostack));
        }
        let [_, _, _, fip, selector_and_opcode, fdp, data_selector] = environment;
        if pointer == 0 {
            pointer = self.whole_address(fip);
            area.0[FOP..FOP + 2].copy_from_slice(&selector_and_opcode.to_le_bytes()[2..]);
        }
        let lower_halves = [
            (FIP, pointer as u32),
            (FIP + 4, selector_and_opcode & 0xffff),
            (FDP, fdp),
            (FDP + 4, data_selector & 0xffff),
        ];
        for (at, value) in lower_halves {
            area.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        if let Some(shown) = self.x87_instruction(pointer) {
            area.0[FOP..FOP + 2].copy_from_slice(&shown.opcode.to_le_bytes());
            area.0[FIP..FIP + 4].copy_from_slice(&(shown.pc as u32).to_le_bytes());
        }
        // SAFETY: what was saved a moment ago but for the pointers.
        unsafe { _fxrstor(area.0.as_ptr()) };
    }

    /// Before translations go away: the pointer will not be told from them any more.
    pub(crate) fn keep_x87_pointer(&self) {
        let mut area = FxsaveArea([0; 512]);
        // SAFETY: as above.
        unsafe { _fxsave64(area.0.as_mut_ptr()) };
        self.show_x87_pointer(area.0[FIP..FIP + 8] != [0; 8]);
    }

    /// The address in the cache whose lower half this is; else the lower half.
    fn whole_address(&self, low: u32) -> u64 {
        let in_arena = |base: u64| base.wrapping_add(u64::from(low.wrapping_sub(base as u32)));
        self.arena_spans()
            .map(|span| in_arena(span.base))
            .find(|&at| self.in_cache(at))
            .unwrap_or(u64::from(low))
    }

    /// Corrects the pointer in a signal frame.
    pub(crate) fn show_x87_pointer_in(&self, fpstate: u64) {
        if fpstate == 0 {
            return;
        }
        // SAFETY: the kernel's frame holds a whole FXSAVE area, aligned to 64 bytes.
        let area = unsafe { &mut *(fpstate as *mut FxsaveArea) };
        let pointer = u64::from_le_bytes(area.0[FIP..FIP + 8].try_into().expect("eight bytes"));
        if let Some(shown) = self.x87_instruction(pointer) {
            shown.put(area);
        }
    }

    /// The instruction in whose translation a host address lies, if it is one of the cache; zeros when it is gone.
    fn x87_instruction(&self, host: u64) -> Option<X87Instruction> {
        #[cfg(feature = "sabotage")]
        if crate::mutants::is("x87_pointer_left_in_the_cache") {
            return None;
        }
        self.in_cache(host).then(|| {
            self.with_tables(|tables| {
                let translator = &tables.translator;
                let fragment = translator.fragment_at(host)?;
                let offset = (host - fragment.host) as u16;
                let places = translator.places_of(&fragment);
                let index = places.iter().rposition(|place| place.host <= offset)?;
                let before = fragment.offset_of(places, index);
                // SAFETY: as long as the fragment lives its source is readable: the thread has just executed it.
                let bytes = unsafe {
                    let at = (fragment.source() + before) as *const u8;
                    core::slice::from_raw_parts(at, usize::from(places[index].app_len))
                };
                Some(X87Instruction { pc: fragment.pc + before, opcode: opcode_of(bytes) })
            })
            .unwrap_or_default()
        })
    }
}

/// What the CPU would remember of an x87 instruction.
#[derive(Default)]
struct X87Instruction {
    pc: u64,
    opcode: u16,
}

impl X87Instruction {
    fn put(&self, area: &mut FxsaveArea) {
        area.0[FIP..FIP + 8].copy_from_slice(&self.pc.to_le_bytes());
        area.0[FOP..FOP + 2].copy_from_slice(&self.opcode.to_le_bytes());
    }
}

/// The low three bits of the first opcode byte and the second byte (SDM vol. 1, 8.1.9).
fn opcode_of(bytes: &[u8]) -> u16 {
    let escape = bytes.iter().position(|byte| (0xd8..=0xdf).contains(byte));
    match escape.and_then(|at| Some((bytes[at], bytes.get(at + 1)?))) {
        Some((escape, &second)) => u16::from(escape & 7) << 8 | u16::from(second),
        None => 0,
    }
}
