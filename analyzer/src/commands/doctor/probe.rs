//! Which system calls this environment lets through: each is tried in a child of its own, so that a filter that kills
//! kills that child alone.

use std::time::{Duration, Instant};

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does it, or complains about our arguments.
    Allowed,
    /// It is refused with this errno.
    Refused(i32),
    /// Whoever makes it is killed by this signal.
    Killed(i32),
    /// There was no answer in time, or no child to ask.
    Unknown,
}

impl Answer {
    /// Whether it cannot be used.
    pub fn is_refusal(self) -> bool {
        matches!(self, Answer::Refused(_) | Answer::Killed(_))
    }
}

/// A system call and how it is tried.
pub struct Probe {
    /// Its name.
    pub name: &'static str,
    /// Makes it: the kernel's answer. Runs in a forked child: makes system calls alone.
    call: fn() -> Result<i64, i32>,
}

/// The probe of what the engine's code cache needs.
pub const WRITE_AND_EXECUTE: &str = "mmap (write and execute)";

/// Some that profiles of containers and services refuse.
pub const PROBES: [Probe; 11] = [
    Probe { name: "process_vm_readv", call: process_vm_readv },
    Probe { name: "ptrace", call: ptrace },
    Probe { name: "perf_event_open", call: perf_event_open },
    Probe { name: "clone3", call: clone3 },
    Probe { name: "clone (shared memory)", call: clone_with_memory },
    Probe { name: "memfd_create", call: memfd_create },
    Probe { name: "mprotect (to execute)", call: mprotect_to_execute },
    Probe { name: WRITE_AND_EXECUTE, call: mmap_to_write_and_execute },
    Probe { name: "io_uring_setup", call: io_uring_setup },
    Probe { name: "userfaultfd", call: userfaultfd },
    Probe { name: "unshare (user namespace)", call: unshare },
];

/// The longest that a probe may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a child exits with instead of an errno where the call was allowed; errnos end at 133.
const ALLOWED: i32 = 200;

impl Probe {
    /// Tries it.
    pub fn ask(&self) -> Answer {
        // SAFETY: the child makes raw system calls and ends by _exit; this process has one thread that matters to it,
        // as it allocates nothing and takes no lock.
        match unsafe { libc::fork() } {
            -1 => Answer::Unknown,
            0 => {
                let code = match (self.call)() {
                    Ok(_) => ALLOWED,
                    Err(error) => error,
                };
                // SAFETY: ends the child.
                unsafe { libc::_exit(code) }
            }
            child => wait(child),
        }
    }
}

fn wait(child: i32) -> Answer {
    let begin = Instant::now();
    let mut status = 0;
    loop {
        // SAFETY: `status` is live and writable.
        match unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } {
            0 if begin.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(1)),
            0 => {
                // SAFETY: our own child, which was not waited for yet.
                unsafe {
                    libc::kill(child, libc::SIGKILL);
                    libc::waitpid(child, &mut status, 0);
                }
                return Answer::Unknown;
            }
            pid if pid == child => break,
            _ => return Answer::Unknown,
        }
    }
    match (libc::WIFSIGNALED(status), libc::WEXITSTATUS(status)) {
        (true, _) => Answer::Killed(libc::WTERMSIG(status)),
        // What the kernel says of arguments that it looked at: it was let through.
        (false, ALLOWED | libc::EINVAL | libc::EFAULT | libc::EBADF | libc::E2BIG) => {
            Answer::Allowed
        }
        (false, error) => Answer::Refused(error),
    }
}

/// A result of libc's: its value, or errno.
fn result(value: i64) -> Result<i64, i32> {
    // SAFETY: errno of this thread.
    if value == -1 { Err(unsafe { *libc::__errno_location() }) } else { Ok(value) }
}

fn process_vm_readv() -> Result<i64, i32> {
    let (from, mut to) = (1u64, 0u64);
    let local = libc::iovec { iov_base: (&raw mut to).cast(), iov_len: 8 };
    let remote = libc::iovec { iov_base: (&raw const from).cast_mut().cast(), iov_len: 8 };
    // SAFETY: both areas are live, of this process, and 8 bytes long.
    result(unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) } as i64)
}

