//! Memory for a process in which translated code may be interrupted anywhere: an allocator without thread-local
//! storage, as FS is the tested code's while the engine works, and memory functions that touch no vector
//! register, as the engine promises to touch xmm0-15 alone.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Address space that the allocator may use.
const HEAP: usize = 4 << 30;
/// Sizes are powers of two, from 16 bytes on.
const CLASSES: usize = 32;

/// Free lists of powers of two over one mapping. The process has one thread.
struct FreeLists;

static BASE: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);
static FREE: [AtomicUsize; CLASSES] = [const { AtomicUsize::new(0) }; CLASSES];

fn class(layout: Layout) -> usize {
    layout.size().max(layout.align()).max(16).next_power_of_two().trailing_zeros() as usize - 4
}

// SAFETY: hands out disjoint parts of one mapping, aligned to their size; freed ones once more.
unsafe impl GlobalAlloc for FreeLists {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = class(layout);
        let head = FREE[class].load(Ordering::Relaxed);
        if head != 0 {
            // SAFETY: a freed part holds the address of the next one.
            FREE[class].store(unsafe { *(head as *const usize) }, Ordering::Relaxed);
            return head as *mut u8;
        }
        let size = 16usize << class;
        if BASE.load(Ordering::Relaxed) == 0 {
            let Some(base) = engine::sys::map_anonymous(0, HEAP, 3) else {
                return std::ptr::null_mut();
            };
            BASE.store(base, Ordering::Relaxed);
            NEXT.store(base, Ordering::Relaxed);
        }
        let at = NEXT.load(Ordering::Relaxed).next_multiple_of(size);
        if at + size > BASE.load(Ordering::Relaxed) + HEAP {
            return std::ptr::null_mut();
        }
        NEXT.store(at + size, Ordering::Relaxed);
        at as *mut u8
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let class = class(layout);
        // SAFETY: at least 16 bytes that nobody uses any more.
        unsafe { *at.cast::<usize>() = FREE[class].load(Ordering::Relaxed) };
        FREE[class].store(at as usize, Ordering::Relaxed);
    }
}

#[global_allocator]
static ALLOCATOR: FreeLists = FreeLists;

std::arch::global_asm!(include_str!("../../../engine/tests/contract/memory.s"));
