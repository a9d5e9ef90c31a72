//! The contract between a tracer and the program that hosts it (the shim).

use crate::x86::thread::ThreadState;

/// What lies behind an application branch target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// The application's own code.
    Follow,
    /// One of the host's functions that stand before others: count the next definition instead.
    To(u64),
    /// The host's own function: it runs natively, uncounted, until it returns.
    Native,
}

/// Why a thread is no longer followed, or what else a reader of the counts must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Notice {
    /// An instruction that the engine does not translate; `at` is its PC, `detail` the reason.
    Untranslatable = 1,
    /// Code in writable or anonymous memory.
    ChangingCode = 2,
    /// The memory limit is reached.
    MemoryLimit = 4,
    /// A thread was started that is not followed, for want of memory; `detail` is its id.
    ThreadNotFollowed = 5,
    /// A branch to memory that is not executable.
    NotExecutable = 6,
    /// A vfork-like child runs natively until it execs; `detail` is its id.
    VforkChild = 7,
}

/// A system call as the application made it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What the tracer asks of its host. All functions run on the engine's stack, on the thread concerned,
/// possibly while the application holds any lock: they must not call the C library.
pub trait Host: Sync {
    /// What lies at `pc`, asked once per branch target.
    fn redirect(&self, pc: u64) -> Redirect;

    /// A system call is about to be made; the returned word (a time, say) is passed to
    /// [`Host::after_syscall`].
    fn before_syscall(&self, thread: &mut ThreadState, call: &Call) -> u64;

    /// A system call returned `result` (`-errno` on failure).
    fn after_syscall(&self, thread: &mut ThreadState, call: &Call, result: i64, before: u64);

    /// The process image is about to be replaced; `call` is execve or execveat.
    fn before_exec(&self, thread: &mut ThreadState, call: &Call);

    /// The calling thread was started by a followed one and is followed from its first instruction.
    fn thread_started(&self, thread: &mut ThreadState);

    /// The calling thread is the only thread of a new process; counters were cleared.
    fn fork_child(&self, thread: &mut ThreadState);

    /// The thread (or with `process` the whole process) is about to end.
    fn exiting(&self, thread: &mut ThreadState, process: bool, status: i32);

    /// Something that makes the counts incomplete.
    fn notice(&self, thread: &mut ThreadState, notice: Notice, at: u64, detail: u64);
}
