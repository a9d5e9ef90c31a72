//! How tasks are noticed in this process, for the header of its files.

use core::sync::atomic::{AtomicU8, Ordering};
use records::TaskMethod;

/// 0 = not known.
static METHOD: AtomicU8 = AtomicU8::new(0);

/// Before the first file is written.
pub fn set(method: TaskMethod) {
    METHOD.store(method.0, Ordering::Relaxed);
}

/// How they are noticed.
pub fn get() -> TaskMethod {
    TaskMethod(METHOD.load(Ordering::Relaxed))
}
