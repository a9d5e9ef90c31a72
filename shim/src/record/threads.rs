//! The threads of a counted process: each one's counters, and the list of those that live.
//!
//! # Design
//!
//! A thread's counters are words of its own that it alone adds to, each by one `add` instruction, so that
//! a signal handler in the middle loses nothing; the ticker reads them while they grow. A thread is
//! listed at its first counted event and taken off by a destructor of thread-specific data, which asks
//! to be called again until the last round, so that what other destructors do still counts. Threads
//! that end without running destructors are noticed by the ticker. What a thread counts after that
//! goes to [`AFTER_END`], and so into the process's total; so does what a thread counts for which there is no memory.

use crate::{
    base::{guarded, heap, sys, tls},
    bridge::jvm::tasks::{self, TaskState},
    client::tracer,
    entry::process,
    record::recorder,
};
use alloc::boxed::Box;
use core::{
    alloc::Layout,
    arch::asm,
    ffi::c_void,
    fmt,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
use records::{Event, Flags, METRIC_COUNT, notice};

/// The values of one thread or process, in the order of the metric table.
pub type Values = [u64; METRIC_COUNT];

/// In the TLS word of a thread that has ended.
const ENDED: usize = 1;
/// In the TLS word of a thread that there was no memory for.
const UNLISTED: usize = 2;
/// Calls of a thread-specific destructor (`PTHREAD_DESTRUCTOR_ITERATIONS`, 4 in glibc and musl).
const DESTRUCTOR_ROUNDS: u8 = 4;

/// Counts of threads that have been taken off the list already, or never were on it.
static AFTER_END: [AtomicU64; METRIC_COUNT] = [const { AtomicU64::new(0) }; METRIC_COUNT];
/// Threads that there is memory for now.
static LISTED: AtomicUsize = AtomicUsize::new(0);
/// It is said that there is no memory for more threads.
static TOLD_UNLISTED: AtomicBool = AtomicBool::new(false);
/// The key of thread-specific data plus one; 0 = none.
static KEY: AtomicUsize = AtomicUsize::new(0);
/// The next definition of `pthread_setspecific`.
static SET_SPECIFIC: AtomicUsize = AtomicUsize::new(0);

/// What other threads may look at of a thread.
pub struct Shared {
    counters: [AtomicU64; METRIC_COUNT],
    /// The engine's thread, if it follows this one; for [`tracer`].
    pub engine: AtomicUsize,
    /// [`Flags`] bits that the engine sets: followed now, was released.
    pub flags: AtomicU32,
    /// The thread's id.
    pub tid: u32,
    /// The open task that started this thread: its TID plus one; 0 = none. For the recorder, under its lock.
    pub of_task: AtomicU64,
    /// The number of the fork that the thread is in the middle of; 0 = none.
    pub fork: AtomicU32,
    /// In a vfork: the process that called it; else 0.
    vfork: AtomicU32,
    rounds: AtomicU8,
}

/// What only the thread itself touches.
pub struct Thread {
    /// What others see of it.
    pub shared: &'static Shared,
    /// The Spark tasks that run on it.
    pub tasks: TaskState,
    /// It is not to be followed yet: see [`tracer::natively`].
    pub stays_native: bool,
}

impl Shared {
    /// Adds to a counter; for the thread itself only.
    #[inline]
    pub fn add(&self, index: usize, amount: u64) {
        let counter = self.counters[index].as_ptr();
        // SAFETY: the word is this thread's; one instruction, so a handler of this thread is before or
        // after it. Readers on other threads see whole words.
        unsafe {
            asm!("add qword ptr [{0}], {1}", in(reg) counter, in(reg) amount, options(nostack))
        };
    }

    /// The counters now, the engine's included.
    pub fn values(&self) -> Values {
        let mut values = tracer::totals(self);
        for (value, counter) in values.iter_mut().zip(&self.counters) {
            *value = value.wrapping_add(counter.load(Ordering::Relaxed));
        }
        values
    }

    /// The flags to write with this thread's groups.
    pub fn flags(&self) -> Flags {
        Flags(self.flags.load(Ordering::Relaxed) as u16)
    }
}

impl Thread {
    /// Writes a group about this thread, with its counters at this moment where the kind has them.
    pub fn record(&mut self, flags: Flags, event: &Event<'_>) {
        recorder::thread_event(self.shared, flags, event);
    }
}

/// Writes a notice about this thread, or about the process where this thread is not counted.
pub fn notice(code: u16, a: u64, text: fmt::Arguments<'_>) {
    let tid = known().map_or(0, |thread| thread.shared.tid);
    recorder::notice(tid, code, a, 0, text);
}

/// This thread, if it is listed already.
pub fn known() -> Option<&'static mut Thread> {
    let word = tls::get(tls::Word::Thread);
    // SAFETY: the word is 0, ENDED, UNLISTED, or this thread's own `Thread`, which only this thread uses.
    (word > UNLISTED).then(|| unsafe { &mut *(word as *mut Thread) })
}

