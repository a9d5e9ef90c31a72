//! The contract between a tracer and the program that hosts it (the shim).
//!
//! The client talks to one [`Tracer`] and the tracer to one [`Client`], each about the tracer's own kind of thread. Two
//! tracers keep it: the engine of this crate, and frida-gum's Stalker in `gum-tracer`. `tests/contract` is what both
//! must pass.

use core::cell::Cell;

use crate::metric::Totals;

/// What a client may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of memory for translations and tables; past it all translations are dropped and made anew,
    /// or threads released.
    pub memory: usize,
    /// Nothing was executed of the program yet: it cannot have set a handler.
    pub from_start: bool,
}

/// A thread that is, was or will be followed.
pub trait Thread {
    /// Is it counted now?
    fn is_followed(&self) -> bool;

    /// Its cumulative totals. May be called from any thread while this one runs: then the values are monotonic,
    /// not an atomic cut.
    fn totals(&self) -> Totals;

    /// The kernel's id of the thread, as far as it is known without asking; else 0.
    fn tid(&self) -> u32;

    /// A word that the client keeps with the thread; 0 at first.
    fn client_word(&self) -> &Cell<u64>;

    /// Another word of the client's; a thread that this one starts begins with a copy of it. 0 at first.
    fn inherited_word(&self) -> &Cell<u64>;
}

/// What follows threads and counts what they execute.
pub trait Tracer: Sync + Sized + 'static {
    /// What it keeps of a thread. It outlives the thread.
    type Thread: Thread;

    /// A tracer; `None` when the kernel refuses memory.
    fn new(client: &'static dyn Client<Self::Thread>, limits: Limits) -> Option<Self>;

    /// Prepares the calling thread, to be followed once it calls [`Tracer::enter`] with the result. A thread may be
    /// followed and left as often as the client likes; its totals go on. `None` when memory is refused, or the tracer
    /// was abandoned.
    fn attach(&'static self) -> Option<*mut Self::Thread>;

    /// Starts to follow the calling thread at its return address: a caller sees it return, and is followed. Also a
    /// jump target for assembly stubs whose stack pointer points at the address to go on at.
    ///
    /// # Safety
    /// `thread` must come from [`Tracer::attach`] on this thread.
    unsafe extern "C" fn enter(thread: *mut Self::Thread);

    /// The calling thread runs natively from its return on. Does nothing on a thread that is not followed.
    fn unfollow_me();

    /// The calling thread, if a tracer of this kind knows it.
    fn current() -> Option<&'static Self::Thread>;

    /// The client has taken the last totals of a thread that is not followed, and that will end without the tracer
    /// seeing it: what is kept of it may be used for another one once the thread is gone.
    fn forget(&'static self, thread: &Self::Thread);

    /// A thread that is not followed mapped, unmapped or protected memory: code may have changed there.
    fn memory_changed(&'static self, start: u64, len: u64);

    /// The loader has unmapped libraries for a thread that is not followed, nobody says which: no code is taken for known
    /// any more. Guarded memory is no library and stays guarded.
    fn libraries_unloaded(&'static self);

    /// The client vouches for code in memory that stores could change: nobody will, until the kernel is told to change
    /// the mapping.
    fn settle(&'static self, start: u64, len: u64);

    /// The client says of memory that code in it is changed by stores alone, by code that lies elsewhere, with SIGSEGV
    /// unblocked or in a handler (whose mask the tracer sees to): the tracer may find out by protecting it. The first range counts.
    fn guard(&'static self, start: u64, len: u64);

    /// `rt_sigaction(signal, new, old, 8)` for a thread that is not followed, as the tracer makes it for one that is:
    /// handlers see the application's state on both. The kernel's answer.
    fn set_action(&'static self, signal: u64, new: u64, old: u64) -> i64;

    /// The way out for a client whose code, or the tracer's, cannot go on (a panic): if the calling thread is followed
    /// and in the tracer, it continues natively and this does not return. Nobody new is followed afterwards.
    fn abandon();
}

/// What lies behind an application branch target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// The application's own code.
    Follow,
    /// One of the client's functions that stand before others: count the next definition instead.
    To(u64),
    /// The client's own function: it runs natively, uncounted, until it returns.
    Native,
    /// The client's own function, at which following ends: it runs natively, and so does what it returns to.
    Leave,
}

/// Why a thread is no longer followed, or what else a reader of the counts must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Notice {
    /// An instruction that the engine does not translate; `at` is its PC, `detail` the reason.
    Untranslatable = 1,
    /// The memory limit is reached, and a thread did not leave the code cache, so that it could not be flushed.
    MemoryLimit = 4,
    /// A thread or process was started that is not followed; `detail` is its id, 0 for want of memory.
    ThreadNotFollowed = 5,
    /// A branch to memory that is not executable.
    NotExecutable = 6,
    /// A vfork-like child runs natively until it execs; `detail` is its id.
    VforkChild = 7,
    /// A signal handler was set that the tracer cannot follow; `detail` is the signal.
    SignalHandler = 8,
    /// Code was changed that the tracer cannot translate again.
    ChangedCode = 9,
    /// The kernel refuses memory for translations; `detail` is the error number.
    MemoryRefused = 10,
}

/// A system call as the application made it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What a client tells itself from before a system call to after it: a time, say.
pub type CallToken = [u64; 2];

/// What the tracer asks of its client. All functions run on the tracer's stack, on the thread concerned,
/// possibly while the application holds any lock: they must not call the C library.
pub trait Client<Thread>: Sync {
    /// What lies at `pc`, asked once per branch target. Nobody else translates meanwhile, so it must wait for nothing that
    /// a followed thread may hold.
    fn redirect(&self, pc: u64) -> Redirect;

    /// A system call is about to be made; what is returned is passed to [`Client::after_syscall`].
    fn before_syscall(&self, thread: &Thread, call: &Call) -> CallToken;

    /// A system call returned `result` (`-errno` on failure).
    fn after_syscall(&self, thread: &Thread, call: &Call, result: i64, before: CallToken);

    /// The process image is about to be replaced; `call` is execve or execveat, and made with the arguments that are left in it.
    fn before_exec(&self, thread: &Thread, call: &mut Call);

    /// The calling thread was started by a followed one; whether it is to be followed from its first instruction on.
    fn thread_started(&self, thread: &Thread) -> bool;

    /// The calling thread is the only thread of a new process; counters were cleared.
    fn fork_child(&self, thread: &Thread);

    /// The thread (or with `process` the whole process) is about to end.
    fn exiting(&self, thread: &Thread, process: bool, status: i32);

    /// Something that makes the counts incomplete.
    fn notice(&self, thread: &Thread, notice: Notice, at: u64, detail: u64);
}
