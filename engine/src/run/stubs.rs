//! Where the engine's assembly lies: the labels that other files lead threads to, or tell
//! interrupted threads by.

use crate::isa::x86_64::context::{Stage, ThreadContext};
use crate::isa::x86_64::exits::IblKind;

unsafe extern "C" {
    /// Where exit stubs jump to; never called.
    fn engine_exit();
    fn engine_resume_checked();
    fn engine_resume_end();
    fn engine_again();
    fn engine_ibl_miss();
    fn engine_ibl_return_miss();
    fn engine_returned();
    fn engine_landing();
    /// Starts to follow the calling thread at its return address. A caller sees it return, and is
    /// followed.
    ///
    /// `thread` must come from `Engine::attach` on this thread. Also a jump target for assembly
    /// stubs whose stack pointer points at the address to go on at.
    #[allow(improper_ctypes)]
    pub fn engine_enter(thread: *mut ThreadContext);
    fn engine_restorer();
    fn engine_signal_entry();
    fn engine_unblock_after();
    fn engine_syscall_checked();
    fn engine_syscall_at();
    fn engine_syscall_after();
}

/// Ends following of the calling thread: the engine recognises the address. Natively it does
/// nothing.
#[unsafe(naked)]
pub extern "C" fn unfollow_me() {
    core::arch::naked_asm!("ret")
}

/// The way back to the application, from behind its last look for a pending signal to its end.
pub(crate) fn resume_range() -> core::ops::Range<u64> {
    engine_resume_checked as *const () as u64..engine_resume_end as *const () as u64
}

/// Where a thread interrupted in [`resume_range`] goes to dispatch anew; its state in its context
/// is whole.
pub(crate) fn again() -> u64 {
    engine_again as *const () as u64
}

/// Where rt_sigreturn leads to; the application's PC is in the thread's context.
pub(crate) fn landing() -> u64 {
    engine_landing as *const () as u64
}

/// Where a function of the client returns to that runs natively on a followed thread.
pub(crate) fn returned() -> u64 {
    engine_returned as *const () as u64
}

/// Where an indirect branch goes whose target is not known.
pub(crate) fn miss(way: IblKind) -> u64 {
    match way {
        IblKind::Jump => engine_ibl_miss as *const () as u64,
        IblKind::Return => engine_ibl_return_miss as *const () as u64,
    }
}

/// The address that exit stubs jump to.
pub(crate) fn exit_address() -> u64 {
    engine_exit as *const () as u64
}

/// Goes back to where the calling thread's context says, natively or not.
///
/// # Safety
/// The context must be whole; the caller's frames are given up.
pub(crate) unsafe fn resume(thread: *const ThreadContext) -> ! {
    // SAFETY: forwarded.
    unsafe { core::arch::asm!("jmp engine_resume", in("rdi") thread, options(noreturn)) }
}

/// Address of the handler that the kernel is told.
pub(crate) fn entry() -> u64 {
    engine_signal_entry as *const () as u64
}

/// Address of the restorer for handlers that the application set without one.
pub(crate) fn restorer() -> u64 {
    engine_restorer as *const () as u64
}

/// Where in the syscall_stub a system call is not made yet, or to be restarted, and where it is
/// done.
pub(crate) struct SyscallStub {
    pub before: core::ops::RangeInclusive<u64>,
    pub after: u64,
    pub unblocked: u64,
}

pub(crate) fn syscall_stub() -> SyscallStub {
    SyscallStub {
        before: engine_syscall_checked as *const () as u64..=engine_syscall_at as *const () as u64,
        after: engine_syscall_after as *const () as u64,
        unblocked: engine_unblock_after as *const () as u64,
    }
}

impl ThreadContext {
    /// Is this cache address in the engine's system call, with the state in the context whole?
    pub(crate) fn is_at_syscall_stub(&self, pc: u64) -> bool {
        let syscall_stub = syscall_stub();
        self.in_syscall.get() != Stage::None
            && (syscall_stub.before.contains(&pc)
                || pc == syscall_stub.after
                || pc == syscall_stub.unblocked)
    }
}
