//! The GS base of the calling thread.

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::os::procfs;
use crate::os::seccomp::optional;
use crate::os::syscall::{nr, syscall6};

/// `ARCH_SET_GS`, `ARCH_GET_GS` (`arch/x86/include/uapi/asm/prctl.h`).
pub const ARCH_SET_GS: u64 = 0x1001;

pub const ARCH_GET_GS: u64 = 0x1004;

/// Whether RDGSBASE and WRGSBASE may be used: 0 = not known yet, 1 = no, 2 = yes.
pub static FSGSBASE: AtomicUsize = AtomicUsize::new(0);

/// Looks at what the kernel says of the machine (`HWCAP2_FSGSBASE`, Linux 5.9).
pub fn learn_gs_access() {
    const AT_HWCAP2: u64 = 26;
    const HWCAP2_FSGSBASE: u64 = 2;
    if FSGSBASE.load(Ordering::Relaxed) != 0 {
        return;
    }
    let mut vector = [[0u64; 2]; 64];
    let has = procfs::read_auxiliary_vector(&mut vector)
        .iter()
        .any(|[key, value]| *key == AT_HWCAP2 && value & HWCAP2_FSGSBASE != 0);
    FSGSBASE.store(1 + usize::from(has), Ordering::Relaxed);
}

fn has_fsgsbase() -> bool {
    FSGSBASE.load(Ordering::Relaxed) == 2
}

/// The calling thread's GS base.
pub fn gs_base() -> u64 {
    let mut base = 0u64;
    if has_fsgsbase() {
        // SAFETY: the kernel allows it.
        unsafe { asm!("rdgsbase {0}", out(reg) base, options(nomem, nostack, preserves_flags)) };
        return base;
    }
    // SAFETY: the kernel writes one word at the given address.
    unsafe { optional(nr::ARCH_PRCTL, [ARCH_GET_GS, &raw mut base as u64, 0, 0, 0, 0]) };
    base
}

/// Sets the calling thread's GS base.
///
/// # Safety
/// Code that uses GS must find there what it expects.
pub unsafe fn set_gs_base(base: u64) {
    if has_fsgsbase() {
        // SAFETY: forwarded to the caller.
        unsafe { asm!("wrgsbase {0}", in(reg) base, options(nostack, preserves_flags)) };
        return;
    }
    // SAFETY: forwarded to the caller.
    unsafe { syscall6(nr::ARCH_PRCTL, [ARCH_SET_GS, base, 0, 0, 0, 0]) };
}
