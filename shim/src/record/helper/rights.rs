//! The helper has no right that the process has given up.
//!
//! # Design
//!
//! Who controls the process's memory controls the helper. So a call that changes credentials is made by the helper
//! first, with the same arguments, and the thread waits until it has been; then it makes its own. Pointers hold,
//! because the memory is the same. Where the helper could not do what the process then could, it ends.
//!
//! A user namespace takes rights and gives others; a process that enters one has one thread, which waits until the
//! helper has followed it.
//!
//! # Limitations
//!
//! Rights that are not changed by such calls (a file of an LSM is written, a parent acts) are not seen.

use super::{END_NS, State, WAKE, birth, come_again, is_there, leave, stop};
use crate::{
    base::{
        clock,
        lock::Lock,
        sys::{self, nr},
        tls,
    },
    entry::process,
};
use alloc::vec::Vec;
use core::{
    ffi::CStr,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
use engine::seccomp::{
    BpfInstruction, Installation, MAX_INSTRUCTIONS, installation, low_word, would_allow,
};

const CLONE_VM: u64 = 0x100;
const CLONE_NEWTIME: u64 = 0x80;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const PR_SET_KEEPCAPS: u64 = 8;
const PR_CAPBSET_DROP: u64 = 24;
const PR_SET_SECUREBITS: u64 = 28;
const PR_SET_NO_NEW_PRIVS: u64 = 38;
const PR_CAP_AMBIENT: u64 = 47;
const PR_CAP_AMBIENT_IS_SET: u64 = 1;

/// A number that no call has: the helper is to enter the process's user namespace.
const JOIN_USER_NAMESPACE: u64 = u64::MAX;

/// A filter is being installed: until the program has made its call, nobody knows what it forbids.
static SETTLING: AtomicBool = AtomicBool::new(false);
/// One thread at a time asks.
static ASKING: Lock<()> = Lock::new(());
/// What the helper is asked to do: a call's number and arguments.
static NUMBER: AtomicU64 = AtomicU64::new(0);
static ARGUMENTS: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];
static ANSWER: AtomicI64 = AtomicI64::new(0);
static ASKED: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
/// The thread whose call the helper could not make: its thread pointer.
static REFUSED_TO: AtomicUsize = AtomicUsize::new(0);
/// A filter was installed under which the helper cannot write.
static FILTERED: AtomicBool = AtomicBool::new(false);

/// Whether [`mirror`] and [`mirrored`] are to be called around a system call.
#[inline]
pub fn mirrors(number: u64, arguments: &[u64; 6]) -> bool {
    match number {
        nr::SETUID
        | nr::SETGID
        | nr::SETREUID
        | nr::SETREGID
        | nr::SETGROUPS
        | nr::SETRESUID
        | nr::SETRESGID
        | nr::SETFSUID
        | nr::SETFSGID
        | nr::CAPSET
        | nr::LANDLOCK_RESTRICT_SELF
        | nr::UNSHARE
        | nr::SETNS => true,
        nr::SECCOMP => installation(number, arguments).is_some(),
        nr::PRCTL => match low_word(arguments[0]) {
            PR_SET_KEEPCAPS | PR_CAPBSET_DROP | PR_SET_SECUREBITS | PR_SET_NO_NEW_PRIVS => true,
            PR_CAP_AMBIENT => arguments[1] != PR_CAP_AMBIENT_IS_SET,
            _ => installation(number, arguments).is_some(),
        },
        nr::WAIT4 => sees_helper(arguments[0] as i32 == -1, arguments[2]),
        nr::WAITID => sees_helper(arguments[0] == 0, arguments[3]),
        _ => false,
    }
}

/// Whether a wait for children finds the helper.
fn sees_helper(any: bool, options: u64) -> bool {
    const WALL_OR_WCLONE: u64 = 0xc000_0000;
    any && options & WALL_OR_WCLONE != 0
}

