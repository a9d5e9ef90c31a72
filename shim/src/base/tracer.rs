//! The tracer of this process, as a pointer: what anybody may ask of it.
//!
//! What it asks of us is in [`crate::client`]; which threads it is given in [`crate::count::follow`].

use core::{
    arch::naked_asm,
    ptr::null_mut,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};
use engine::Tracer as _;

/// The tracer that this library is built with.
#[cfg(not(feature = "gum"))]
pub use engine::Engine as Chosen;
#[cfg(feature = "gum")]
pub use gum_tracer::Gum as Chosen;

/// A thread of the tracer.
pub type Thread = <Chosen as engine::Tracer>::Thread;

/// The tracer of this process; null where nothing is followed.
static TRACER: AtomicPtr<Chosen> = AtomicPtr::new(null_mut());
/// Some thread was followed: handlers and code are the engine's business from now on.
static SERVES: AtomicBool = AtomicBool::new(false);

/// Follows from the return address on the stack: `rdi` is the thread. The constructor's stub jumps here.
#[unsafe(naked)]
pub unsafe extern "C" fn enter_return(_thread: *mut Thread) {
    naked_asm!("jmp {enter}", enter = sym <Chosen as engine::Tracer>::enter)
}

/// A function that others call: hands its arguments on, and leaves for the engine if the answer is a thread.
macro_rules! entry {
    ($name:ident, $does:ident, ($( $type:ty ),*)) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name($( _: $type ),*) {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "sub rsp, 8",
                ".cfi_adjust_cfa_offset 8",
                "call {does}",
                "add rsp, 8",
                ".cfi_adjust_cfa_offset -8",
                "test rax, rax",
                "jnz 2f",
                "ret",
                "2:",
                "mov rdi, rax",
                "jmp {enter}",
                ".cfi_endproc",
                does = sym $does,
                enter = sym $crate::base::tracer::enter_return,
            )
        }
    };
}
pub(crate) use entry;

fn tracer() -> Option<&'static Chosen> {
    // SAFETY: null or a leaked box, of which nobody has another reference than a shared one.
    unsafe { TRACER.load(Ordering::Acquire).as_ref() }
}

/// From now on there is this tracer.
pub fn publish(tracer: &'static Chosen) {
    TRACER.store((&raw const *tracer).cast_mut(), Ordering::Release);
}

/// Nobody asks the tracer any more: nothing is followed from here on.
pub fn withdraw() {
    TRACER.store(null_mut(), Ordering::Release);
}

/// Prepares the calling thread to be followed; null when memory is refused or the tracer was abandoned.
pub fn attach() -> *mut Thread {
    SERVES.store(true, Ordering::Release);
    tracer().and_then(engine::Tracer::attach).unwrap_or(null_mut())
}

/// The engine's part in what threads that are not followed do to the whole process, once somebody was followed.
fn serving() -> Option<&'static Chosen> {
    if SERVES.load(Ordering::Acquire) { tracer() } else { None }
}

/// Whether calls that change handlers or code must be told to the engine.
pub fn is_serving() -> bool {
    serving().is_some()
}

/// `rt_sigaction` on a thread that is not followed; the kernel's answer. Only where [`is_serving`].
pub fn set_action(signal: u64, new: u64, old: u64) -> i64 {
    const ENOSYS: i64 = 38;
    serving().map_or(-ENOSYS, |tracer| tracer.set_action(signal, new, old))
}

/// Memory was mapped, unmapped or protected on a thread that is not followed.
pub fn memory_changed(start: u64, len: u64) {
    if let Some(tracer) = serving() {
        tracer.memory_changed(start, len);
    }
}

/// The loader has unmapped libraries on a thread that is not followed.
pub fn libraries_unloaded() {
    if let Some(tracer) = serving() {
        tracer.libraries_unloaded();
    }
}

/// The JVM has generated code that it never changes: its blocks need not be compared.
pub fn settle(start: u64, len: u64) {
    if let Some(tracer) = tracer() {
        tracer.settle(start, len);
    }
}

/// The JVM's compiled code lies here.
pub fn guard(start: u64, len: u64) {
    if let Some(tracer) = tracer() {
        tracer.guard(start, len);
    }
}

/// Whether the engine counts in this process.
pub fn is_running() -> bool {
    tracer().is_some()
}

/// Whether the engine follows the calling thread, and so will see its exit system call.
pub fn follows_current() -> bool {
    is_running() && Chosen::current().is_some_and(engine::Thread::is_followed)
}

/// The way out for a panic in the engine or below it: the thread goes on natively. Returns where the engine is
/// not concerned.
pub fn abandon() {
    if is_running() {
        Chosen::abandon();
    }
}

/// The calling thread's id, if the tracer follows it; else 0.
pub fn current_tid() -> u32 {
    if is_running() { Chosen::current().map_or(0, engine::Thread::tid) } else { 0 }
}

/// The last counters of a thread are taken, and it ends natively.
pub fn forget(thread: &Thread) {
    if let Some(tracer) = tracer() {
        tracer.forget(thread);
    }
}
