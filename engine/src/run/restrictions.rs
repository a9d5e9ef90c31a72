//! Calls by which a program restricts what it, and so the engine in it, may ask of the kernel.
//!
//! # Design
//! A filter is obeyed from before it is installed ([`crate::seccomp`]); what the engine will want later, and may then not ask
//! for, is fetched before: the list of executable mappings, and blocks for new threads.
//! With system-call user dispatch (prctl(2), PR_SET_SYSCALL_USER_DISPATCH) the kernel looks at where a call is made
//! from, and the engine makes the application's calls from a place of its own: such a thread is released, and where no other one
//! is followed the application's handlers are given to the kernel, so that nothing of ours is entered any more.

use core::sync::atomic::Ordering;

use crate::contract::{Call, Notice};
use crate::isa::x86_64::app_memory::{self, read_memory};
use crate::isa::x86_64::context::ThreadState;
use crate::isa::x86_64::decode::block::Refusal;
use crate::os::seccomp::{self, BpfInstruction, Installation, Installing};
use crate::os::signals::SIGTRAP;
use crate::os::syscall::nr;
use crate::run::engine::Engine;

/// prctl(2).
const PR_SET_SYSCALL_USER_DISPATCH: u64 = 59;
const PR_SYS_DISPATCH_ON: u64 = 1;
/// Threads that can still be followed where a filter forbids to map memory.
const SPARE_BLOCKS: usize = 4;

/// Whether a call switches system-call user dispatch on.
pub fn dispatches_to_user(call: &Call) -> bool {
    call.number == nr::PRCTL
        && seccomp::low_word(call.arguments[0]) == PR_SET_SYSCALL_USER_DISPATCH
        && call.arguments[1] == PR_SYS_DISPATCH_ON
}

impl Engine {
    /// A prctl or seccomp call of the application. `None` when the thread was released and makes it natively.
    pub(crate) fn restricting_call(&self, thread: &mut ThreadState, call: &Call) -> Option<i64> {
        if dispatches_to_user(call) {
            self.release(thread, Notice::Untranslatable, Refusal::Unsupported as u64);
            self.give_actions_back();
            return None;
        }
        let installing = match seccomp::installation(call.number, &call.arguments) {
            None => return Some(self.pass(thread, call)),
            Some(Installation::Strict) => self.restrict(seccomp::install_strict),
            Some(Installation::Filter(program)) => {
                let mut room = [BpfInstruction { code: 0, jump_true: 0, jump_false: 0, k: 0 };
                    seccomp::MAX_INSTRUCTIONS];
                let program = read_program(program, &mut room);
                self.restrict(|| seccomp::install(program))
            }
        };
        let result = self.pass(thread, call);
        if result < 0 {
            installing.undo();
        }
        Some(result)
    }

    fn restrict(&self, install: impl Fn() -> Installing) -> Installing {
        self.with_tables(|tables| {
            tables.code.read(&tables.guarded);
            let installing = install();
            let may_map = seccomp::allows(nr::MMAP, &[0, 1 << 20, 3, 0x22, u64::MAX, 0]);
            let may_set_handlers = seccomp::allows(nr::RT_SIGACTION, &[0, 1, 0, 8, 0, 0]);
            if may_map && may_set_handlers {
                return installing;
            }
            installing.undo();
            if !may_set_handlers {
                // Signals that come in inserted code are stepped to where they can be shown.
                self.serve_faults();
                self.borrow(SIGTRAP);
            }
            if !may_map {
                (0..SPARE_BLOCKS).for_each(|_| self.spare_block(tables));
            }
            install()
        })
    }
}

/// The program that a `struct sock_fprog` describes; `None` if it cannot be read.
fn read_program(at: u64, room: &mut [BpfInstruction]) -> Option<&[BpfInstruction]> {
    let mut description = [0u8; 16];
    if !read_memory(at, &mut description) {
        return None;
    }
    let length = usize::from(u16::from_le_bytes([description[0], description[1]]));
    let program = u64::from_le_bytes(description[8..].try_into().ok()?);
    let room = room.get_mut(..length)?;
    // SAFETY: instructions are plain data, without padding: any bytes are a value.
    let bytes = unsafe {
        core::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<u8>(), size_of_val(room))
    };
    read_memory(program, bytes).then_some(room)
}

impl Engine {
    /// Nobody is followed any more: signals go to the application's own handlers.
    fn give_actions_back(&self) {
        if !self.follows_somebody() {
            app_memory::faults_are_not_served();
            self.restore_actions();
        }
    }

    fn follows_somebody(&self) -> bool {
        self.with_tables(|tables| {
            tables.blocks.as_slice().iter().any(|&block| {
                // SAFETY: blocks are never unmapped; the two words are atomics.
                let block = unsafe { &*(block as *const ThreadState) };
                block.followed.load(Ordering::Acquire) && !block.ended.load(Ordering::Acquire)
            })
        })
    }
}

const _: () = assert!(size_of::<BpfInstruction>() == 8);
