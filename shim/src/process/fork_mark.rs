//! A page that says in a child of fork that it is one: the kernel wipes it there.

use crate::base::{
    signals::SignalsBlocked,
    sys::{self, nr},
};
use core::{
    ptr::null_mut,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

/// A page that the kernel wipes in children of fork; its first word is 1 in the process that counts.
static MARK: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());

/// What makes a child of fork a process of its own; null before there is a mark.
static BECOMES_CHILD: AtomicPtr<()> = AtomicPtr::new(null_mut());

/// Marks this process. `becomes_child` is called in a child of fork, once, when it is noticed there. False where the kernel
/// refuses the page: children would be taken for this process.
pub fn set(becomes_child: fn()) -> bool {
    const MADV_WIPEONFORK: u64 = 18;
    const PAGE: usize = 4096;
    let Some(page) = sys::map_anonymous(PAGE) else { return false };
    // SAFETY: our own new page, large enough for the word.
    let wiped = unsafe {
        (*page.cast::<AtomicU32>()).store(1, Ordering::Relaxed);
        sys::call3(nr::MADVISE, page as u64, PAGE as u64, MADV_WIPEONFORK)
    };
    if sys::failed(wiped) {
        return false;
    }
    BECOMES_CHILD.store(becomes_child as *mut (), Ordering::Relaxed);
    MARK.store(page.cast(), Ordering::Release);
    true
}

/// Notices that this is a child of fork, and makes it a process of its own.
#[inline]
pub fn check() {
    // SAFETY: null or the page, which is never unmapped and holds an atomic.
    if let Some(mark) = unsafe { MARK.load(Ordering::Relaxed).as_ref() }
        && mark.load(Ordering::Relaxed) == 0
    {
        become_child(mark);
    }
}

#[cold]
fn become_child(mark: &AtomicU32) {
    let _blocked = SignalsBlocked::new();
    if mark.swap(1, Ordering::Relaxed) != 0 {
        return;
    }
    // SAFETY: `set` has put a function of this type there before the mark.
    let becomes_child: fn() =
        unsafe { core::mem::transmute(BECOMES_CHILD.load(Ordering::Relaxed)) };
    becomes_child();
}
