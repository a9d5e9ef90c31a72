//! All contexts of the process, whichever engine's, for handlers: looked up without a lock.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use crate::isa::x86_64::context::{ENGINE_STACK, ThreadState};
use crate::isa::x86_64::gs::gs_base;
use crate::os::syscall::nr;
use crate::os::{memory, process, seccomp};

/// Some thread of the process was left or released: threads that it starts inherit its GS base.
pub static SOME_RUN_NATIVELY: AtomicBool = AtomicBool::new(false);

/// Threads that were ever followed at the same time.
pub const MOST: usize = 1 << 16;

static BLOCKS: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Adds a block, under an engine's lock; `None` when there is no room.
pub fn add(block: u64) -> Option<()> {
    let mut blocks = BLOCKS.load(Ordering::Acquire);
    if blocks.is_null() {
        let bytes = MOST * size_of::<AtomicU64>();
        let fresh =
            memory::map_anonymous(0, bytes, memory::PROT_READ | memory::PROT_WRITE)? as *mut _;
        // Two engines may begin at once, in tests.
        blocks = match BLOCKS.compare_exchange(
            core::ptr::null_mut(),
            fresh,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => fresh,
            Err(other) => other,
        };
    }
    let at = COUNT.fetch_add(1, Ordering::AcqRel);
    if at >= MOST {
        COUNT.store(MOST, Ordering::Release);
        return None;
    }
    // SAFETY: mapped for good, `at` lies inside.
    unsafe { (*blocks.add(at)).store(block, Ordering::Release) };
    Some(())
}

/// Does this address lie on a dispatcher's stack, below its block?
pub fn has_stack_at(address: u64) -> bool {
    let blocks = BLOCKS.load(Ordering::Acquire);
    let count = COUNT.load(Ordering::Acquire).min(MOST);
    // SAFETY: as in `holds`.
    !blocks.is_null()
        && unsafe { core::slice::from_raw_parts(blocks, count) }.iter().any(|block| {
            let block = block.load(Ordering::Acquire);
            block != 0 && block.wrapping_sub(address) <= ENGINE_STACK as u64
        })
}

/// Is this the address of a block?
pub fn holds(base: u64) -> bool {
    let blocks = BLOCKS.load(Ordering::Acquire);
    let count = COUNT.load(Ordering::Acquire).min(MOST);
    // SAFETY: mapped for good before COUNT grew; elements are atomics.
    !blocks.is_null()
        && unsafe { core::slice::from_raw_parts(blocks, count) }
            .iter()
            .any(|block| block.load(Ordering::Acquire) == base)
}

impl ThreadState {
    /// The state of the calling thread if GS says that it has one.
    pub fn current() -> Option<&'static mut ThreadState> {
        let base = gs_base();
        // A program that uses GS itself may have set it to anything.
        if base == 0 || !holds(base) {
            return None;
        }
        let at = base as *mut ThreadState;
        // SAFETY: blocks are never unmapped.
        let (tid, vforked) = unsafe { ((*at).tid, (*at).vforked.load(Ordering::Relaxed)) };
        // A thread that another one started natively has inherited its GS base. Where nobody ever ran natively there is none,
        // and nothing is asked.
        let is_own = !vforked
            && (!SOME_RUN_NATIVELY.load(Ordering::Relaxed)
                || !seccomp::allows(nr::GETTID, &[0; 6])
                || tid == process::gettid());
        // SAFETY: as above, and it is this thread's own.
        is_own.then(|| unsafe { &mut *at })
    }
}

/// Whether the caller runs on a dispatcher's stack: signals of the application wait until it is done.
pub fn is_in_dispatcher() -> bool {
    let here = 0u8;
    has_stack_at(&raw const here as u64)
}
