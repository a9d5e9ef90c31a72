//! How many elements an instruction accesses under a mask, told from a signal frame.

use core::arch::x86_64::__cpuid_count;

use ::weights::x86::Repeats;
use iced_x86::Register;

/// XSAVE components (SDM vol. 1, 13.1) and where the standard format has those whose place is fixed.
const SSE: u32 = 1;
const AVX: u32 = 2;
const OPMASK: u32 = 5;
const MM0: usize = 32;
const XMM0: usize = 160;
const HEADER: usize = 512;

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
