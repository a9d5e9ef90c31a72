//! The engine: its tables, the threads it follows, and what it does when code goes away.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::address_space::AddressSpace;
use super::block_map::BlockMap;
use super::cache::{MAX_ARENAS, Span};
use super::code_memory::{Code, CodeMemory, VSYSCALL};
use super::cpu::{self, Cpu};
use super::dispatch::{self, unfollow_me};
use super::fragment::Exit;
use super::guarded::{Guarded, Look};
use super::lock::Lock;
use super::lookup::Lookups;
use super::signal::{self, SIGBUS, SIGSEGV};
use super::signal_settings::Actions;
use super::targets::Way;
use super::thread::{SOME_RUN_NATIVELY, ThreadState, UNKNOWN_TID, registry, set_gs_base};
use super::translate::{Failure, Source, Translator};
use crate::contract::{Host, Limits, Notice, Redirect};
use crate::metric::Totals;
use crate::reserved::Reserved;
use crate::sys::{self, nr};

/// Why a branch target is not translated.
pub(super) enum Away {
    /// It cannot be: the thread is released with this notice.
    Release(Notice, u64),
    /// Following ends here.
    Leave,
    /// A function of the host's own.
    Native,
    /// The cache must be flushed first.
    Full,
}

/// An exit to be linked, unless its fragment was flushed meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Link {
    exit: u32,
    generation: u32,
}

/// State under the engine's lock.
pub(super) struct Tables {
    pub translator: Translator,
    pub code: CodeMemory,
    pub guarded: Guarded,
    pub map: BlockMap,
    /// Addresses of all threads' blocks; those whose thread has ended are used again.
    pub blocks: Reserved<usize>,
    /// Grows with each flush: fragments and exits of an older one are gone.
    pub generation: u32,
    /// Nobody may go into the cache: it is about to be flushed.
    pub closed: bool,
}

/// Threads that were ever followed at the same time.
const MAX_BLOCKS: usize = 1 << 16;

/// The dynamic binary translator.
pub struct Engine {
    pub(super) host: &'static dyn Host,
    pub(super) limits: Limits,
    /// Counters of each thread.
    slots: usize,
    lock: Lock,
    /// An address on the stack of the thread that has the lock.
    holder: AtomicU64,
    tables: UnsafeCell<Tables>,
    /// Threads that execute translated code now.
    inside: AtomicUsize,
    /// Set by [`abandon`].
    broken: AtomicBool,
    /// The next thread to be attached is the program's first, before its first instruction.
    at_start: AtomicBool,
    /// The application needed the address space: nothing is translated any more.
    pub(super) gave_way: AtomicBool,
    pub(super) actions: Actions,
    /// Signals that leave a core file come to the engine first.
    pub(super) cores: AtomicBool,
    /// Where the arenas lie ([`Span::pack`]), for signal handlers, which must not take the lock.
    arenas: [AtomicU64; MAX_ARENAS],
    /// Start and end of the guarded memory, for the same.
    pub(super) guarded: [AtomicU64; 2],
}

// SAFETY: `tables` is reached through the lock alone.
unsafe impl Sync for Engine {}

/// The way out for a host whose code, or ours, cannot go on (a panic): if the calling thread is followed and in
/// the engine, it continues natively where its block says it is, and this does not return.
///
/// The engine follows nobody new afterwards: its tables may be half written.
pub fn abandon() {
    let Some(thread) = ThreadState::current() else { return };
    let here = &raw const thread as u64;
    if !thread.is_followed() || !thread.owns_stack(here) {
        return;
    }
    // SAFETY: a block's engine is 'static.
    let engine = unsafe { &*thread.engine };
    engine.broken.store(true, Ordering::Release);
    if thread.owns_stack(engine.holder.load(Ordering::Relaxed)) {
        engine.holder.store(0, Ordering::Relaxed);
        engine.lock.release();
    }
    engine.leave(thread);
    thread.host_target = thread.pc;
    // SAFETY: the thread's block holds its whole state; nothing in the frames below is needed any more.
    unsafe { dispatch::resume(thread) }
}

