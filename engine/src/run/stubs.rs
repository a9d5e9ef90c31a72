//! Where the engine's assembly lies: the labels that other files lead threads to, or tell interrupted threads by.

use crate::isa::x86_64::context::{Stage, ThreadState};
use crate::isa::x86_64::exits::Way;

unsafe extern "C" {
    /// Where exit stubs jump to; never called.
    fn engine_exit();
    fn engine_resume_checked();
    fn engine_resume_end();
    fn engine_again();
    fn engine_lookup_miss();
    fn engine_return_miss();
    fn engine_returned();
    fn engine_landing();
    /// Starts to follow the calling thread at its return address. A caller sees it return, and is followed.
    ///
    /// `thread` must come from [`Engine::attach`] on this thread. Also a jump target for assembly stubs
    /// whose stack pointer points at the address to go on at.
    #[allow(improper_ctypes)]
    pub fn engine_enter(thread: *mut ThreadState);
    fn engine_restorer();
    fn engine_signal_entry();
    fn engine_unblock_after();
    fn engine_syscall_checked();
    fn engine_syscall_at();
    fn engine_syscall_after();
}

/// Ends following of the calling thread: the engine recognises the address. Natively it does nothing.
#[unsafe(naked)]
pub extern "C" fn unfollow_me() {
    core::arch::naked_asm!("ret")
}

/// The way back to the application, from behind its last look for a pending signal to its end.
pub(crate) fn resume_range() -> core::ops::Range<u64> {
    engine_resume_checked as *const () as u64..engine_resume_end as *const () as u64
}

/// Where a thread interrupted in [`resume_range`] goes to dispatch anew; its state in its block is whole.
pub(crate) fn again() -> u64 {
    engine_again as *const () as u64
}

/// Where rt_sigreturn leads to; the application's PC is in the thread's block.
pub(crate) fn landing() -> u64 {
    engine_landing as *const () as u64
}

/// Where a host function returns to that runs natively on a followed thread.
pub(crate) fn returned() -> u64 {
    engine_returned as *const () as u64
}

/// Where an indirect branch goes whose target is not known.
pub(crate) fn miss(way: Way) -> u64 {
    match way {
        Way::Jump => engine_lookup_miss as *const () as u64,
        Way::Return => engine_return_miss as *const () as u64,
    }
}

/// The address that exit stubs jump to.
pub(crate) fn exit_address() -> u64 {
    engine_exit as *const () as u64
}

/// Goes back to where the calling thread's block says, natively or not.
///
/// # Safety
/// The block must be whole; the caller's frames are given up.
pub(crate) unsafe fn resume(thread: *mut ThreadState) -> ! {
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

/// Where in the gadget a system call is not made yet, or to be restarted, and where it is done.
pub(crate) struct Gadget {
    pub before: core::ops::RangeInclusive<u64>,
    pub after: u64,
    pub unblocked: u64,
}

pub(crate) fn gadget() -> Gadget {
    Gadget {
        before: engine_syscall_checked as *const () as u64..=engine_syscall_at as *const () as u64,
        after: engine_syscall_after as *const () as u64,
        unblocked: engine_unblock_after as *const () as u64,
    }
}

impl ThreadState {
    /// Is this host address in the engine's system call, with the state in the block whole?
    pub(crate) fn at_gadget(&self, host: u64) -> bool {
        let gadget = gadget();
        self.in_syscall != Stage::None
            && (gadget.before.contains(&host) || host == gadget.after || host == gadget.unblocked)
    }
}
