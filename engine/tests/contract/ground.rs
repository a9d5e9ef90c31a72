//! What a tracer's host must bring along in a test program: an allocator without locks, and memory functions that
//! use no wide registers. And code of known length to follow.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Never frees and takes no lock, so that the tracer may allocate while followed code is in malloc.
struct Bump;

static NEXT: AtomicUsize = AtomicUsize::new(0);
const HEAP: usize = 1 << 30;

// SAFETY: hands out disjoint parts of one large mapping.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        static BASE: AtomicUsize = AtomicUsize::new(0);
        let mut base = BASE.load(Ordering::Acquire);
        if base == 0 {
            let fresh = engine::sys::map_anonymous(0, HEAP, 3).expect("memory");
            base = match BASE.compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => fresh,
                Err(other) => other,
            };
        }
        let size = layout.size() + layout.align();
        let at = base + NEXT.fetch_add(size, Ordering::Relaxed);
        ((at + layout.align() - 1) & !(layout.align() - 1)) as *mut u8
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump;

core::arch::global_asm!(include_str!("memory.s"));

/// A loop of known length: 2 + 3n instructions and the return.
#[unsafe(naked)]
pub extern "C" fn count_down(_n: u64) -> u64 {
    core::arch::naked_asm!(
        "xor eax, eax",
        "mov rcx, rdi",
        "2:",
        "add rax, rcx",
        "dec rcx",
        "jnz 2b",
        "ret"
    )
}
