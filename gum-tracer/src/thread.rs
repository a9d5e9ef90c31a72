//! A thread's block: counters that the inserted code reaches through GS, and the thread's Stalker.

use alloc::boxed::Box;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use engine::foreign::{COUNTERS, COUNTERS_AT, set_gs_base, weigh};
use engine::sys;
use engine::{Call, CallToken, METRICS, Thread, Totals};
use frida_gum::stalker::{Stalker, Transformer};

use crate::{Gum, transform};

/// Bytes of the mapping before [`Followed`].
const SPAN: usize = COUNTERS_AT + 8 * COUNTERS;
const _: () = assert!(SPAN.is_multiple_of(align_of::<Followed>()));

/// What the tracer keeps of a thread. It lies behind the counters of the block that GS points at.
pub struct Followed {
    /// First byte of the block.
    base: usize,
    tracer: &'static Gum,
    tid: u32,
    counted: AtomicBool,
    stalker: Stalker,
    transformer: Transformer<'static>,
    /// The system call in progress, and the host's word about it.
    pub(crate) call: Call,
    pub(crate) token: CallToken,
    /// What is left to do when the call has returned.
    pub(crate) rest: crate::syscall::Rest,
    /// The next thread that is made will be attached by the host.
    pub(crate) expected: bool,
    /// In the child of vfork, on the parent's block.
    pub(crate) vfork: Option<Box<Borrowed>>,
    corrections: [AtomicU64; METRICS],
    client_word: Cell<u64>,
    inherited_word: Cell<u64>,
    older: *mut Followed,
}

/// The parent's state while a child of vfork runs on its block.
pub struct Borrowed {
    pub(crate) call: Call,
    pub(crate) token: CallToken,
    totals: Totals,
}

impl Followed {
    /// A block for the calling thread; `None` when the kernel refuses memory.
    #[allow(clippy::mut_from_ref, reason = "a mapping of its own, not a part of the tracer")]
    pub(crate) fn new(tracer: &'static Gum) -> Option<&'static mut Followed> {
        let size = SPAN + size_of::<Followed>();
        let base = sys::map_anonymous(0, size, sys::PROT_READ | sys::PROT_WRITE)?;
        let at = (base + SPAN) as *mut Followed;
        let mut stalker = Stalker::new(&tracer.gum);
        // Code that could change is not translated at all: no block is compared with its source.
        stalker.set_trust_threshold(0);
        let here = at as usize;
        let transformer = Transformer::from_callback(&tracer.gum, move |instructions, output| {
            // SAFETY: blocks are never unmapped, and only this thread's Stalker calls this, on this thread.
            transform::block(unsafe { &mut *(here as *mut Followed) }, instructions, &output);
        });
        // SAFETY: the mapping is fresh, large enough and aligned; it is never unmapped.
        unsafe {
            at.write(Followed {
                base,
                tracer,
                tid: 0,
                counted: AtomicBool::new(false),
                stalker,
                transformer,
                call: Call { number: 0, arguments: [0; 6] },
                token: CallToken::default(),
                rest: crate::syscall::Rest::Nothing,
                expected: false,
                vfork: None,
                corrections: [const { AtomicU64::new(0) }; METRICS],
                client_word: Cell::new(0),
                inherited_word: Cell::new(0),
                older: NEWEST.load(Ordering::Acquire),
            });
            let thread = &mut *at;
            while let Err(newer) =
                NEWEST.compare_exchange(thread.older, at, Ordering::AcqRel, Ordering::Acquire)
            {
                thread.older = newer;
            }
            Some(thread)
        }
    }

    /// It is about to be followed.
    pub(crate) fn begin(&mut self) {
        self.tid = sys::gettid();
        self.counted.store(true, Ordering::Release);
        // SAFETY: the block is whole; GS is nobody else's on x86-64 Linux.
        unsafe { set_gs_base(self.base as u64) };
    }

    /// Stalker goes on from here.
    pub(crate) fn follow(&mut self) {
        self.stalker.follow_me(&self.transformer);
    }

    /// Stalker ends here.
    pub(crate) fn unfollow(&mut self) {
        self.leave();
    }

    /// It is not counted from the next block on.
    pub(crate) fn leave(&mut self) {
        self.counted.store(false, Ordering::Release);
        self.stalker.unfollow_me();
    }

    pub(crate) fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Relaxed)
    }

    pub(crate) fn tid(&self) -> u32 {
        self.tid
    }

    pub(crate) fn tracer(&self) -> &'static Gum {
        self.tracer
    }

    /// This thread is now the only one of a child of fork: it counts from zero.
    pub(crate) fn is_child(&mut self) {
        self.tid = sys::gettid();
        for counter in self.counters() {
            // Untouched pages stay untouched.
            if counter.load(Ordering::Relaxed) != 0 {
                counter.store(0, Ordering::Relaxed);
            }
        }
        for correction in &self.corrections {
            correction.store(0, Ordering::Relaxed);
        }
    }

    /// A child of vfork runs on this block from here on: what it counts is not the parent's.
    pub(crate) fn lend(&mut self) {
        let borrowed = Borrowed { call: self.call, token: self.token, totals: self.totals() };
        self.vfork = Some(Box::new(borrowed));
    }

    /// The parent is back from its vfork, if it was in one.
    pub(crate) fn take_back(&mut self) -> bool {
        let Some(parent) = self.vfork.take() else { return false };
        let with_child = self.totals();
        for (metric, correction) in self.corrections.iter().enumerate() {
            let child = with_child[metric].wrapping_sub(parent.totals[metric]);
            correction
                .store(correction.load(Ordering::Relaxed).wrapping_sub(child), Ordering::Relaxed);
        }
        (self.call, self.token) = (parent.call, parent.token);
        true
    }

    fn counters(&self) -> &[AtomicU64] {
        // SAFETY: the counters lie in the block, zeroed by the kernel; all access to them is by whole words.
        unsafe {
            core::slice::from_raw_parts((self.base + COUNTERS_AT) as *const AtomicU64, COUNTERS)
        }
    }
}

impl Thread for Followed {
    fn is_followed(&self) -> bool {
        self.is_counted()
    }

    fn totals(&self) -> Totals {
        let mut totals =
            self.tracer.with_tables(|tables| weigh(tables.insertion.weights(), self.counters()));
        for (sum, correction) in totals.iter_mut().zip(&self.corrections) {
            *sum = sum.wrapping_add(correction.load(Ordering::Relaxed));
        }
        totals
    }

    fn tid(&self) -> u32 {
        self.tid
    }

    fn client_word(&self) -> &Cell<u64> {
        &self.client_word
    }

    /// Spark's tasks, for which it is, run in JVMs; those are refused.
    fn inherited_word(&self) -> &Cell<u64> {
        &self.inherited_word
    }
}

/// All blocks, the newest first.
static NEWEST: AtomicPtr<Followed> = AtomicPtr::new(core::ptr::null_mut());

/// The calling thread's block. By its id: GS could tell, but a followed thread may not ask for it, and a new one has
/// its parent's.
pub fn current() -> Option<&'static mut Followed> {
    let tid = sys::gettid();
    let mut at = NEWEST.load(Ordering::Acquire);
    // SAFETY: blocks are never unmapped, and one is used by its own thread alone.
    while let Some(thread) = unsafe { at.as_mut() } {
        if thread.tid == tid {
            return Some(thread);
        }
        at = thread.older;
    }
    None
}
