//! `sigaction` and `signal` where some threads are followed and others are not: the handlers are one table for all of
//! them, so a thread that runs natively goes through the engine too.
//!
//! # Limitations
//!
//! `signal` after `siginterrupt(3)`, `sysv_signal`, `sigset` and raw system calls: a handler that was set so sees
//! addresses of the engine until the next task begins, when the engine looks for such handlers.

use super::{
    errno::set_errno,
    frame::{Decision, Frame},
    list::Hook,
};
use crate::base::tracer;

/// What glibc and musl have as `struct sigaction` (bits/sigaction.h): the mask is 1024 bits.
#[repr(C)]
struct Action {
    handler: u64,
    mask: [u64; 16],
    flags: i32,
    restorer: u64,
}

/// What the kernel has (`include/linux/signal_types.h`).
#[repr(C)]
#[derive(Default)]
struct KernelAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

const SA_RESTORER: u64 = 0x0400_0000;
const SA_RESTART: u64 = 0x1000_0000;
/// Signals that libc keeps for itself: glibc 32 and 33, musl 34 too.
const RESERVED: core::ops::RangeInclusive<u64> = 32..=34;
const LAST: u64 = 64;

/// Sets or asks for a handler, in the place of libc's function.
pub fn set(hook: Hook, frame: &mut Frame) -> Decision {
    let [signal, new, old, ..] = frame.arguments;
    let signal = u64::from(signal as u32);
    if signal == 0 || signal > LAST || RESERVED.contains(&signal) {
        return Decision::PassThrough;
    }
    let mut before = KernelAction::default();
    let mut after = KernelAction::default();
    let is_new = if hook == Hook::Signal {
        after.handler = new;
        after.flags = SA_RESTART;
        after.mask = 1 << (signal - 1);
        true
    } else if new != 0 {
        // SAFETY: the application's structure, which libc would read too. A copy: others may change it meanwhile.
        let action = unsafe { (new as *const Action).read_unaligned() };
        after.handler = action.handler;
        // libc brings its own restorer; the engine has one where there is none.
        after.flags = u64::from(action.flags as u32) & !SA_RESTORER;
        after.mask = action.mask[0];
        true
    } else {
        false
    };
    let new = if is_new { &raw const after as u64 } else { 0 };
    let answer = tracer::set_action(signal, new, &raw mut before as u64);
    if answer < 0 {
        set_errno(-answer as i32);
        // SIG_ERR is -1 too.
        frame.result = -1;
        return Decision::Answered;
    }
    frame.result = 0;
    if hook == Hook::Signal {
        frame.result = before.handler as i64;
    } else if old != 0 {
        let mut mask = [0; 16];
        mask[0] = before.mask;
        let KernelAction { handler, flags, restorer, .. } = before;
        let action = Action { handler, mask, flags: flags as i32, restorer };
        // SAFETY: the application's structure, which libc would write too; no reference to it is made.
        unsafe { (old as *mut Action).write_unaligned(action) };
    }
    Decision::Answered
}
