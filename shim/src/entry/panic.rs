//! A panic in the shim switches the shim off; the host goes on ([`crate::base::guarded`]).

use crate::{
    base::{
        guarded::{switch_off, switched_off},
        ids, sys, tls, tracer,
    },
    files::log,
    record::{helper_state, recorder},
};
use core::{arch::asm, panic::PanicInfo};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if !switched_off() {
        recorder::farewell(format_args!("switched off: {info}"));
    }
    switch_off();
    helper_state::wake();
    log::line(log::Level::Error, format_args!("switched off: {info}"));
    tracer::abandon();
    let recovery = tls::get(tls::Word::Recovery);
    if recovery != 0 {
        // SAFETY: the word holds the stack pointer of a `guarded` frame of this thread that has not
        // returned: `guarded` restores the word before it returns.
        unsafe {
            asm!("mov rsp, {0}", "mov rax, -1", "cld", "jmp sparkanalyzer_guard_return",
                in(reg) recovery, options(noreturn));
        }
    }
    const SIGABRT: u64 = 6;
    // SAFETY: ends this process; there is no frame to return to.
    unsafe {
        sys::call3(sys::nr::TGKILL, u64::from(ids::getpid()), u64::from(ids::gettid()), SIGABRT);
        loop {
            sys::call1(sys::nr::EXIT_GROUP, 134);
        }
    }
}
