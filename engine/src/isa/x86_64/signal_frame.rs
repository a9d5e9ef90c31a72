//! What the kernel lays out for a signal handler, and a signal that waits.

use crate::os::signals::{SIGSEGV, SIGTRAP};

/// Position in `UserContext::registers` of each register in hardware numbering.
pub const CONTEXT: [usize; 16] = [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7];
pub const CONTEXT_RIP: usize = 16;
pub const CONTEXT_FLAGS: usize = 17;
pub const CONTEXT_ERROR: usize = 19;

/// `siginfo_t`.
pub type Info = [u64; 16];

/// What the kernel wrote into the part of a frame's vector state that is software's: `struct _fpx_sw_bytes`. Zeros where the
/// frame has the legacy part alone.
pub type Software = [u64; 6];

/// A signal that waits until the thread is at a place where its state can be told.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    pub signal: i32,
    pub stepping: bool,
    /// The application has the trap flag set itself.
    pub trapping: bool,
    /// The application's mask, to be given back.
    pub mask: u64,
    pub info: [u64; 16],
    pub software: Software,
}

impl Pending {
    pub fn is_some(&self) -> bool {
        self.signal != 0
    }
}

/// `struct ucontext` with `struct sigcontext` of x86-64 (`arch/x86/include/uapi/asm/sigcontext.h`).
#[repr(C)]
pub struct UserContext {
    pub flags: u64,
    pub link: u64,
    pub stack: AlternateStack,
    /// r8-r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, ...
    pub registers: [i64; 23],
    pub fpstate: u64,
    pub reserved: [u64; 8],
    pub mask: u64,
}

impl UserContext {
    /// All zeros.
    pub fn empty() -> UserContext {
        UserContext {
            flags: 0,
            link: 0,
            stack: AlternateStack { start: 0, flags: 0, padding: 0, size: 0 },
            registers: [0; 23],
            fpstate: 0,
            reserved: [0; 8],
            mask: 0,
        }
    }
}

/// `stack_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AlternateStack {
    pub start: u64,
    pub flags: u32,
    pub padding: u32,
    pub size: u64,
}

/// `si_code` of what the kernel itself raises, INT3's trap among it (`include/uapi/asm-generic/siginfo.h`).
pub const SI_KERNEL: i32 = 0x80;

/// Position of `si_addr` in [`Info`].
pub const SI_ADDR: usize = 2;

/// `si_code`, in the lower half of the second word of siginfo on x86-64.
pub fn code_of(info: &Info) -> i32 {
    info[1] as i32
}

/// Did a store fault because its page may not be written?
pub fn is_store_to_protected(signal: i32, info: &Info, context: &UserContext) -> bool {
    const ACCESS_DENIED: i32 = 2; // SEGV_ACCERR (`include/uapi/asm-generic/siginfo.h`)
    const WRITE: i64 = 2; // bit 1 of the page fault's error code (SDM vol. 3, 4.7)
    signal == SIGSEGV
        && code_of(info) == ACCESS_DENIED
        && context.registers[CONTEXT_ERROR] & WRITE != 0
}

/// Is this the trap behind an instruction that began with the trap flag set?
pub fn is_trap_flag(signal: i32, info: &Info) -> bool {
    const TRAP_TRACE: i32 = 2;
    signal == SIGTRAP && code_of(info) == TRAP_TRACE
}
