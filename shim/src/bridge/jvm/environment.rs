//! The JVM that this library is an agent of, while it lives.

use crate::{
    base::{guarded, tracer},
    bridge::jvm::jvmti::{self, Env, JavaVm},
    count::follow,
};
use core::{
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering},
};

/// The JVM's environment while breakpoints may be set; null before `Agent_OnLoad` and after VM death.
static ENVIRONMENT: AtomicPtr<*const jvmti::Table> = AtomicPtr::new(null_mut());

/// The JVM, for attaching a thread.
static VM: AtomicPtr<*const [usize; 8]> = AtomicPtr::new(null_mut());

/// From now on the JVM can be asked.
pub fn publish(vm: JavaVm, environment: Env) {
    VM.store(vm, Ordering::Relaxed);
    ENVIRONMENT.store(environment.as_raw(), Ordering::Release);
}

/// The JVM is about to end.
pub fn withdraw() {
    ENVIRONMENT.store(null_mut(), Ordering::Release);
}

/// The environment, while there is one.
pub fn current() -> Option<Env> {
    let environment = ENVIRONMENT.load(Ordering::Acquire);
    (!environment.is_null()).then(|| Env::from_raw(environment))
}

/// The JVM.
pub fn vm() -> JavaVm {
    VM.load(Ordering::Relaxed)
}

/// The thread to follow when a callback returns.
pub fn go_on() -> *mut tracer::Thread {
    unsafe extern "C" fn body(_: usize) -> usize {
        follow::go_on() as usize
    }
    // SAFETY: `body` ignores its argument.
    match unsafe { guarded::guarded(0, body) } {
        guarded::FAILED => null_mut(),
        thread => thread as *mut tracer::Thread,
    }
}

/// Hands the calling thread's Java name to `use_name`. On a thread of the JVM that executes native code.
pub fn with_own_name(use_name: impl FnOnce(&[u8])) {
    if let Some(environment) = current() {
        environment.with_thread_name(null_mut(), use_name);
    }
}
