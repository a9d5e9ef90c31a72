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

use core::arch::x86_64::{__cpuid_count, _fxrstor, _fxrstor64, _fxsave64};

use iced_x86::{Mnemonic, Register};

use super::Instruction;
use super::engine::Engine;
use super::weights::Repeats;

/// Offset of the 64-bit instruction pointer in the FXSAVE64 area (SDM vol. 1, 10.5.1).
const FIP: usize = 8;
const FOP: usize = 6;
const FDP: usize = 16;
/// XSAVE components (SDM vol. 1, 13.1) and where the standard format has those whose place is fixed.
const SSE: u32 = 1;
const AVX: u32 = 2;
const OPMASK: u32 = 5;
const MM0: usize = 32;
const XMM0: usize = 160;
const HEADER: usize = 512;

#[repr(C, align(16))]
struct FxsaveArea([u8; 512]);

/// Does the instruction store the x87 instruction pointer?
pub fn stores_x87_pointer(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(
        instruction.mnemonic(),
        Fnstenv
            | Fnsave
            | Fxsave
            | Fxsave64
            | Xsave
            | Xsave64
            | Xsavec
            | Xsavec64
            | Xsaveopt
            | Xsaveopt64
    )
}

/// Does it store 64 bits of the pointer?
pub fn stores_wide_x87_pointer(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(instruction.mnemonic(), Fxsave64 | Xsave64 | Xsavec64 | Xsaveopt64)
}

impl Engine {
    /// Puts the application's address of the last x87 instruction into the CPU.
    ///
    /// `wide`: for an instruction that stores 64 bits of it; the others store the lower half and the code segment.
    /// AMD's FXSAVE and XSAVE store the pointers of a pending exception alone (AMD APM vol. 2, 11.4.4), FNSTENV always, but the
    /// lower half.
    pub(super) fn show_x87_pointer(&self, wide: bool) {
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
    pub(super) fn keep_x87_pointer(&self) {
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
    pub(super) fn show_x87_pointer_in(&self, fpstate: u64) {
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
        if super::sabotage::is("x87_pointer_left_in_the_cache") {
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

/// How many elements a mask enables, in the extended state of a signal frame.
///
/// # Safety
/// `fpstate` must be the kernel's, of a thread that has the masking register.
pub unsafe fn enabled_elements(repeats: Repeats, fpstate: u64) -> u64 {
    // SAFETY: forwarded.
    let word = |component, at| unsafe { component_word(fpstate, component, at) };
    let signs = |low: u64, element: u8| {
        let step = 8 * u32::from(element);
        (1..=64 / step).filter(|n| low >> (n * step - 1) & 1 != 0).count() as u64
    };
    match repeats {
        Repeats::Never | Repeats::Iterations => 0,
        Repeats::Opmask(mask, lanes) => {
            let at = place(OPMASK) + 8 * mask.number();
            let kept = if lanes == 64 { u64::MAX } else { (1 << lanes) - 1 };
            u64::from((word(OPMASK, at) & kept).count_ones())
        }
        Repeats::VectorMask { mask, lanes, element } => {
            let words = usize::from(lanes) * usize::from(element) / 8;
            (0..words)
                .map(|n| match n {
                    0 | 1 => word(SSE, XMM0 + 16 * mask.number() + 8 * n),
                    _ => word(AVX, place(AVX) + 16 * mask.number() + 8 * (n - 2)),
                })
                .map(|low| signs(low, element))
                .sum()
        }
        Repeats::ByteMask(mask) if mask.is_mm() => {
            // The area begins with the top of the x87 stack (SDM vol. 1, 10.5.1).
            let top = word(0, 0) >> (16 + 11) & 7;
            let number = mask as u64 - Register::MM0 as u64;
            signs(word(0, MM0 + 16 * (number.wrapping_sub(top) & 7) as usize), 1)
        }
        Repeats::ByteMask(mask) => {
            let at = XMM0 + 16 * mask.number();
            signs(word(SSE, at), 1) + signs(word(SSE, at + 8), 1)
        }
    }
}

/// Offset of a component in the standard format.
fn place(component: u32) -> usize {
    __cpuid_count(0xd, component).ebx as usize
}

/// # Safety
/// As [`enabled_elements`].
unsafe fn component_word(fpstate: u64, component: u32, at: usize) -> u64 {
    let area = fpstate as *const u8;
    // SAFETY: a thread with such a register has the extended area in its frame.
    unsafe {
        let stored = area.add(HEADER).cast::<u64>().read_unaligned() & 1 << component != 0;
        // The legacy region is whole in any case.
        if stored || component <= SSE { area.add(at).cast::<u64>().read_unaligned() } else { 0 }
    }
}
