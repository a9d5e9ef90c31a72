//! System calls of followed threads: callouts before and behind the instruction.

use engine::foreign::Refusal;
use engine::sys::{self, nr};
use engine::{Call, Notice};
use frida_gum::CpuContext;

use crate::thread::Followed;
use crate::transform::memory_changed;

/// What is left to do when a call has returned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// A clone that was made as fork: these of its flags, and where they want the child's id.
    Fork { flags: u64, parent_id: u64, child_id: u64 },
    /// A child that borrows this block runs from the same place.
    Vfork,
    /// A child of vfork that runs natively from its first instruction.
    NativeVfork,
    /// The application never set GS and must see none.
    HideGs,
    /// A child that Stalker leaves behind: a process, or a thread that the host will not attach.
    Lost,
}

const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const SIGCHLD: u64 = 17;
const SET_TID_ADDRESS: u64 = 218;
const ARCH_SET_GS: u64 = 0x1001;
const ARCH_GET_GS: u64 = 0x1004;
/// A number that no call has: the kernel answers ENOSYS.
const NO_CALL: u64 = 1 << 30;

/// What a clone-like call asks for.
struct NewTask {
    flags: u64,
    signal: u64,
    stack: u64,
    parent_id: u64,
    child_id: u64,
}

impl NewTask {
    fn of(call: &Call) -> Option<NewTask> {
        let a = &call.arguments;
        Some(match call.number {
            nr::CLONE => NewTask {
                flags: a[0] & !0xff,
                signal: a[0] & 0xff,
                stack: a[1],
                parent_id: a[2],
                child_id: a[3],
            },
            nr::CLONE3 => {
                // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack.
                let mut words = [0u64; 6];
                let read = [(words.as_mut_ptr() as u64, 48u64), (a[0], 48)];
                // SAFETY: the local range is ours, the kernel checks the other.
                let got = unsafe {
                    let pid = sys::syscall6(nr::GETPID, [0; 6]) as u64;
                    let [local, remote] = [&raw const read[0] as u64, &raw const read[1] as u64];
                    sys::syscall6(nr::PROCESS_VM_READV, [pid, local, 1, remote, 1, 0])
                };
                let [flags, _, child_id, parent_id, signal, stack] = words;
                if got != 48 {
                    return None;
                }
                NewTask { flags, signal, stack, parent_id, child_id }
            }
            _ => return None,
        })
    }

    /// Whether the call is a fork in all but its number.
    fn is_fork(&self) -> bool {
        let known = CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID;
        self.flags & !known == 0 && self.stack == 0 && self.signal == SIGCHLD
    }
}

fn thread(at: usize) -> &'static mut Followed {
    // SAFETY: the address that `transform::block` put into the callout: a block that is never unmapped, of the thread
    // that executes it.
    unsafe { &mut *(at as *mut Followed) }
}

/// The thread is about to make a call.
pub fn before(at: usize, mut context: CpuContext) {
    let thread = thread(at);
    thread.call = Call {
        number: context.rax(),
        arguments: [
            context.rdi(),
            context.rsi(),
            context.rdx(),
            context.r10(),
            context.r8(),
            context.r9(),
        ],
    };
    thread.rest = Rest::Nothing;
    if thread.vfork.is_some() {
        return;
    }
    let (call, host) = (thread.call, thread.tracer().host);
    thread.token = host.before_syscall(thread, &call);
    match call.number {
        nr::EXIT | nr::EXIT_GROUP => {
            let process = call.number == nr::EXIT_GROUP;
            host.exiting(thread, process, call.arguments[0] as i32);
        }
        // What the host would have it made with instead is not served: Stalker makes the call itself.
        nr::EXECVE | nr::EXECVEAT => host.before_exec(thread, &mut { call }),
        nr::FORK => {
            thread.rest = Rest::Fork { flags: 0, parent_id: 0, child_id: 0 };
        }
        nr::VFORK => thread.rest = Rest::Vfork,
        nr::CLONE | nr::CLONE3 => new_task(thread, &call, &mut context),
        nr::RT_SIGACTION => handler(thread, &call),
        // GS is the tracer's. A program that sets it is told that the kernel has no such call.
        nr::ARCH_PRCTL if call.arguments[0] == ARCH_SET_GS => {
            context.set_rax(NO_CALL);
            let detail = Refusal::UsesGs as u64;
            host.notice(thread, Notice::Untranslatable, context.rip(), detail);
        }
        nr::ARCH_PRCTL if call.arguments[0] == ARCH_GET_GS => thread.rest = Rest::HideGs,
        _ => {}
    }
}

