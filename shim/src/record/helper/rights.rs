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

use crate::{
    base::{
        clock, futex, ids,
        sys::{self, nr},
        tls,
    },
    process,
    record::{
        helper::{
            birth,
            control::{come_again, leave, stop},
            credentials::{
                ANSWER, ARGUMENTS, ASKED, ASKING, CLONE_NEWUSER, DONE, JOIN_USER_NAMESPACE, NUMBER,
                REFUSED_TO, SETTLING, set_filtered,
            },
        },
        helper_state::{self, END_NS, State, WAKE, is_there},
    },
};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use engine::seccomp::{
    BpfInstruction, Installation, MAX_INSTRUCTIONS, installation, low_word, would_allow,
};

const CLONE_VM: u64 = 0x100;
const CLONE_NEWTIME: u64 = 0x80;
const CLONE_NEWPID: u64 = 0x2000_0000;
const PR_SET_KEEPCAPS: u64 = 8;
const PR_CAPBSET_DROP: u64 = 24;
const PR_SET_SECUREBITS: u64 = 28;
const PR_SET_NO_NEW_PRIVS: u64 = 38;
const PR_CAP_AMBIENT: u64 = 47;
const PR_CAP_AMBIENT_IS_SET: u64 = 1;

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
            if of == 0 || of == ids::gettid() {
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

/// The process has changed what it may do, and what it may now cannot be told to the helper.
pub fn cannot_follow() {
    leave(State::Without, format_args!("the helper cannot be told what the process gave up"));
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
    set_filtered();
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

/// Has the helper do it, and waits until it has.
fn ask(number: u64, arguments: &[u64; 6]) {
    ASKING.with(|()| {
        for (to, from) in ARGUMENTS.iter().zip(arguments) {
            to.store(*from, Ordering::Relaxed);
        }
        NUMBER.store(number, Ordering::Relaxed);
        let asked = ASKED.fetch_add(1, Ordering::AcqRel) + 1;
        WAKE.fetch_add(1, Ordering::Release);
        futex::wake(&WAKE, 1);
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
                helper_state::STATE.store(State::Silent as u32, Ordering::Release);
                birth::kill();
                return;
            }
            futex::wait(&DONE, done, (until - now).min(50_000_000));
        }
    });
}
