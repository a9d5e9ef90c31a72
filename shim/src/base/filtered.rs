//! Programs that are executed under a seccomp filter which their process has installed itself.
//!
//! The library in the new program knows nothing of the filter, and a call of its own could be the end of the process. So where
//! the filter does not allow all that the library may ask for, the program is told to leave itself alone
//! ([`VARIABLE`]), and so are all that it executes, which have the filter too.

use crate::base::sys::nr;
use engine::sys::nr as engine_nr;

/// In the environment of a program that runs under such a filter.
pub const VARIABLE: &[u8] = b"SPARKANALYZER_FILTERED";
/// What the library may ask of the kernel in a program that it counts.
const CALLS: [u64; 61] = [
    nr::READ,
    nr::WRITE,
    nr::OPEN,
    nr::CLOSE,
    nr::FSTAT,
    7, // poll
    nr::MMAP,
    nr::MPROTECT,
    nr::MUNMAP,
    engine_nr::RT_SIGACTION,
    nr::RT_SIGPROCMASK,
    engine_nr::RT_SIGRETURN,
    nr::PWRITE64,
    nr::ACCESS,
    nr::SCHED_YIELD,
    nr::MADVISE,
    engine_nr::NANOSLEEP,
    nr::GETPID,
    nr::CLONE,
    nr::EXIT,
    nr::WAIT4,
    nr::UNAME,
    nr::FTRUNCATE,
    nr::GETCWD,
    nr::CHDIR,
    nr::MKDIR,
    nr::READLINK,
    nr::FCHMOD,
    nr::FCHOWN,
    nr::UMASK,
    nr::GETUID,
    nr::GETEUID,
    nr::GETEGID,
    nr::GETPPID,
    nr::SETPGID,
    engine_nr::SIGALTSTACK,
    nr::STATFS,
    nr::PRCTL,
    nr::ARCH_PRCTL,
    nr::GETTID,
    nr::FUTEX,
    nr::GETDENTS64,
    nr::CLOCK_GETTIME,
    nr::TGKILL,
    nr::OPENAT,
    nr::NEWFSTATAT,
    nr::UNLINKAT,
    nr::FALLOCATE,
    engine_nr::RT_TGSIGQUEUEINFO,
    nr::GETRANDOM,
    nr::CLOSE_RANGE,
    nr::CLONE3,
    nr::CAPGET,
    nr::MREMAP,
    engine_nr::PRLIMIT64,
    nr::KCMP,
    nr::EXIT_GROUP,
    nr::TIMER_CREATE,
    nr::TIMER_SETTIME,
    nr::RT_SIGPENDING,
    nr::RT_SIGTIMEDWAIT,
];

/// What it asks for too, but can do without.
const OPTIONAL_CALLS: [u64; 1] = [engine_nr::MEMFD_CREATE];

/// Whether a program that this process executes can be counted: no filter, or one that allows all that is needed.
pub fn may_be_counted() -> bool {
    CALLS.iter().all(|&call| engine::seccomp::allows(call, &[0; 6]))
        && OPTIONAL_CALLS.iter().all(|&call| engine::seccomp::allows_or_fails(call, &[0; 6]))
}