impl Engine {
    /// An engine; `None` when the kernel refuses memory.
    pub fn new(host: &'static dyn Host, mut limits: Limits) -> Option<Engine> {
        super::thread::learn_gs_access();
        let lookups = Lookups::of(Cpu::this());
        let space = AddressSpace::of_this_process();
        limits.memory = limits.memory.min(space.memory);
        let mut translator =
            Translator::new(dispatch::exit_address(), dispatch::miss, lookups, space)?;
        translator.warm_up();
        let tables = Tables {
            translator,
            code: CodeMemory::new()?,
            guarded: Guarded::new(),
            map: BlockMap::new()?,
            blocks: Reserved::new(MAX_BLOCKS)?,
            generation: 0,
            closed: false,
        };
        Some(Engine {
            host,
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

    /// Prepares the calling thread; it is followed once it calls `engine_enter` with the result.
    /// `None` when memory is refused, or the engine was abandoned.
    pub fn attach(&'static self) -> Option<*mut ThreadState> {
        if self.is_broken() {
            return None;
        }
        let known = ThreadState::current().filter(|t| core::ptr::eq(t.engine, self));
        let thread = match known {
            Some(thread) => thread,
            None => self.with_tables(|tables| block(self, tables))?,
        };
        thread.tid = ThreadState::ask_tid();
        thread.forget_blocked();
        thread.ended.store(false, Ordering::Release);
        // What happened natively since the thread was last followed.
        (thread.stacked, thread.last_entry, thread.trap_not_before) = (0, 0, 0);
        if !self.at_start.swap(false, Ordering::AcqRel) {
            self.adopt_actions();
        }
        signal::serve(self);
        self.borrow_fatal_signals();
        self.adopt_alternate_stack(thread);
        thread.followed.store(true, Ordering::Release);
        // SAFETY: the block lives as long as the thread.
        unsafe { set_gs_base(thread.this) };
        Some(thread)
    }

    /// A block for a thread that a followed one is about to start.
    pub(super) fn new_block(&self, parent: &ThreadState) -> Option<&'static mut ThreadState> {
        #[cfg(feature = "faults")]
        if super::faults::strikes(super::faults::Fault::NoBlock) {
            return None;
        }
        if self.is_broken() {
            return None;
        }
        // SAFETY: a block's engine is 'static, and it is this one.
        let engine: &'static Engine = unsafe { &*parent.engine };
        let child = self.with_tables(|tables| block(engine, tables))?;
        child.followed.store(true, Ordering::Release);
        Some(child)
    }

    /// Makes a block for a thread that may come later.
    pub(super) fn spare_block(&self, tables: &mut Tables) {
        let Some(spare) = ThreadState::new_for(core::ptr::from_ref(self), self.slots) else {
            return;
        };
        // SAFETY: mapped just now.
        let known = unsafe {
            (*spare).ended.store(true, Ordering::Release);
            registry::add(spare as u64)
        };
        if known.is_some() {
            tables.blocks.push(spare as usize);
        }
    }

    /// The thread of this block ends, or was never started: the block may be used again once it is gone.
    pub(super) fn give_back(&self, thread: &ThreadState) {
        thread.ended.store(true, Ordering::Release);
    }

    pub(super) fn with_tables<R>(&self, work: impl FnOnce(&mut Tables) -> R) -> R {
        self.lock.take();
        let here = 0u8;
        self.holder.store(&raw const here as u64, Ordering::Relaxed);
        // SAFETY: the lock is held.
        let result = work(unsafe { &mut *self.tables.get() });
        self.holder.store(0, Ordering::Relaxed);
        self.lock.release();
        result
    }

    /// Host code for the thread's PC; links the exit that led there, or makes it known to indirect branches.
    pub(super) fn host_code(
        &self,
        thread: &mut ThreadState,
        link: Option<Link>,
    ) -> Result<u64, Away> {
        self.with_tables(|tables| {
            if tables.closed {
                return Err(Away::Full);
            }
            let nothing_to_drop = tables.translator.is_empty();
            let found = self.find_or_translate(tables, thread, link);
            match found {
                Err(Away::Full) if nothing_to_drop => Err(self.refused(tables)),
                found => found,
            }
        })
    }

    /// There is no room although nothing is translated.
    fn refused(&self, tables: &Tables) -> Away {
        match tables.translator.cache.refused() {
            0 => Away::Release(Notice::MemoryLimit, self.limits.memory as u64),
            error => Away::Release(Notice::MemoryRefused, error as u64),
        }
    }

    fn find_or_translate(
        &self,
        tables: &mut Tables,
        thread: &mut ThreadState,
        link: Option<Link>,
    ) -> Result<u64, Away> {
        let pc = thread.pc;
        let way = thread.way_in();
        let link = link.filter(|link| link.generation == tables.generation);
        let fragment = match tables.map.get(pc) {
            Some(fragment) => fragment,
            None => {
                if let Some(link) = link
                    && self.nobody_is_inside()
                {
                    tables.translator.turn_round(link.exit);
                }
                self.translate(tables, pc, way)?
            }
        };
        if let Some(way) = way
            && tables.translator.make_target(way, pc, fragment).is_err()
        {
            return Err(Away::Full);
        }
        let host = tables.translator.fragments.as_slice()[fragment as usize].host;
        if let Some(link) = link {
            tables.translator.link(link.exit, fragment);
        }
        if !thread.inside.swap(true, Ordering::AcqRel) {
            self.inside.fetch_add(1, Ordering::AcqRel);
        }
        Ok(host)
    }

    /// Where the first instruction of the fragment at `host` lies, behind what is done at its entry.
    pub(super) fn behind_entry(&self, host: u64) -> u64 {
        self.with_tables(|tables| {
            let translator = &tables.translator;
            let first = translator
                .fragment_at(host)
                .and_then(|f| translator.places_of(&f).first().map(|place| place.host));
            host + u64::from(first.unwrap_or(0))
        })
    }

    /// The exit by which a thread came out of the cache; from now on it is outside.
    pub(super) fn left_by(&self, thread: &ThreadState, index: u32) -> (Exit, Link) {
        self.with_tables(|tables| {
            self.is_outside(thread);
            let exit = tables.translator.exits.as_slice()[index as usize];
            (exit, Link { exit: index, generation: tables.generation })
        })
    }

    /// The calling thread executes no translated code.
    pub(super) fn is_outside(&self, thread: &ThreadState) {
        if thread.inside.swap(false, Ordering::AcqRel) {
            self.inside.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Does no thread execute translated code now? None can begin while the lock is held.
    pub(super) fn nobody_is_inside(&self) -> bool {
        self.inside.load(Ordering::Acquire) == 0
    }

    fn translate(&self, tables: &mut Tables, pc: u64, way: Option<Way>) -> Result<u32, Away> {
        if pc == unfollow_me as *const () as u64 {
            return Err(Away::Leave);
        }
        if VSYSCALL.contains(&pc) {
            return Err(Away::Native);
        }
        let target = match self.host.redirect(pc) {
            // A handler that was set without a restorer returns to the engine's: a system call like the application's.
            _ if pc == signal::restorer() => pc,
            Redirect::Follow => pc,
            Redirect::To(next) => next,
            Redirect::Native => return Err(Away::Native),
            Redirect::Leave => return Err(Away::Leave),
        };
        let known = if target == pc { None } else { tables.map.get(target) };
        let fragment = match known {
            Some(fragment) => fragment,
            None => self.translate_new(tables, target, way)?,
        };
        let inserted =
            tables.map.insert(target, fragment).and_then(|()| tables.map.insert(pc, fragment));
        inserted.map(|()| fragment).ok_or(Away::Full)
    }

    fn translate_new(&self, tables: &mut Tables, pc: u64, pad: Option<Way>) -> Result<u32, Away> {
        #[cfg(feature = "faults")]
        {
            use super::faults::{Fault, strikes};
            assert!(!strikes(Fault::Assertion), "a fault that was asked for");
            if strikes(Fault::Full) || strikes(Fault::GivenUp) {
                return Err(Away::Full);
            }
            if strikes(Fault::Undecodable) {
                return Err(Away::Release(Notice::Untranslatable, 1));
            }
            if strikes(Fault::NotExecutable) {
                return Err(Away::Release(Notice::NotExecutable, 0));
            }
        }
        if tables.translator.memory() + tables.map.memory() > self.limits.memory {
            return Err(Away::Full);
        }
        let (limit, source) = match tables.code.lookup(pc, &tables.guarded) {
            Code::Stable { end } => (end, Source::Stable),
            Code::Changing { end } => (end, Source::Changing),
            Code::Guarded { end } => (end, Source::Guarded),
            Code::None => return Err(Away::Release(Notice::NotExecutable, 0)),
        };
        if source != Source::Stable {
            self.borrow(SIGBUS);
        }
        if source == Source::Guarded {
            self.borrow(SIGSEGV);
        }
        // SAFETY: the kernel says that the mapping is readable up to `limit`; a thread that unmaps it while
        // another is about to execute it breaks the program natively too.
        let translated = unsafe { tables.translator.translate(pc, limit, source, pad) };
        for (known, arena) in self.arenas.iter().zip(tables.translator.cache.spans()) {
            known.store(arena.pack(), Ordering::Release);
        }
        if tables.translator.cache.is_mapped_twice() {
            cpu::serialize();
        }
        if let Ok(index) = translated {
            let fragment = tables.translator.fragments.as_slice()[index as usize];
            tables.code.translated(pc, pc + u64::from(fragment.app_len));
            if fragment.watch != 0 && !tables.watch(index, &fragment) {
                return self.translate_new(tables, pc, pad);
            }
        }
        translated.map_err(|failure| match failure {
            Failure::Full => Away::Full,
            Failure::Refused(why) => Away::Release(Notice::Untranslatable, why as u64),
        })
    }

    /// Lets the thread run natively from now on, with a notice.
    pub(super) fn release(&self, thread: &mut ThreadState, notice: Notice, detail: u64) {
        self.leave(thread);
        self.host.notice(thread, notice, thread.pc, detail);
    }

    pub(super) fn leave(&self, thread: &mut ThreadState) {
        self.give_alternate_stack_back(thread);
        SOME_RUN_NATIVELY.store(true, Ordering::Relaxed);
        thread.followed.store(false, Ordering::Release);
    }

    /// The application changed a range of its memory: nothing translated from there may be found any more.
    pub(super) fn invalidate(&self, start: u64, len: u64) {
        self.with_tables(|tables| {
            tables.guarded.changed(start, start.saturating_add(len));
            tables.forget_code(start, len);
        });
    }

    /// A thread found the source of the fragment for `pc` changed, or its page open: it is translated anew, if nobody has
    /// done so. Whether the thread goes on at the fragment's entry, not behind.
    pub(super) fn source_changed(&self, pc: u64) -> bool {
        self.with_tables(|tables| {
            let Some(index) = tables.map.get(pc) else { return true };
            let fragment = tables.translator.fragments.as_slice()[index as usize];
            if fragment.watch != 0 {
                return match tables.look_at(index) {
                    Look::Entered => true,
                    Look::Same => false,
                    Look::Changed => {
                        tables.drop_fragment(index);
                        true
                    }
                };
            }
            // SAFETY: the source was readable a moment ago; natively a fetch from it would fault otherwise.
            let same = unsafe { fragment.source_is_the_same() };
            #[cfg(feature = "faults")]
            assert!(same || !tables.code.is_settled(pc), "code has changed that was vouched for");
            if !same {
                tables.drop_fragment(index);
            }
            true
        })
    }

    /// In a child of fork: the calling thread is the only one, and its counts start anew.
    pub(super) fn alone_after_fork(&self, thread: &mut ThreadState) {
        let shares_code = self.with_tables(|tables| tables.translator.cache.is_mapped_twice());
        if shares_code {
            self.keep_x87_pointer();
        }
        self.with_tables(|tables| {
            clear(tables, thread);
            if shares_code {
                // The parent goes on to change what both see: this process translates anew.
                tables.leave_code();
                self.forget_arenas();
            }
            self.inside
                .store(usize::from(thread.inside.load(Ordering::Acquire)), Ordering::Release);
            for &block in tables.blocks.as_slice() {
                if block != thread.this as usize {
                    // SAFETY: blocks are never unmapped, and this one's thread does not exist here.
                    unsafe {
                        let other = &*(block as *const ThreadState);
                        other.ended.store(true, Ordering::Release);
                        other.inside.store(false, Ordering::Release);
                    };
                }
            }
        });
    }

    /// The arenas were given up.
    pub(super) fn forget_arenas(&self) {
        self.arenas.iter().for_each(|known| known.store(0, Ordering::Release));
    }

    /// Was the engine abandoned?
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Cumulative totals of one thread.
    pub(super) fn totals(&self, thread: &ThreadState) -> Totals {
        self.with_tables(|tables| sum(tables, thread))
    }

    /// Does a host address lie in the code cache? Lock-free, for signal handlers.
    pub(super) fn in_cache(&self, host: u64) -> bool {
        self.arena_spans().any(|arena| arena.contains(host))
    }

    /// Where the arenas lie.
    pub(super) fn arena_spans(&self) -> impl Iterator<Item = Span> {
        self.arenas.iter().map_while(|arena| Span::unpack(arena.load(Ordering::Acquire)))
    }

    /// Blocks translated so far and bytes of memory that they take.
    pub fn size(&self) -> (usize, usize) {
        self.with_tables(|t| (t.translator.fragments.len(), t.translator.memory() + t.map.memory()))
    }
}

impl Tables {
    /// Nothing leads to a fragment any more: its source has changed.
    pub fn drop_fragment(&mut self, index: u32) {
        let pc = self.translator.fragments.as_slice()[index as usize].pc;
        self.translator.kill_one(index);
        self.map.remove(pc);
        self.translator.targets.iter_mut().for_each(|targets| targets.remove(pc));
    }

    /// Code in a range may be other code now: nothing translated from there is found any more.
    pub fn forget_code(&mut self, start: u64, len: u64) {
        if !self.code.changed(start, len) || !self.translator.kill(start, start.saturating_add(len))
        {
            return;
        }
        let Tables { translator, map, .. } = self;
        let fragments = translator.fragments.as_slice();
        let ways_in = &mut translator.targets;
        map.retain(|pc, fragment| {
            let dead = fragments[fragment as usize].dead;
            if dead {
                ways_in.iter_mut().for_each(|targets| targets.remove(pc));
            }
            !dead
        });
    }
}

/// A thread's block: one whose thread has ended, else a new one.
#[allow(clippy::mut_from_ref, reason = "a mapping of its own, not a part of the engine")]
fn block(engine: &'static Engine, tables: &mut Tables) -> Option<&'static mut ThreadState> {
    for &at in tables.blocks.as_slice() {
        // SAFETY: blocks are never unmapped; an ended one is nobody's once the kernel has forgotten its thread.
        let old = unsafe { &mut *(at as *mut ThreadState) };
        if old.ended.load(Ordering::Acquire) && !exists(old.tid) {
            return Some(ThreadState::renew(old, engine));
        }
    }
    let fresh = ThreadState::new(engine, engine.slots)?;
    if registry::add(fresh.this).and(tables.blocks.push(fresh.this as usize)).is_none() {
        // SAFETY: mapped just now, and nobody knows of it.
        unsafe { ThreadState::give_up(fresh) };
        return None;
    }
    Some(fresh)
}

fn exists(tid: u32) -> bool {
    const ESRCH: i64 = 3;
    let pid = u64::from(sys::getpid());
    // SAFETY: signal 0 only asks.
    let gone = || unsafe { sys::optional(nr::TGKILL, [pid, u64::from(tid), 0, 0, 0, 0]) == -ESRCH };
    tid != 0 && (tid == UNKNOWN_TID || !gone())
}

fn sum(tables: &Tables, thread: &ThreadState) -> Totals {
    let mut totals = tables.translator.weigh(thread.counters());
    for (sum, adjust) in totals.iter_mut().zip(&thread.adjust) {
        *sum = sum.wrapping_add(adjust.load(Ordering::Relaxed));
    }
    totals
}

fn clear(tables: &Tables, thread: &ThreadState) {
    for counter in &thread.counters()[..tables.translator.slots.len()] {
        // Untouched pages stay untouched.
        if counter.load(Ordering::Relaxed) != 0 {
            counter.store(0, Ordering::Relaxed);
        }
    }
    for sum in &thread.adjust {
        sum.store(0, Ordering::Relaxed);
    }
}