/// This thread, listed now if it was not; `None` after its end, in a process that is not counted, and in
/// the child of vfork.
pub fn current() -> Option<&'static mut Thread> {
    if !process::is_counted() {
        return None;
    }
    process::check_fork();
    let thread = match tls::get(tls::Word::Thread) {
        0 => create()?,
        _ => known()?,
    };
    (!in_vfork_child(thread.shared)).then_some(thread)
}

/// Adds to a counter of this thread, or of the process after the thread's end.
pub fn add(thread: Option<&Shared>, index: usize, amount: u64) {
    match thread {
        Some(thread) => thread.add(index, amount),
        None => {
            AFTER_END[index].fetch_add(amount, Ordering::Relaxed);
        }
    }
}

fn create() -> Option<&'static mut Thread> {
    let thread = {
        let _blocked = sys::SignalsBlocked::new();
        let thread = allocate();
        tls::set(
            tls::Word::Thread,
            thread.as_ref().map_or(UNLISTED, |one| (&raw const **one) as usize),
        );
        thread
    };
    let Some(thread) = thread.filter(|thread| recorder::thread_starts(thread.shared)) else {
        return unlisted();
    };
    // The tracer sees the end of a thread that it follows; libc would execute more for a destructor.
    if !tracer::follows_current() {
        watch_end(thread);
    }
    Some(thread)
}

/// Memory for a thread, unless what is left of the heap is kept for the recorder.
fn allocate() -> Option<&'static mut Thread> {
    /// Both parts, in blocks of the heap, and the recorder's list.
    const BYTES: usize = (size_of::<Shared>() + size_of::<Thread>()) * 5 / 4 + 64;
    if LISTED.load(Ordering::Relaxed) * BYTES > heap::bytes_for_threads() {
        return None;
    }
    let shared = leak(Shared {
        counters: [const { AtomicU64::new(0) }; METRIC_COUNT],
        engine: AtomicUsize::new(0),
        flags: AtomicU32::new(0),
        tid: tracer::own_tid(),
        of_task: AtomicU64::new(0),
        fork: AtomicU32::new(0),
        vfork: AtomicU32::new(0),
        rounds: AtomicU8::new(0),
    })?;
    LISTED.fetch_add(1, Ordering::Relaxed);
    let shared: &'static Shared = shared;
    let thread = leak(Thread { shared, tasks: TaskState::default(), stays_native: false });
    if thread.is_none() {
        // SAFETY: allocated just now.
        unsafe { free(shared) };
    }
    thread
}

/// As `Box::leak`; `None` when there is no memory.
fn leak<T>(value: T) -> Option<&'static mut T> {
    // SAFETY: the types here have a size; what is allocated is written before it is used.
    unsafe {
        let place = alloc::alloc::alloc(Layout::new::<T>()).cast::<T>();
        if place.is_null() {
            return None;
        }
        place.write(value);
        Some(&mut *place)
    }
}

/// There is no memory for the calling thread: what it counts goes to the process. Said once.
fn unlisted() -> Option<&'static mut Thread> {
    if let Some(thread) = known() {
        tls::set(tls::Word::Thread, UNLISTED);
        // SAFETY: allocated by `create`, not listed, and this thread has forgotten it.
        unsafe {
            let shared = thread.shared;
            drop(Box::from_raw(&raw mut *thread));
            free(shared);
        }
    }
    if !TOLD_UNLISTED.swap(true, Ordering::Relaxed) {
        let limit = process::identity().settings.memory_limit_mib.0;
        let text = format_args!(
            "more threads than memory_limit_mib = {limit} has room for: they count for the process when they end"
        );
        recorder::notice(0, notice::TABLE_FULL, limit, 0, text);
    }
    None
}

/// Whether the calling thread counts for the process alone.
pub fn is_unlisted() -> bool {
    tls::get(tls::Word::Thread) == UNLISTED
}

/// Counts for the process.
pub fn add_after_end(values: &Values) {
    for (sum, value) in AFTER_END.iter().zip(values) {
        sum.fetch_add(*value, Ordering::Relaxed);
    }
}

/// From now on libc tells the end of this thread.
pub fn watch_end(thread: &Thread) {
    set_specific((&raw const *thread) as usize);
}

