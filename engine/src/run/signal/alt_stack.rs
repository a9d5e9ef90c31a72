//! The alternate signal stack (sigaltstack), as the application set it while the kernel knows the engine's flags.

use crate::contract::Call;
use crate::isa::x86_64::app_memory::{read_memory, write_memory};
use crate::isa::x86_64::context::ThreadState;
use crate::isa::x86_64::registers::gpr;
use crate::isa::x86_64::signal_frame::AlternateStack;
use crate::os::seccomp::optional;
use crate::os::syscall::{nr, syscall6};
use crate::run::engine::Engine;

/// `SS_DISABLE`, `SS_AUTODISARM` (`include/uapi/linux/signal.h`).
const SS_DISABLE: u32 = 2;
pub(crate) const SS_AUTODISARM: u32 = 1 << 31;

impl Engine {
    /// An alternate stack that the thread set while it was not followed.
    pub(crate) fn adopt_alternate_stack(&self, thread: &mut ThreadState) {
        let mut stack = AlternateStack { start: 0, flags: 0, padding: 0, size: 0 };
        // SAFETY: our own structure.
        unsafe { syscall6(nr::SIGALTSTACK, [0, &raw mut stack as u64, 0, 0, 0, 0]) };
        // On it already (SS_ONSTACK): left as it is.
        if stack.flags == 0 && stack.size != 0 {
            stack.flags = SS_AUTODISARM;
            // SAFETY: as above; the stack is the application's own.
            unsafe { syscall6(nr::SIGALTSTACK, [&raw const stack as u64, 0, 0, 0, 0, 0]) };
        }
        thread.alternate_stack = stack;
        thread.disarmed = false;
    }

    /// The thread goes on natively, with its alternate stack as it set it.
    pub(crate) fn give_alternate_stack_back(&self, thread: &mut ThreadState) {
        let mut stack = thread.alternate_stack;
        if stack.size != 0 && stack.flags == SS_AUTODISARM && !thread.disarmed {
            stack.flags = 0;
            // SAFETY: as in `adopt_alternate_stack`.
            unsafe { optional(nr::SIGALTSTACK, [&raw const stack as u64, 0, 0, 0, 0, 0]) };
        }
    }

    /// The application's sigaltstack.
    pub(crate) fn sigaltstack(&self, thread: &mut ThreadState, call: &Call) -> i64 {
        const EFAULT: i64 = 14;
        const EPERM: i64 = 1;
        let [new, old, ..] = call.arguments;
        let mut stack = AlternateStack { start: 0, flags: 0, padding: 0, size: 0 };
        let mut call = *call;
        if new != 0 {
            let mut bytes = [0u8; 24];
            if !read_memory(new, &mut bytes) {
                return -EFAULT;
            }
            let word =
                |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
            stack = AlternateStack {
                start: word(0),
                flags: word(8) as u32,
                padding: 0,
                size: word(16),
            };
            if stack.flags == 0 {
                stack.flags = SS_AUTODISARM;
            }
            call.arguments[0] = &raw const stack as u64;
        }
        let known = thread.alternate_stack;
        let inside = thread.gpr[gpr::RSP].wrapping_sub(known.start) < known.size;
        if new != 0 && inside {
            return -EPERM;
        }
        // SAFETY: the new stack is described by our own structure, the old one goes where the application says.
        let result = unsafe { syscall6(nr::SIGALTSTACK, call.arguments) };
        if result != 0 {
            return result;
        }
        if new != 0 {
            thread.alternate_stack = stack;
        }
        if old != 0 && known.size != 0 {
            // The kernel's answer knows of disarming; the application does not.
            let mut bytes = [0u8; 24];
            bytes[..8].copy_from_slice(&known.start.to_le_bytes());
            let flags = if known.flags & SS_DISABLE != 0 { SS_DISABLE } else { u32::from(inside) };
            bytes[8..12].copy_from_slice(&flags.to_le_bytes());
            bytes[16..].copy_from_slice(&known.size.to_le_bytes());
            return write_memory(old, &bytes);
        }
        0
    }

    /// Arms the alternate stack again after a handler on it was left by a long jump.
    pub(crate) fn rearm_alternate_stack(&self, thread: &mut ThreadState) {
        let stack = thread.alternate_stack;
        if thread.disarmed && thread.gpr[gpr::RSP].wrapping_sub(stack.start) >= stack.size {
            thread.disarmed = false;
            // SAFETY: the application's own alternate stack, as it set it.
            unsafe { optional(nr::SIGALTSTACK, [&raw const stack as u64, 0, 0, 0, 0, 0]) };
        }
    }
}
