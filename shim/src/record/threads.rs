//! The calling thread, as this library knows it.
//!
//! # Design
//!
//! A thread is listed at its first counted event and taken off by a destructor of thread-specific data, which asks
//! to be called again until the last round, so that what other destructors do still counts. Threads
//! that end without running destructors are noticed by the helper.
//!
//! What a thread keeps of itself ([`Thread`]) is reached by shared references alone, from several frames at once: a
//! hook, a signal handler within it, a bridge that a hook calls. So all that changes lies in cells and atomics.

use crate::{
    base::{guarded, heap, ids, signals::SignalsBlocked, tls, tracer},
    process,
    record::{
        counters::{self, Shared},
        events, recorder, task,
        thread::Thread,
    },
};
use alloc::boxed::Box;
use core::{
    alloc::Layout,
    ffi::c_void,
    fmt,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};
use records::notice;

/// In the TLS word of a thread that has ended.
const ENDED: usize = 1;
/// In the TLS word of a thread that there was no memory for.
const UNLISTED: usize = 2;
/// Calls of a thread-specific destructor (`PTHREAD_DESTRUCTOR_ITERATIONS`, 4 in glibc and musl).
const DESTRUCTOR_ROUNDS: u8 = 4;

/// Threads that there is memory for now.
static LISTED: AtomicUsize = AtomicUsize::new(0);
/// It is said that there is no memory for more threads.
static TOLD_UNLISTED: AtomicBool = AtomicBool::new(false);
/// The key of thread-specific data plus one; 0 = none.
static KEY: AtomicUsize = AtomicUsize::new(0);
/// The next definition of `pthread_setspecific`.
static SET_SPECIFIC: AtomicUsize = AtomicUsize::new(0);

/// Writes a notice about this thread, or about the process where this thread is not counted.
pub fn notice(code: u16, a: u64, text: fmt::Arguments<'_>) {
    let tid = known().map_or(0, |thread| thread.shared.tid);
    recorder::notice(tid, code, a, 0, text);
}

/// This thread, if it is listed already.
///
/// It must not be kept beyond [`end_current`], which its thread alone calls, as the last thing that is done with it.
#[inline]
pub fn known() -> Option<&'static Thread> {
    let word = tls::get(tls::Word::Thread);
    // SAFETY: the word is 0, ENDED, UNLISTED, or the address of a `Thread` that `allocate` has made and nobody has freed: the
    // word is changed before it is. There are shared references to it alone, on this thread, as many as frames want: all that
    // changes in it are cells and atomics. (A thread on its creator's thread pointer finds its creator's; it looks at
    // `shared` alone.)
    (word > UNLISTED).then(|| unsafe { &*(word as *const Thread) })
}

/// This thread, listed now if it was not; `None` after its end, in a process that is not counted, and in
/// the child of vfork.
pub fn current() -> Option<&'static Thread> {
    if !process::is_counted() {
        return None;
    }
    process::check_fork();
    let thread = match tls::get(tls::Word::Thread) {
        0 => create()?,
        _ => known()?,
    };
    (!is_in_vfork_child(&thread.shared)).then_some(thread)
}

fn create() -> Option<&'static Thread> {
    {
        let _blocked = SignalsBlocked::new();
        let place = allocate().unwrap_or(UNLISTED);
        tls::set(tls::Word::Thread, place);
    }
    let Some(thread) = known().filter(|thread| events::thread_starts(&thread.shared)) else {
        return leave_unlisted();
    };
    // The tracer sees the end of a thread that it follows; libc would execute more for a destructor.
    if !tracer::follows_current() {
        watch_end(thread);
    }
    Some(thread)
}

/// A thread's memory, unless what is left of the heap is kept for the recorder; its address.
fn allocate() -> Option<usize> {
    /// In a block of the heap, and in the recorder's list.
    const BYTES: usize = size_of::<Thread>() * 5 / 4 + 64;
    if LISTED.load(Ordering::Relaxed) * BYTES > heap::bytes_for_threads() {
        return None;
    }
    // SAFETY: the type has a size; what is allocated is written before it is used.
    let place = unsafe { alloc::alloc::alloc(Layout::new::<Thread>()) }.cast::<Thread>();
    if place.is_null() {
        return None;
    }
    // SAFETY: allocated just now, with this layout; nobody else knows of it.
    unsafe { place.write(Thread::new(ids::own_tid())) };
    LISTED.fetch_add(1, Ordering::Relaxed);
    Some(place as usize)
}

/// Frees what [`allocate`] has made.
///
/// # Safety
///
/// No reference to it is used any more: the thread's word is another, and nobody has it in a list.
unsafe fn free(place: usize) {
    LISTED.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: allocated and written as this type; the caller vouches that it is nobody's.
    drop(unsafe { Box::from_raw(place as *mut Thread) });
}

/// There is no memory for the calling thread: what it counts goes to the process. Said once.
fn leave_unlisted() -> Option<&'static Thread> {
    let place = tls::get(tls::Word::Thread);
    if place > UNLISTED {
        tls::set(tls::Word::Thread, UNLISTED);
        // SAFETY: `create` alone knows of it: it was not listed, and no other frame has seen the word.
        unsafe { free(place) };
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
    // SAFETY: `ends` takes a word.
    unsafe { guarded::guarded(thread as usize, ends) };
}

/// `thread` is the word that [`watch_end`] has left with libc; only compared, as the thread may have ended since.
unsafe extern "C" fn ends(thread: usize) -> usize {
    // A followed thread ends at its exit system call: what libc does after this is counted too.
    if tracer::follows_current() || !process::is_counted() {
        return 0;
    }
    let Some(current) = known().filter(|current| (&raw const **current) as usize == thread) else {
        return 0;
    };
    let round = current.destructor_rounds.get() + 1;
    current.destructor_rounds.set(round);
    if round < DESTRUCTOR_ROUNDS {
        set_specific(thread);
    } else {
        end_current();
    }
    0
}

/// This thread ends now: its last counters are written and it is taken off the list. No reference to it may be used
/// after this.
pub fn end_current() {
    let Some(thread) = known() else { return };
    task::thread_ends(thread);
    let _blocked = SignalsBlocked::new();
    let place = tls::get(tls::Word::Thread);
    tls::set(tls::Word::Thread, ENDED);
    events::thread_ends(&thread.shared);
    thread.shared.forget_traced();
    // SAFETY: not listed any more, and the word is another; this frame uses its own reference no more, and callers keep
    // none (see `known`).
    unsafe { free(place) };
}

/// In a child of fork: forgets the parent's threads.
pub fn after_fork_in_child() {
    tls::set(tls::Word::Thread, 0);
    TOLD_UNLISTED.store(false, Ordering::Relaxed);
    counters::after_fork_in_child();
}

/// This thread is about to call vfork: until its process id is seen again, it may be the child that runs
/// on its stack and in its memory.
pub fn enter_vfork() {
    if let Some(thread) = current() {
        thread.shared.vfork.store(ids::getpid(), Ordering::Relaxed);
    }
}

/// Whether this is the child of a vfork that this thread has called; where it is the parent again, that is noted.
fn is_in_vfork_child(shared: &Shared) -> bool {
    match shared.vfork.load(Ordering::Relaxed) {
        0 => false,
        parent if parent == ids::getpid() => {
            shared.vfork.store(0, Ordering::Relaxed);
            false
        }
        _ => true,
    }
}

/// Whether this is the child of a vfork that this thread called. For hooks that run often: asks the kernel
/// only after a vfork.
pub fn is_vfork_child() -> bool {
    known().is_some_and(|thread| is_in_vfork_child(&thread.shared))
}
