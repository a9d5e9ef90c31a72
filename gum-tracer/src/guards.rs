//! What Stalker is told about the CPU.

use core::arch::global_asm;

// The linker sends every question for the CPU's features here (`--wrap`). Answered with AVX2, Stalker saves and restores
// the upper halves of ymm0-15 around its own code by VEX instructions, which clear the rest of zmm0-15. Its code is
// compiled for baseline x86-64 and leaves everything above xmm0-15 alone, so nothing needs to be saved.
global_asm!(
    ".pushsection .text.gum_guards, \"ax\", @progbits",
    ".globl __wrap_gum_query_cpu_features",
    ".hidden __wrap_gum_query_cpu_features",
    ".type __wrap_gum_query_cpu_features, @function",
    "__wrap_gum_query_cpu_features:",
    "xor eax, eax",
    "ret",
    ".popsection",
);

unsafe extern "C" {
    fn __wrap_gum_query_cpu_features() -> u32;
}

/// Has the linker keep the guard.
pub fn keep() {
    // SAFETY: takes nothing and returns a number.
    let features = unsafe { __wrap_gum_query_cpu_features() };
    debug_assert_eq!(features, 0);
}
