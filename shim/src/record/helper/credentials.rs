//! What the helper does in the process's place: calls that change what both may do.
//!
//! One thread at a time asks, and waits; pointers hold, because the memory is the same.

use crate::{
    base::{
        file, futex,
        lock::Lock,
        survivor,
        sys::{self, nr},
        text::Text,
    },
    process,
    record::helper::parent,
};
use core::{
    ffi::CStr,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
use engine::seccomp::installation;

pub(super) const CLONE_NEWUSER: u64 = 0x1000_0000;

/// A number that no call has: the helper is to enter the process's user namespace.
pub(super) const JOIN_USER_NAMESPACE: u64 = u64::MAX;

/// A filter is being installed: until the program has made its call, nobody knows what it forbids.
pub(super) static SETTLING: AtomicBool = AtomicBool::new(false);

/// One thread at a time asks.
pub(super) static ASKING: Lock<()> = Lock::new(());

/// What the helper is asked to do: a call's number and arguments.
pub(super) static NUMBER: AtomicU64 = AtomicU64::new(0);

pub(super) static ARGUMENTS: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];

pub(super) static ANSWER: AtomicI64 = AtomicI64::new(0);

pub(super) static ASKED: AtomicU32 = AtomicU32::new(0);

pub(super) static DONE: AtomicU32 = AtomicU32::new(0);

/// The thread whose call the helper could not make: its thread pointer.
pub(super) static REFUSED_TO: AtomicUsize = AtomicUsize::new(0);

/// A filter was installed under which the helper cannot write.
static FILTERED: AtomicBool = AtomicBool::new(false);

/// A filter is being installed under which the helper cannot write.
pub fn set_filtered() {
    FILTERED.store(true, Ordering::Relaxed);
}

/// Whether nothing can be written because of a filter.
pub fn is_filtered() -> bool {
    FILTERED.load(Ordering::Relaxed)
}

/// In the helper: does what was asked.
pub fn serve() {
    let asked = ASKED.load(Ordering::Acquire);
    if asked == DONE.load(Ordering::Relaxed) {
        return;
    }
    let [a, b, c, d, e, f] = core::array::from_fn(|index| ARGUMENTS[index].load(Ordering::Relaxed));
    let number = NUMBER.load(Ordering::Relaxed);
    let is_filter = installation(number, &[a, b, c, d, e, f]).is_some();
    let answer = match number {
        JOIN_USER_NAMESPACE => join_user_namespace(),
        nr::LANDLOCK_RESTRICT_SELF => restrict(a, b),
        // SAFETY: a call that the program is about to make with these arguments.
        number => unsafe { sys::call6(number, a, b, c, d, e, f) },
    };
    if !is_filter {
        // The kernel forgets it when credentials change.
        parent::ask_for_signal();
    }
    ANSWER.store(if sys::failed(answer) { answer } else { 0 }, Ordering::Relaxed);
    DONE.store(asked, Ordering::Release);
    futex::wake(&DONE, u32::MAX >> 1);
    while is_filter && SETTLING.load(Ordering::Acquire) && !survivor::is_orphan() {
        futex::wait(&DONE, asked, 1_000_000);
    }
}

fn pidfd() -> i64 {
    // SAFETY: takes numbers.
    unsafe { sys::call2(nr::PIDFD_OPEN, u64::from(process::identity().pid()), 0) }
}

/// Enters the user namespace of the process.
fn join_user_namespace() -> i64 {
    let path = Text::<40>::new(format_args!("/proc/{}/ns/user", survivor::process()));
    let path = path.as_c_str();
    let inode = |path: &CStr| file::stat(path).map(|status| status.inode);
    let (own, of_process) = (inode(c"/proc/self/ns/user"), inode(path));
    if own.is_some() && own == of_process {
        return 0;
    }
    let fd = match pidfd() {
        fd if sys::failed(fd) => return fd,
        fd => fd,
    };
    // SAFETY: changes this process's own credentials.
    let mut result = unsafe { sys::call2(nr::SETNS, fd as u64, CLONE_NEWUSER) };
    file::close(fd as i32);
    if sys::failed(result) {
        // Before Linux 5.8.
        let fd = file::open(path, 0, 0);
        if !sys::failed(fd) {
            // SAFETY: as above.
            result = unsafe { sys::call2(nr::SETNS, fd as u64, CLONE_NEWUSER) };
            file::close(fd as i32);
        }
    }
    result
}

/// `landlock_restrict_self`, with a descriptor of the process.
fn restrict(ruleset: u64, flags: u64) -> i64 {
    let process = match pidfd() {
        fd if sys::failed(fd) => return fd,
        fd => fd,
    };
    // SAFETY: makes a descriptor in this process's own table.
    let own = unsafe { sys::call3(nr::PIDFD_GETFD, process as u64, ruleset, 0) };
    file::close(process as i32);
    if sys::failed(own) {
        return own;
    }
    // SAFETY: restricts this process alone.
    let result = unsafe { sys::call2(nr::LANDLOCK_RESTRICT_SELF, own as u64, flags) };
    file::close(own as i32);
    result
}

/// In a child of fork, whose helper has the child's own credentials.
pub fn after_fork_in_child() {
    DONE.store(ASKED.load(Ordering::Relaxed), Ordering::Relaxed);
    REFUSED_TO.store(0, Ordering::Relaxed);
    SETTLING.store(false, Ordering::Relaxed);
    // SAFETY: the child has one thread, and it is not inside the lock.
    unsafe { ASKING.reset() };
}
