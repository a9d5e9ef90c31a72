//! What Stalker is told about the CPU and about libc: the linker sends these questions here (`--wrap`).
//!
//! - `gum_query_cpu_features`: nothing. Told of AVX2, Stalker saves and restores the upper halves of ymm0-15 around its own
//!   code by VEX instructions, which clear the rest of zmm0-15. Its code is compiled for baseline x86-64 and leaves
//!   everything above xmm0-15 alone, so nothing needs to be saved.
//! - `gum_module_find_export_by_name`: libc has no `__call_tls_dtors`. Stalker takes its first call for the end of the
//!   thread and lets go, also in `exit` of the main thread: no destructor and no exit handler would be counted.

use core::arch::global_asm;

global_asm!(
    ".pushsection .text.gum_guards, \"ax\", @progbits",
    ".globl __wrap_gum_query_cpu_features",
    ".hidden __wrap_gum_query_cpu_features",
    ".type __wrap_gum_query_cpu_features, @function",
    "__wrap_gum_query_cpu_features:",
    "xor eax, eax",
    "ret",
    // rdi: the module; rsi: the name.
    ".globl __wrap_gum_module_find_export_by_name",
    ".hidden __wrap_gum_module_find_export_by_name",
    ".type __wrap_gum_module_find_export_by_name, @function",
    "__wrap_gum_module_find_export_by_name:",
    "movabs rax, {CALL_T}",
    "cmp [rsi], rax",
    "jne 2f",
    "movabs rax, {LS_DTORS}",
    "cmp [rsi + 8], rax",
    "jne 2f",
    "xor eax, eax",
    "ret",
    "2:",
    ".weak __real_gum_module_find_export_by_name",
    "jmp __real_gum_module_find_export_by_name@PLT",
    ".popsection",
    CALL_T = const u64::from_le_bytes(*b"__call_t"),
    LS_DTORS = const u64::from_le_bytes(*b"ls_dtors"),
);

unsafe extern "C" {
    fn __wrap_gum_query_cpu_features() -> u32;
}

/// Has the linker keep the guards.
pub fn keep() {
    // SAFETY: takes nothing and returns a number.
    let features = unsafe { __wrap_gum_query_cpu_features() };
    debug_assert_eq!(features, 0);
}