fn set_specific(value: usize) {
    let (key, function) = (KEY.load(Ordering::Relaxed), SET_SPECIFIC.load(Ordering::Relaxed));
    if key == 0 || function == 0 || !tls::is_libcs(tls::base()) {
        return;
    }
    // SAFETY: libc's pthread_setspecific. The key is one of the first 32, whose values glibc keeps in the
    // thread's own block, so it does not allocate.
    unsafe {
        let function: unsafe extern "C" fn(u32, usize) -> i32 = core::mem::transmute(function);
        function(key as u32 - 1, value);
    }
}

/// Asks libc to tell the ends of threads.
pub fn watch_ends() {
    let (Some(create), Some(set)) = (
        crate::base::link::find(c"pthread_key_create"),
        crate::base::link::find(c"pthread_setspecific"),
    ) else {
        return;
    };
    let mut key = 0u32;
    // SAFETY: libc's pthread_key_create with a destructor of the right type.
    let result = unsafe {
        let create: unsafe extern "C" fn(*mut u32, unsafe extern "C" fn(*mut c_void)) -> i32 =
            core::mem::transmute(create);
        create(&raw mut key, destructor)
    };
    const KEYS_WITHOUT_ALLOCATION: u32 = 32;
    if result == 0 && key < KEYS_WITHOUT_ALLOCATION {
        SET_SPECIFIC.store(set, Ordering::Relaxed);
        KEY.store(key as usize + 1, Ordering::Relaxed);
    }
}

unsafe extern "C" fn destructor(thread: *mut c_void) {
    // SAFETY: `ends` takes what `create` gave.
    unsafe { guarded::guarded(thread as usize, ends) };
}

unsafe extern "C" fn ends(thread: usize) -> usize {
    // SAFETY: libc hands back what `create` gave, on the same thread.
    let thread = unsafe { &mut *(thread as *mut Thread) };
    // A followed thread ends at its exit system call: what libc does after this is counted too.
    if tracer::follows_current() {
        return 0;
    }
    if !process::is_counted() || tls::get(tls::Word::Thread) != (&raw mut *thread) as usize {
        return 0;
    }
    let round = thread.shared.rounds.fetch_add(1, Ordering::Relaxed) + 1;
    if round < DESTRUCTOR_ROUNDS {
        set_specific((&raw mut *thread) as usize);
    } else {
        end_current();
    }
    0
}

/// This thread ends now: its last counters are written and it is taken off the list.
pub fn end_current() {
    let Some(thread) = known() else { return };
    tasks::thread_ends(thread);
    let _blocked = sys::SignalsBlocked::new();
    tls::set(tls::Word::Thread, ENDED);
    recorder::thread_ends(thread.shared);
    tracer::forget(thread.shared);
    // SAFETY: allocated by `create`, not listed any more, and this thread has forgotten it.
    unsafe {
        let shared = thread.shared;
        drop(Box::from_raw(&raw mut *thread));
        free(shared);
    }
}

/// Frees what `create` allocated for a thread that is not listed any more.
///
/// # Safety
///
/// Nobody looks at it any more.
pub unsafe fn free(shared: &'static Shared) {
    LISTED.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: allocated by `create`; the caller vouches that this is the last reference.
    drop(unsafe { Box::from_raw(&raw const *shared as *mut Shared) });
}

/// What was counted by threads after their end.
pub fn after_end() -> Values {
    core::array::from_fn(|index| AFTER_END[index].load(Ordering::Relaxed))
}

/// In a child of fork: forgets the parent's threads and counts.
pub fn after_fork_in_child() {
    tls::set(tls::Word::Thread, 0);
    TOLD_UNLISTED.store(false, Ordering::Relaxed);
    for counter in &AFTER_END {
        counter.store(0, Ordering::Relaxed);
    }
}

/// This thread is about to call vfork: until its process id is seen again, it may be the child that runs
/// on its stack and in its memory.
pub fn enter_vfork() {
    if let Some(thread) = current() {
        thread.shared.vfork.store(sys::getpid(), Ordering::Relaxed);
    }
}

fn in_vfork_child(shared: &Shared) -> bool {
    match shared.vfork.load(Ordering::Relaxed) {
        0 => false,
        parent if parent == sys::getpid() => {
            shared.vfork.store(0, Ordering::Relaxed);
            false
        }
        _ => true,
    }
}

/// Whether this is the child of a vfork that this thread called. For hooks that run often: asks the kernel
/// only after a vfork.
pub fn is_vfork_child() -> bool {
    known().is_some_and(|thread| in_vfork_child(thread.shared))
}