fn new_task(thread: &mut Followed, call: &Call, context: &mut CpuContext) {
    let Some(new) = NewTask::of(call) else { return };
    if new.flags & CLONE_VM != 0 {
        thread.rest = if new.flags & CLONE_VFORK != 0 {
            Rest::NativeVfork
        } else if core::mem::take(&mut thread.expected) {
            Rest::Nothing
        } else {
            Rest::Lost
        };
    } else if new.is_fork() {
        // Stalker goes on in the child of a fork as it does here; the child of a clone it lets go.
        context.set_rax(nr::FORK);
        let NewTask { flags, parent_id, child_id, .. } = new;
        thread.rest = Rest::Fork { flags, parent_id, child_id };
    } else {
        thread.rest = Rest::Lost;
    }
}

/// A handler would run uncounted and see addresses in Stalker's code.
fn handler(thread: &mut Followed, call: &Call) {
    const SIG_IGN: u64 = 1;
    let action = call.arguments[1];
    // SAFETY: libc passes a structure of its own, or null; its first word is the handler.
    let handler = if action == 0 { 0 } else { unsafe { *(action as *const u64) } };
    if handler > SIG_IGN {
        let host = thread.tracer().host;
        host.notice(thread, Notice::SignalHandler, handler, call.arguments[0]);
    }
}

/// The call has returned, here or in a child.
pub fn after(at: usize, context: CpuContext) {
    let thread = thread(at);
    let result = context.rax() as i64;
    if thread.vfork.is_some() {
        if thread.call.number != nr::VFORK && sys::gettid() != thread.tid() {
            return;
        }
        // Both come back from the same call: the child was here before its parent is.
        if thread.take_back() {
            thread.rest = Rest::NativeVfork;
        }
    }
    let (call, token, host) = (thread.call, thread.token, thread.tracer().host);
    match core::mem::replace(&mut thread.rest, Rest::Nothing) {
        Rest::Nothing => {}
        Rest::Vfork if result == 0 => return thread.lend(),
        Rest::Fork { flags, child_id, .. } if result == 0 => in_child(thread, flags, child_id),
        Rest::Fork { flags, parent_id, .. } if result > 0 && flags & CLONE_PARENT_SETTID != 0 => {
            // SAFETY: the application asked for its child's id there.
            unsafe { *(parent_id as *mut u32) = result as u32 };
        }
        Rest::NativeVfork if result > 0 => {
            host.notice(thread, Notice::VforkChild, context.rip(), result as u64);
        }
        Rest::Lost if result > 0 => {
            host.notice(thread, Notice::ThreadNotFollowed, context.rip(), result as u64);
        }
        Rest::HideGs if result == 0 => {
            // SAFETY: the kernel has just written this word.
            unsafe { *(call.arguments[1] as *mut u64) = 0 };
        }
        _ => {}
    }
    host.after_syscall(thread, &call, result, token);
    if !(-4095..0).contains(&result) {
        code_changes(thread, &call, result, context.rip());
    }
}

/// The child of a fork that stands for a clone: does what the clone would have done.
fn in_child(thread: &mut Followed, flags: u64, child_id: u64) {
    if flags & CLONE_CHILD_SETTID != 0 {
        // SAFETY: the application asked for its id there.
        unsafe { *(child_id as *mut u32) = sys::gettid() };
    }
    if flags & CLONE_CHILD_CLEARTID != 0 {
        // SAFETY: the kernel writes there at the thread's end, as the application asked.
        unsafe { sys::syscall6(SET_TID_ADDRESS, [child_id, 0, 0, 0, 0, 0]) };
    }
    thread.is_child();
    let host = thread.tracer().host;
    host.fork_child(thread);
}

/// Stalker keeps what it translated: where that is code no more, the thread is released.
fn code_changes(thread: &mut Followed, call: &Call, result: i64, at: u64) {
    let a = &call.arguments;
    let (start, len) = match call.number {
        nr::MMAP | nr::SHMAT => (result as u64, a[1]),
        nr::MUNMAP | nr::MPROTECT | nr::PKEY_MPROTECT | nr::MREMAP => (a[0], a[1]),
        nr::SHMDT => (a[0], 1),
        _ => return,
    };
    if memory_changed(thread, start, len) {
        thread.tracer().release(thread, Notice::ChangedCode, at, start);
    }
}
