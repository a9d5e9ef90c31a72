//! What each hook does before and after the call it stands for.

use super::{
    actions,
    errno::errno,
    frame::{Decision, Frame},
    list::Hook,
    rights,
};
use crate::{
    base::{file, ids, sys, tls, tracer},
    bridge::{
        jvm::{launcher, tasks},
        python::tasks as python,
    },
    count::{follow, syscalls},
    lifecycle, process,
    record::{events, forks, helper, threads},
};
use core::ptr::null_mut;
use guest::syscall_number as nr;
use records::ProcessEndReason;

/// The system call that a hook stands for, as the kernel would see it; `None` for other hooks. The
/// arguments of these functions are in the kernel's order already.
fn number(hook: Hook) -> Option<u64> {
    Some(match hook {
        Hook::Open | Hook::Open64 => nr::OPEN,
        Hook::Openat | Hook::Openat64 => nr::OPENAT,
        Hook::Creat | Hook::Creat64 => nr::CREAT,
        Hook::Close => nr::CLOSE,
        Hook::Read => nr::READ,
        Hook::Pread | Hook::Pread64 => nr::PREAD64,
        Hook::Readv => nr::READV,
        Hook::Preadv | Hook::Preadv64 => nr::PREADV,
        Hook::Preadv2 | Hook::Preadv64v2 => nr::PREADV2,
        Hook::Write => nr::WRITE,
        Hook::Pwrite | Hook::Pwrite64 => nr::PWRITE64,
        Hook::Writev => nr::WRITEV,
        Hook::Pwritev | Hook::Pwritev64 => nr::PWRITEV,
        Hook::Pwritev2 | Hook::Pwritev64v2 => nr::PWRITEV2,
        Hook::Send | Hook::Sendto => nr::SENDTO,
        Hook::Sendmsg => nr::SENDMSG,
        Hook::Sendmmsg => nr::SENDMMSG,
        Hook::Recv | Hook::Recvfrom => nr::RECVFROM,
        Hook::Recvmsg => nr::RECVMSG,
        Hook::Recvmmsg => nr::RECVMMSG,
        Hook::Sendfile | Hook::Sendfile64 => nr::SENDFILE,
        Hook::Splice => nr::SPLICE,
        Hook::CopyFileRange => nr::COPY_FILE_RANGE,
        _ => return None,
    })
}

/// Whether the function returns `int`: the upper half of the register then has no meaning.
fn returns_int(number: u64) -> bool {
    matches!(number, nr::OPEN | nr::OPENAT | nr::CREAT | nr::CLOSE | nr::SENDMMSG | nr::RECVMMSG)
}

/// Before the call.
pub fn before(hook: Hook, frame: &mut Frame) -> Decision {
    process::check_fork();
    helper::exec_failed();
    if let Some(number) = number(hook) {
        // frida-gum's own calls come here too; a followed thread's are seen at the instruction.
        let is_tracers = cfg!(feature = "gum") && tracer::follows_current();
        if is_tracers || threads::is_vfork_child() {
            return Decision::PassThrough;
        }
        if python::is_watching() {
            python::before_call(number, frame.arguments[0]);
        } else if !syscalls::is_counted(number) {
            return Decision::PassThrough;
        }
        [frame.notes[0], frame.notes[1]] = syscalls::before(number, &frame.arguments);
        return Decision::CallThenAfter;
    }
    if let Some(decision) = rights::before(hook, frame) {
        return decision;
    }
    match hook {
        Hook::Fork if !process::is_borrowed() => {
            [frame.notes[0], frame.notes[1]] =
                threads::current().map_or([0; 2], |thread| forks::about_to(&thread.shared));
            Decision::CallThenAfter
        }
        Hook::PosixSpawn | Hook::PosixSpawnp if !process::is_borrowed() => Decision::CallThenAfter,
        Hook::Vfork => {
            threads::enter_vfork();
            Decision::PassThrough
        }
        Hook::Execve
        | Hook::Execv
        | Hook::Execvp
        | Hook::Execvpe
        | Hook::Execl
        | Hook::Execlp
        | Hook::Execle
        | Hook::Fexecve
        | Hook::Execveat => {
            executes(hook, &frame.arguments);
            Decision::PassThrough
        }
        Hook::ExitNow | Hook::ExitNowC99 if process::is_borrowed() => {
            events::spawned(ids::getpid(), b"");
            Decision::PassThrough
        }
        Hook::ExitNow | Hook::ExitNowC99 | Hook::QuickExit => {
            lifecycle::end::end(ProcessEndReason::EXIT, i32::from(frame.arguments[0] as u8));
            Decision::PassThrough
        }
        Hook::LibcStartMain => {
            if process::wants_agent() {
                // SAFETY: this is libc's own call with the initial stack's arguments.
                unsafe { launcher::insert_agent(&mut frame.arguments) };
                if !follow::go_on().is_null() {
                    return Decision::FollowNext;
                }
            }
            Decision::PassThrough
        }
        Hook::PthreadSetname => {
            named(&frame.arguments);
            Decision::CallThenAfter
        }
        // A vfork child's handlers are its own.
        Hook::Sigaction | Hook::Signal if tracer::is_serving() && !process::is_borrowed() => {
            actions::set(hook, frame)
        }
        Hook::Mmap
        | Hook::Mmap64
        | Hook::Munmap
        | Hook::Mprotect
        | Hook::PkeyMprotect
        | Hook::Mremap
        | Hook::Shmat
        | Hook::Dlclose
            if tracer::is_serving() =>
        {
            Decision::CallThenAfter
        }
        _ => Decision::PassThrough,
    }
}