fn ptrace() -> Result<i64, i32> {
    // SAFETY: asks that the parent may trace this child, which it does not.
    result(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) })
}

fn perf_event_open() -> Result<i64, i32> {
    const PERF_TYPE_SOFTWARE: u32 = 1;
    const PERF_COUNT_SW_DUMMY: u64 = 9;
    const EXCLUDE_KERNEL_AND_HYPERVISOR: u64 = 1 << 5 | 1 << 6;
    // struct perf_event_attr of version 0 (uapi/linux/perf_event.h): type and size, config, ..., flags at 40.
    let mut attributes = [0u64; 8];
    attributes[0] = u64::from(PERF_TYPE_SOFTWARE) | 64 << 32;
    attributes[1] = PERF_COUNT_SW_DUMMY;
    attributes[5] = EXCLUDE_KERNEL_AND_HYPERVISOR;
    // SAFETY: the structure is live and as long as it says.
    result(unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) })
}

fn clone3() -> Result<i64, i32> {
    // SAFETY: arguments of no length are refused as invalid.
    result(unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0) })
}

fn clone_with_memory() -> Result<i64, i32> {
    // The child shares memory, stack and all: as vfork, this one waits until it is gone.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    let child: i64;
    // SAFETY: the child does nothing but end, by a system call that touches no memory, and its parent sleeps meanwhile.
    unsafe {
        std::arch::asm!("syscall", "test rax, rax", "jnz 2f", "xor edi, edi", "mov eax, 60", "syscall", "2:",
            inlateout("rax") libc::SYS_clone => child, in("rdi") i64::from(flags), in("rsi") 0, in("rdx") 0,
            in("r10") 0, in("r8") 0, lateout("rcx") _, lateout("r11") _);
    }
    if child < 0 { Err(-child as i32) } else { Ok(child) }
}

fn memfd_create() -> Result<i64, i32> {
    // SAFETY: the name is NUL-terminated.
    result(i64::from(unsafe { libc::memfd_create(c"sparkanalyzer".as_ptr(), 0) }))
}

fn map(protection: i32) -> Result<*mut libc::c_void, i32> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at a place of the kernel's choice.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    result(page as i64).map(|_| page)
}

fn mprotect_to_execute() -> Result<i64, i32> {
    let page = map(libc::PROT_READ | libc::PROT_WRITE)?;
    // SAFETY: the mapping made above.
    result(i64::from(unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC) }))
}

fn mmap_to_write_and_execute() -> Result<i64, i32> {
    map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC).map(|_| 0)
}

fn io_uring_setup() -> Result<i64, i32> {
    let mut parameters = [0u8; 120];
    // SAFETY: struct io_uring_params (uapi/linux/io_uring.h) has 120 bytes.
    result(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) })
}

fn userfaultfd() -> Result<i64, i32> {
    const UFFD_USER_MODE_ONLY: i32 = 1;
    // SAFETY: flags alone.
    result(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY) })
}

fn unshare() -> Result<i64, i32> {
    // SAFETY: changes this child alone.
    result(i64::from(unsafe { libc::unshare(libc::CLONE_NEWUSER) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_what_became_of_the_call() {
        let ask = |call: fn() -> Result<i64, i32>| Probe { name: "test", call }.ask();
        assert_eq!(ask(|| Ok(7)), Answer::Allowed);
        assert_eq!(ask(|| Err(libc::EINVAL)), Answer::Allowed);
        assert_eq!(ask(|| Err(libc::EPERM)), Answer::Refused(libc::EPERM));
        // SAFETY: ends the child by a signal, as a filter does.
        let killed = ask(|| result(i64::from(unsafe { libc::raise(libc::SIGSYS) })));
        assert!(killed == Answer::Killed(libc::SIGSYS), "{killed:?}");
    }

    #[test]
    fn what_every_process_may_is_allowed() {
        for name in ["clone (shared memory)", "memfd_create"] {
            let probe = PROBES.iter().find(|probe| probe.name == name).expect("is there");
            assert_eq!(probe.ask(), Answer::Allowed, "{name}");
        }
    }
}
