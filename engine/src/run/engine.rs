//! The engine: its tables, the threads it follows, and what it does when code goes away.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::cache::address_space::AddressSpace;
use crate::cache::arena::{MAX_ARENAS, Span};
use crate::cache::block_map::BlockMap;
use crate::code::mappings::CodeMemory;
use crate::code::write_protect::Guarded;
use crate::contract::{Client, Limits, Notice};
use crate::isa::x86_64::context::ThreadState;
use crate::isa::x86_64::cpu::Cpu;
use crate::isa::x86_64::emit::ibl::Lookups;
use crate::isa::x86_64::gs::learn_gs_access;
use crate::isa::x86_64::registry::{self, SOME_RUN_NATIVELY};
use crate::metric::Totals;
use crate::os::futex::Lock;
use crate::os::reserved::Reserved;
use crate::run::handlers::Actions;
use crate::run::stubs::{exit_address, miss};
use crate::run::tables::Tables;
use crate::translate::translator::Translator;

/// The dynamic binary translator.
pub struct Engine {
    pub(crate) client: &'static dyn Client<ThreadState>,
    pub(crate) limits: Limits,
    /// Counters of each thread.
    pub(crate) slots: usize,
    pub(crate) lock: Lock,
    /// An address on the stack of the thread that has the lock.
    pub(crate) holder: AtomicU64,
    tables: UnsafeCell<Tables>,
    /// Threads that execute translated code now.
    pub(crate) inside: AtomicUsize,
    /// Set by [`abandon`].
    pub(crate) broken: AtomicBool,
    /// The next thread to be attached is the program's first, before its first instruction.
    pub(crate) at_start: AtomicBool,
    /// The application needed the address space: nothing is translated any more.
    pub(crate) gave_way: AtomicBool,
    pub(crate) actions: Actions,
    /// Signals that leave a core file come to the engine first.
    pub(crate) cores: AtomicBool,
    /// Where the arenas lie ([`Span::pack`]), for signal handlers, which must not take the lock.
    pub(crate) arenas: [AtomicU64; MAX_ARENAS],
    /// Start and end of the guarded memory, for the same.
    pub(crate) guarded: [AtomicU64; 2],
}

// SAFETY: `tables` is reached through the lock alone.
unsafe impl Sync for Engine {}

impl Engine {
    /// An engine; `None` when the kernel refuses memory.
    pub fn new(client: &'static dyn Client<ThreadState>, mut limits: Limits) -> Option<Engine> {
        learn_gs_access();
        let lookups = Lookups::of(Cpu::this());
        let space = AddressSpace::of_this_process();
        limits.memory = limits.memory.min(space.memory);
        let mut translator = Translator::new(exit_address(), miss, lookups, space)?;
        translator.warm_up();
        let tables = Tables {
            translator,
            code: CodeMemory::new()?,
            guarded: Guarded::new(),
            map: BlockMap::new()?,
            blocks: Reserved::new(registry::MOST)?,
            generation: 0,
            closed: false,
        };
        Some(Engine {
            client,
            limits,
            slots: space.slots,
            lock: Lock::new(),
            holder: AtomicU64::new(0),
            tables: UnsafeCell::new(tables),
            inside: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            at_start: AtomicBool::new(limits.from_start),
            gave_way: AtomicBool::new(false),
            actions: Actions::new(),
            cores: AtomicBool::new(false),
            arenas: [const { AtomicU64::new(0) }; MAX_ARENAS],
            guarded: [const { AtomicU64::new(0) }; 2],
        })
    }

    pub(crate) fn with_tables<R>(&self, work: impl FnOnce(&mut Tables) -> R) -> R {
        self.lock.take();
        let here = 0u8;
        self.holder.store(&raw const here as u64, Ordering::Relaxed);
        // SAFETY: the lock is held.
        let result = work(unsafe { &mut *self.tables.get() });
        self.holder.store(0, Ordering::Relaxed);
        self.lock.release();
        result
    }

    /// The calling thread executes no translated code.
    pub(crate) fn is_outside(&self, thread: &ThreadState) {
        if thread.inside.swap(false, Ordering::AcqRel) {
            self.inside.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Does no thread execute translated code now? None can begin while the lock is held.
    pub(crate) fn nobody_is_inside(&self) -> bool {
        self.inside.load(Ordering::Acquire) == 0
    }

    /// Lets the thread run natively from now on, with a notice.
    pub(crate) fn release(&self, thread: &mut ThreadState, notice: Notice, detail: u64) {
        self.leave(thread);
        self.client.notice(thread, notice, thread.pc, detail);
    }

    pub(crate) fn leave(&self, thread: &mut ThreadState) {
        self.give_alternate_stack_back(thread);
        SOME_RUN_NATIVELY.store(true, Ordering::Relaxed);
        thread.followed.store(false, Ordering::Release);
    }

    /// The application changed a range of its memory: nothing translated from there may be found any more.
    pub(crate) fn invalidate(&self, start: u64, len: u64) {
        self.with_tables(|tables| {
            tables.guarded.changed(start, start.saturating_add(len));
            tables.forget_code(start, len);
        });
    }

    /// The arenas were given up.
    pub(crate) fn forget_arenas(&self) {
        self.arenas.iter().for_each(|known| known.store(0, Ordering::Release));
    }

    /// Was the engine abandoned?
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Cumulative totals of one thread.
    pub(crate) fn totals(&self, thread: &ThreadState) -> Totals {
        self.with_tables(|tables| sum(tables, thread))
    }

    /// Does a host address lie in the code cache? Lock-free, for signal handlers.
    pub(crate) fn in_cache(&self, host: u64) -> bool {
        self.arena_spans().any(|arena| arena.contains(host))
    }

    /// Where the arenas lie.
    pub(crate) fn arena_spans(&self) -> impl Iterator<Item = Span> {
        self.arenas.iter().map_while(|arena| Span::unpack(arena.load(Ordering::Acquire)))
    }

    /// Blocks translated so far and bytes of memory that they take.
    pub fn size(&self) -> (usize, usize) {
        self.with_tables(|t| (t.translator.fragments.len(), t.translator.memory() + t.map.memory()))
    }
}

fn sum(tables: &Tables, thread: &ThreadState) -> Totals {
    let mut totals = tables.translator.weigh(thread.counters());
    for (sum, adjust) in totals.iter_mut().zip(&thread.adjust) {
        *sum = sum.wrapping_add(adjust.load(Ordering::Relaxed));
    }
    totals
}

/// The engine that follows a thread.
pub(crate) fn engine_of(thread: &ThreadState) -> &'static Engine {
    // SAFETY: contexts are made by `Engine`s alone, with their own address, and engines that follow threads are 'static.
    unsafe { &*thread.engine.cast::<Engine>() }
}
