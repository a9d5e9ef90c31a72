//! libc's `errno`.

use core::sync::atomic::{AtomicUsize, Ordering};
use guest::dynamic_symbols::{Name, Symbols};

/// `__errno_location`; 0 = not found.
static ERRNO_LOCATION: AtomicUsize = AtomicUsize::new(0);

/// Looks for it among the symbols of a loaded object, if it is not known yet.
pub fn look_for(symbols: &Symbols) {
    const NAME: Name<'_> = Name::new(c"__errno_location");
    if ERRNO_LOCATION.load(Ordering::Relaxed) == 0
        && let Some(address) = symbols.address(NAME)
    {
        ERRNO_LOCATION.store(address, Ordering::Relaxed);
    }
}

/// libc's `errno` of this thread; a pointer to it comes from `__errno_location`.
fn errno_location() -> Option<*mut i32> {
    let function = ERRNO_LOCATION.load(Ordering::Relaxed);
    // SAFETY: libc's own function, which returns the address of a word in this thread's TLS.
    (function != 0).then(|| unsafe {
        let function: extern "C" fn() -> *mut i32 = core::mem::transmute(function);
        function()
    })
}

/// The error of the call that has just failed.
pub fn errno() -> i64 {
    const EIO: i64 = 5;
    // SAFETY: the thread's own errno.
    errno_location().map_or(EIO, |errno| i64::from(unsafe { *errno })).max(1)
}

/// Leaves the error of a call that failed, as libc does.
pub fn set_errno(value: i32) {
    if let Some(errno) = errno_location() {
        // SAFETY: the thread's own errno.
        unsafe { *errno = value };
    }
}