/// Before a call that [`mirrors`].
pub fn mirror(number: u64, arguments: &[u64; 6]) {
    if !is_there() || process::is_borrowed() {
        return;
    }
    if let Some(installation) = installation(number, arguments) {
        filters(number, arguments, installation);
        return;
    }
    match number {
        nr::WAIT4 | nr::WAITID => {
            leave(State::Without, format_args!("the process waits for children of every kind"));
        }
        nr::UNSHARE | nr::SETNS => {
            if is_shared_memory_refused(number, arguments) {
                stop(State::Away);
            }
        }
        nr::CAPSET => {
            let mut header = [0u8; 8];
            sys::read_memory(arguments[0], &mut header);
            let of = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
            if of == 0 || of == sys::gettid() {
                header[4..].fill(0);
                let mut own = *arguments;
                own[0] = header.as_ptr() as u64;
                ask(number, &own);
            }
        }
        _ => ask(number, arguments),
    }
}

/// After it.
pub fn mirrored(number: u64, arguments: &[u64; 6], result: i64) {
    SETTLING.store(false, Ordering::Release);
    let me = tls::thread_pointer();
    let refused = REFUSED_TO.compare_exchange(me, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    if sys::failed(result) {
        come_again();
        return;
    }
    if refused {
        leave(State::Without, format_args!("the helper could not give up what the process did"));
        return;
    }
    if !matches!(number, nr::UNSHARE | nr::SETNS) || process::is_borrowed() {
        return;
    }
    let kinds = kinds(number, arguments);
    if kinds & CLONE_NEWPID != 0 || (kinds & CLONE_NEWTIME != 0 && number == nr::UNSHARE) {
        birth::children_go_elsewhere();
    }
    if kinds & CLONE_NEWUSER != 0 && is_there() {
        ask(JOIN_USER_NAMESPACE, &[0; 6]);
        if REFUSED_TO.swap(0, Ordering::Relaxed) != 0 {
            leave(State::Without, format_args!("the helper cannot enter its user namespace"));
        }
    }
    come_again();
}

/// The namespaces, or parts of the process, that a call of unshare or setns is about.
fn kinds(number: u64, arguments: &[u64; 6]) -> u64 {
    const NS_GET_NSTYPE: u64 = 0xb703;
    match (number, arguments) {
        (nr::UNSHARE, [flags, ..]) => *flags,
        // SAFETY: asks for a number.
        (_, [fd, 0, ..]) => match unsafe { sys::call2(nr::IOCTL, *fd, NS_GET_NSTYPE) } {
            kind if sys::failed(kind) => 0,
            kind => kind as u64,
        },
        (_, [_, kinds, ..]) => *kinds,
    }
}

/// Whether the kernel makes this call only for a process whose memory nobody shares.
fn is_shared_memory_refused(number: u64, arguments: &[u64; 6]) -> bool {
    let alone = if number == nr::UNSHARE { CLONE_VM } else { CLONE_NEWTIME };
    kinds(number, arguments) & alone != 0
}

/// A filter or strict mode is about to be installed by this call.
fn filters(number: u64, arguments: &[u64; 6], installation: Installation) {
    const NEW_LISTENER: u64 = 8;
    /// Flags that change nothing but the calling thread.
    const LOG_AND_SPEC_ALLOW: u64 = 6;
    let by_seccomp = number == nr::SECCOMP;
    let is_supervised = by_seccomp && arguments[1] & NEW_LISTENER != 0;
    if let Installation::Filter(program) = installation
        && !is_supervised
        && may_write_under(program)
    {
        let mut own = *arguments;
        if by_seccomp {
            own[1] &= LOG_AND_SPEC_ALLOW;
        }
        SETTLING.store(true, Ordering::Release);
        ask(number, &own);
        return;
    }
    FILTERED.store(true, Ordering::Relaxed);
    leave(State::Silent, format_args!("a filter of system calls, under which nothing is written"));
}

/// What the helper cannot do without.
const NEEDED: [u64; 9] = [
    nr::PWRITE64,
    nr::FUTEX,
    nr::GETPPID,
    nr::MMAP,
    nr::MUNMAP,
    nr::RT_SIGPROCMASK,
    nr::RT_SIGRETURN,
    nr::SCHED_YIELD,
    nr::EXIT_GROUP,
];

/// Whether the helper could go on under a filter, the program of the `struct sock_fprog` at this address. Calls that
/// it can do without are not made when the filter forbids them.
fn may_write_under(program: u64) -> bool {
    let mut description = [0u8; 16];
    if sys::read_memory(program, &mut description) != description.len() {
        return false;
    }
    let length = usize::from(u16::from_le_bytes([description[0], description[1]]));
    let at = u64::from_le_bytes(core::array::from_fn(|index| description[8 + index]));
    let mut instructions: Vec<BpfInstruction> = Vec::new();
    if length > MAX_INSTRUCTIONS || instructions.try_reserve_exact(length).is_err() {
        return false;
    }
    for index in 0..length as u64 {
        let mut one = [0u8; 8];
        if sys::read_memory(at + 8 * index, &mut one) != one.len() {
            return false;
        }
        instructions.push(BpfInstruction {
            code: u16::from_le_bytes([one[0], one[1]]),
            jump_true: one[2],
            jump_false: one[3],
            k: u32::from_le_bytes([one[4], one[5], one[6], one[7]]),
        });
    }
    NEEDED.iter().all(|&call| would_allow(&instructions, call, &[0; 6]))
}

/// Whether nothing can be written because of a filter.
pub fn is_filtered() -> bool {
    FILTERED.load(Ordering::Relaxed)
}

/// Has the helper do it, and waits until it has.
fn ask(number: u64, arguments: &[u64; 6]) {
    ASKING.with(|()| {
        for (to, from) in ARGUMENTS.iter().zip(arguments) {
            to.store(*from, Ordering::Relaxed);
        }
        NUMBER.store(number, Ordering::Relaxed);
        let asked = ASKED.fetch_add(1, Ordering::AcqRel) + 1;
        WAKE.fetch_add(1, Ordering::Release);
        sys::futex_wake(&WAKE, 1);
        let until = clock::monotonic_ns() + END_NS;
        while is_there() {
            let done = DONE.load(Ordering::Acquire);
            if done == asked {
                if ANSWER.load(Ordering::Relaxed) < 0 {
                    REFUSED_TO.store(tls::thread_pointer(), Ordering::Relaxed);
                }
                return;
            }
            let now = clock::monotonic_ns();
            if now >= until {
                // It hangs in a file system, with rights that the process is giving up.
                super::STATE.store(State::Silent as u32, Ordering::Release);
                birth::kill();
                return;
            }
            sys::futex_wait(&DONE, done, (until - now).min(50_000_000));
        }
    });
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
        birth::ask_for_signal();
    }
    ANSWER.store(if sys::failed(answer) { answer } else { 0 }, Ordering::Relaxed);
    DONE.store(asked, Ordering::Release);
    sys::futex_wake(&DONE, u32::MAX >> 1);
    while is_filter && SETTLING.load(Ordering::Acquire) && !birth::is_orphan() {
        sys::futex_wait(&DONE, asked, 1_000_000);
    }
}

fn pidfd() -> i64 {
    // SAFETY: takes numbers.
    unsafe { sys::call2(nr::PIDFD_OPEN, u64::from(process::identity().pid()), 0) }
}

/// Enters the user namespace of the process.
fn join_user_namespace() -> i64 {
    let path = birth::Text::user_namespace();
    let path = path.as_c_str();
    let inode = |path: &CStr| sys::stat(path).map(|status| status.inode);
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
    sys::close(fd as i32);
    if sys::failed(result) {
        // Before Linux 5.8.
        let fd = sys::open(path, 0, 0);
        if !sys::failed(fd) {
            // SAFETY: as above.
            result = unsafe { sys::call2(nr::SETNS, fd as u64, CLONE_NEWUSER) };
            sys::close(fd as i32);
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
    sys::close(process as i32);
    if sys::failed(own) {
        return own;
    }
    // SAFETY: restricts this process alone.
    let result = unsafe { sys::call2(nr::LANDLOCK_RESTRICT_SELF, own as u64, flags) };
    sys::close(own as i32);
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
