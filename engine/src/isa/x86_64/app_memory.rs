//! Reading and writing the application's memory at addresses that may be wrong, without a system call.
//!
//! # Design
//! What lies a little above the thread's stack pointer is there: nearly all structures that calls take are local variables.
//! Everything else is copied by one REP MOVSB. Where it faults, the engine's handler for SIGSEGV and SIGBUS finds the thread at
//! that instruction and sends it on behind it, with the number of bytes that are left in RCX. The engine has that handler where
//! the application has one, where core files are wanted, and from the moment on when the kernel refuses the other way: as long as
//! there is none, process_vm_readv makes the copy, for a handler of ours can be seen in `/proc/self/status`. A
//! fault with its signal blocked ends the process, so a thread that has one of the two blocked asks the kernel too; where
//! that is refused the address is trusted: the application has just handed it to the kernel.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::isa::x86_64::context::ThreadState;
use crate::isa::x86_64::registers::gpr;
use crate::os::process;
use crate::os::seccomp::optional;
use crate::os::signals::FAULTS;
use crate::os::syscall::nr;

global_asm!(
    ".pushsection .text.engine_copy, \"ax\", @progbits",
    ".globl engine_copy",
    ".hidden engine_copy",
    ".type engine_copy, @function",
    ".globl engine_copy_at",
    ".hidden engine_copy_at",
    ".globl engine_copy_done",
    ".hidden engine_copy_done",
    // extern "C" fn(to, from, len) -> bytes that are left
    "engine_copy:",
    "mov rcx, rdx",
    "engine_copy_at:",
    "rep movsb",
    "engine_copy_done:",
    "mov rax, rcx",
    "ret",
    ".popsection",
);

unsafe extern "C" {
    fn engine_copy(to: u64, from: u64, len: usize) -> usize;
    fn engine_copy_at();
    fn engine_copy_done();
}

/// Above the stack pointer so much is taken for the stack's.
const LOCAL_BYTES: u64 = 32 * 1024;

/// The handlers of SIGSEGV and SIGBUS are the engine's.
static SERVED: AtomicBool = AtomicBool::new(false);

/// The signals that are blocked while the engine deals with another one.
pub(crate) fn held_signals() -> u64 {
    if are_faults_served() { !FAULTS } else { u64::MAX }
}

/// Has the faults of the copy come to the engine, if it may.
static ASK_FOR_FAULTS: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// What [`read_memory`] and [`write_memory`] call when the kernel refuses to copy for them.
pub fn on_refusal(ask_for_faults: fn()) {
    ASK_FOR_FAULTS.store(ask_for_faults as *mut (), Ordering::Release);
}

fn ask_for_faults() {
    let ask = ASK_FOR_FAULTS.load(Ordering::Acquire);
    if !ask.is_null() {
        // SAFETY: `on_refusal` alone writes it, and takes functions of this type.
        let ask = unsafe { core::mem::transmute::<*mut (), fn()>(ask) };
        ask();
    }
}

/// From now on faults of the copy come to the engine.
pub(crate) fn faults_are_served() {
    SERVED.store(true, Ordering::Release);
}

/// The application's own handlers are the kernel's again.
pub(crate) fn faults_are_not_served() {
    SERVED.store(false, Ordering::Release);
}

/// Whether signals that the application sets no handler for come to the engine.
pub(crate) fn are_faults_served() -> bool {
    SERVED.load(Ordering::Acquire)
}

/// Where to go on after a fault at this address, if it is the copy's.
pub(crate) fn behind_copy(host: u64) -> Option<u64> {
    (host == engine_copy_at as *const () as u64).then_some(engine_copy_done as *const () as u64)
}

/// Reads application memory without the risk of a fault; whether all of it could be read.
pub fn read_memory(from: u64, into: &mut [u8]) -> bool {
    read_start(from, into) == into.len()
}

/// Reads application memory up to the first byte that cannot be read; the number of bytes.
pub fn read_start(from: u64, into: &mut [u8]) -> usize {
    copy(nr::PROCESS_VM_READV, into.as_mut_ptr() as u64, from, into.len())
}

/// Writes application memory without the risk of a fault; 0 or `-EFAULT`.
pub(crate) fn write_memory(to: u64, bytes: &[u8]) -> i64 {
    const EFAULT: i64 = 14;
    let done = copy(nr::PROCESS_VM_WRITEV, bytes.as_ptr() as u64, to, bytes.len());
    if done == bytes.len() { 0 } else { -EFAULT }
}

/// Copies between the engine's memory and the application's, in the direction of the call; bytes that were copied.
fn copy(call: u64, ours: u64, application: u64, len: usize) -> usize {
    let mut thread = ThreadState::current();
    let is_local = thread.as_ref().is_some_and(|thread| {
        let above = application.wrapping_sub(thread.gpr[gpr::RSP]);
        above < LOCAL_BYTES.saturating_sub(len as u64)
    });
    if !is_local {
        let may_fault = thread.as_mut().is_some_and(|thread| thread.blocked() & FAULTS == 0);
        if !(may_fault && SERVED.load(Ordering::Acquire)) {
            if let Some(done) = by_kernel(call, ours, application, len) {
                return done;
            }
            if may_fault {
                ask_for_faults();
            }
        }
    }
    let (to, from) =
        if call == nr::PROCESS_VM_READV { (ours, application) } else { (application, ours) };
    // SAFETY: our side is the caller's, of this length. A fault on the other ends the copy; where none can be caught, the
    // application vouches for the address (module documentation).
    len - unsafe { engine_copy(to, from, len) }
}

/// The same by a system call; `None` where it is refused.
fn by_kernel(call: u64, ours: u64, application: u64, len: usize) -> Option<usize> {
    const EFAULT: i64 = 14;
    let (local, remote) = ([ours, len as u64], [application, len as u64]);
    let pid = u64::from(process::getpid());
    let arguments = [pid, local.as_ptr() as u64, 1, remote.as_ptr() as u64, 1, 0];
    // SAFETY: the kernel checks the application's range; the local one is the caller's, writable for a read.
    let done = unsafe { optional(call, arguments) };
    if done == -EFAULT { Some(0) } else { usize::try_from(done).ok() }
}