/// After the call; a thread that is to be followed from here on, or null.
pub fn after(hook: Hook, frame: &mut Frame) -> *mut tracer::Thread {
    if let Some(number) = number(hook) {
        let result =
            if returns_int(number) { i64::from(frame.result as i32) } else { frame.result };
        let result = if result == -1 { -errno() } else { result };
        let thread = threads::current();
        let shared = thread.map(|thread| &thread.shared);
        let token = [frame.notes[0], frame.notes[1]];
        syscalls::observe(shared, number, &frame.arguments, token, result);
        if python::is_watching() {
            python::after_call(number, frame.arguments[0], result);
        }
        return null_mut();
    }
    if rights::after(hook, frame) {
        return null_mut();
    }
    let [first, second, third, ..] = frame.arguments;
    match hook {
        Hook::PthreadSetname => return follow::go_on(),
        Hook::Mmap | Hook::Mmap64 | Hook::Shmat if frame.result != -1 => {
            let len = if hook == Hook::Shmat { 1 } else { second };
            tracer::memory_changed(frame.result as u64, len);
        }
        Hook::Munmap | Hook::Mprotect | Hook::PkeyMprotect if frame.result as i32 == 0 => {
            tracer::memory_changed(first, second);
        }
        Hook::Mremap if frame.result != -1 => {
            tracer::memory_changed(first, second);
            tracer::memory_changed(frame.result as u64, third);
        }
        // The loader unmaps by calls of its own, and nobody says what.
        Hook::Dlclose => tracer::libraries_unloaded(),
        Hook::Fork if frame.result as i32 == 0 => process::check_fork(),
        Hook::Fork => {
            let numbers = [frame.notes[0], frame.notes[1]];
            if let Some(thread) = threads::current().filter(|_| numbers[0] != 0) {
                forks::made(&thread.shared, numbers, i64::from(frame.result as i32));
            }
        }
        Hook::PosixSpawn | Hook::PosixSpawnp if frame.result as i32 == 0 => {
            let pid = frame.arguments[0] as *const u32;
            let mut path = [0u8; 224];
            let path = sys::read_string(frame.arguments[1], &mut path);
            if !pid.is_null() {
                // SAFETY: the call has succeeded and has just stored the child's id there.
                events::spawned(unsafe { *pid }, path);
            }
        }
        _ => {}
    }
    null_mut()
}

fn executes(hook: Hook, arguments: &[u64; 6]) {
    let mut buffer = [0u8; 224];
    let mut name = [0u8; 32];
    let path = match hook {
        Hook::Fexecve => {
            let link = file::descriptor_path(u64::from(arguments[0] as u32), &mut name);
            file::read_link(link, &mut buffer).unwrap_or_default()
        }
        Hook::Execveat => sys::read_string(arguments[1], &mut buffer),
        _ => sys::read_string(arguments[0], &mut buffer),
    };
    if process::is_borrowed() {
        events::spawned(ids::getpid(), path);
    } else {
        events::before_exec(path);
    }
}

fn named(arguments: &[u64; 6]) {
    // A thread that names itself; pthread_t is the thread pointer in glibc and musl.
    if arguments[0] as usize != tls::thread_pointer() {
        return;
    }
    let mut name = [0u8; 16];
    let name = sys::read_string(arguments[1], &mut name);
    if let Some(thread) = threads::current() {
        tasks::named(thread, name);
    }
}
