//! The shim's own heap: raw mmap, size classes, a limit, safe from any thread and at any moment.
//!
//! # Design
//!
//! - Small blocks (up to 32 KiB) come from per-class free lists, refilled from chunks of 256 KiB; larger
//!   ones are mappings of their own. Chunks are never given back, classes are shared by all threads: the
//!   shim allocates rarely (start-up, new threads, translation).
//! - One lock. A signal handler that interrupts its own thread inside the heap is recognised by the
//!   thread pointer and served by a mapping of its own; [`crate::base::guarded`] ends every wait.
//! - After fork the child may find the lock held by a thread that does not exist there:
//!   [`after_fork_in_child`] drops the free lists then. Blocks stay valid; what was free is lost. So does the helper
//!   ([`crate::record::helper`]) of a process that was killed.
//!
//! # Limitations
//!
//! A block freed by a handler inside the heap is not reused.

use crate::base::{guarded, survivor, sys, tls};
use core::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    ptr::null_mut,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Block sizes: four to each doubling, so that at most a fifth of a block is unused.
const CLASSES: [usize; 40] = class_sizes();
const LARGEST_CLASS: usize = 32 * 1024;
const CHUNK: usize = 256 * 1024;
const PAGE: usize = 4096;
/// Used until the configuration is known, and where it says nothing.
const DEFAULT_LIMIT: usize = 64 << 20;

const fn class_sizes() -> [usize; 40] {
    let mut sizes = [0; 40];
    let mut index = 0;
    while index < 40 {
        sizes[index] = if index < 4 {
            16 * (index + 1)
        } else {
            (16usize << (index / 4 - 1)) * (index % 4 + 5)
        };
        index += 1;
    }
    sizes
}

struct Lists {
    free: [*mut u8; CLASSES.len()],
    chunk: *mut u8,
    chunk_left: usize,
}

/// The heap; there is one, [`HEAP`].
pub struct Heap {
    owner: AtomicUsize,
    lists: UnsafeCell<Lists>,
    mapped: AtomicUsize,
    limit: AtomicUsize,
}

// SAFETY: `lists` is touched only by the thread that set `owner`; the rest is atomic.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap {
    owner: AtomicUsize::new(0),
    lists: UnsafeCell::new(Lists {
        free: [null_mut(); CLASSES.len()],
        chunk: null_mut(),
        chunk_left: 0,
    }),
    mapped: AtomicUsize::new(0),
    limit: AtomicUsize::new(DEFAULT_LIMIT),
};

/// Sets the limit on mapped bytes; what is mapped already stays.
pub fn set_limit(bytes: usize) {
    HEAP.limit.store(bytes, Ordering::Relaxed);
}

/// Bytes that the recorder's queue may have at most, of which another one may be being written.
pub fn queue_bytes() -> usize {
    const LEAST: usize = 512 << 10;
    const MOST: usize = 4 << 20;
    (HEAP.limit.load(Ordering::Relaxed) / 8).clamp(LEAST, MOST)
}

/// Bytes that threads may take: what is left then is for the recorder's queues and the writer.
pub fn bytes_for_threads() -> usize {
    const WRITER: usize = 512 << 10;
    HEAP.limit.load(Ordering::Relaxed).saturating_sub(2 * queue_bytes() + WRITER)
}

/// Makes the heap usable in a child that has only the forking thread.
pub fn after_fork_in_child() {
    if HEAP.owner.load(Ordering::Relaxed) != 0 {
        // SAFETY: the child has one thread and it is not inside the heap.
        unsafe {
            (*HEAP.lists.get()).free = [null_mut(); CLASSES.len()];
            (*HEAP.lists.get()).chunk_left = 0;
        }
        HEAP.owner.store(0, Ordering::Release);
    }
}

fn class_of(layout: Layout) -> Option<usize> {
    let align = layout.align();
    if align > 16 {
        // A block of class size 2^k is not aligned to 2^k; a page-aligned mapping is.
        return None;
    }
    let size = layout.size();
    (size <= LARGEST_CLASS).then(|| CLASSES.partition_point(|&class| class < size))
}

impl Heap {
    /// Runs `with` on the lists; `None` if this very thread is inside already or the library is off.
    fn locked<R>(&self, with: impl FnOnce(&mut Lists) -> R) -> Option<R> {
        let me = tls::thread_pointer();
        let mut turns = 0u32;
        while let Err(owner) =
            self.owner.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed)
        {
            if owner == me || guarded::switched_off() {
                return None;
            }
            turns += 1;
            if turns.is_multiple_of(64) {
                if survivor::is_caller() {
                    after_fork_in_child();
                }
                // SAFETY: gives up the processor; no argument.
                unsafe { sys::call0(sys::nr::SCHED_YIELD) };
            } else {
                core::hint::spin_loop();
            }
        }
        // SAFETY: `owner` was 0 and is this thread now: nobody else is in here.
        let result = with(unsafe { &mut *self.lists.get() });
        self.owner.store(0, Ordering::Release);
        Some(result)
    }

    fn map(&self, bytes: usize) -> *mut u8 {
        let before = self.mapped.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= self.limit.load(Ordering::Relaxed)
            && let Some(start) = sys::map_anonymous(bytes)
        {
            return start;
        }
        self.mapped.fetch_sub(bytes, Ordering::Relaxed);
        null_mut()
    }

    fn map_aligned(&self, layout: Layout) -> *mut u8 {
        if layout.align() > PAGE {
            return null_mut();
        }
        self.map(whole_pages(layout.size()))
    }

    fn small(&self, lists: &mut Lists, class: usize) -> *mut u8 {
        let head = lists.free[class];
        if !head.is_null() {
            // SAFETY: a free block's first word is the next free block.
            lists.free[class] = unsafe { head.cast::<*mut u8>().read() };
            return head;
        }
        let size = CLASSES[class];
        if lists.chunk_left < size {
            let chunk = self.map(CHUNK);
            if chunk.is_null() {
                return chunk;
            }
            lists.chunk = chunk;
            lists.chunk_left = CHUNK;
        }
        let block = lists.chunk;
        lists.chunk_left -= size;
        // SAFETY: `size` bytes were left in the chunk.
        lists.chunk = unsafe { block.add(size) };
        block
    }
}

fn whole_pages(size: usize) -> usize {
    size.max(1).next_multiple_of(PAGE)
}

// SAFETY: blocks of a class are at least the layout's size, 16-byte aligned and given to one owner at a
// time; larger ones are mappings of their own, page-aligned.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(layout) {
            Some(class) => self
                .locked(|lists| self.small(lists, class))
                .unwrap_or_else(|| self.map(whole_pages(CLASSES[class]))),
            None => self.map_aligned(layout),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller says.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() && class_of(layout).is_some() {
            // SAFETY: the block has the layout's size; mappings are zero already.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class_of(layout) {
            Some(class) => {
                self.locked(|lists| {
                    // SAFETY: the block is ours again and at least 16 bytes long.
                    unsafe { block.cast::<*mut u8>().write(lists.free[class]) };
                    lists.free[class] = block;
                });
            }
            None => {
                let bytes = whole_pages(layout.size());
                // SAFETY: the mapping was made by `alloc` with this layout.
                unsafe { sys::unmap(block, bytes) };
                self.mapped.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
    }
}
