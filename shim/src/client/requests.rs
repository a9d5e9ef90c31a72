//! What the tracer asks of its client, and what it tells it, about threads that it follows.
//!
//! On a followed thread no hook runs: a branch to one is translated as a branch to the next definition, and
//! the engine reports the system call itself. Other functions of this library that libc calls back (at exit,
//! at a thread's end) run natively and are not counted.

use crate::{
    base::{clock, filtered, ids, link, sys, tls, tracer::Thread},
    bridge::{jvm::agent, python::tasks as python},
    client::{executed, notices},
    count::{behind, descriptor_calls, descriptors, syscalls},
    hooks,
    lifecycle::end,
    process::{self, Extent},
    record::{
        counters::{self, Shared},
        events, forks, helper, recorder, threads,
    },
};
use core::sync::atomic::{AtomicBool, Ordering};
use engine::{Call, CallToken, Client, Notice, Redirect, Thread as _};
use records::{ProcessEndReason, notice};

/// The client that the tracer asks.
pub struct Shim;

/// The one that there is.
pub static SHIM: Shim = Shim;

/// Is this address in the library's own code?
fn is_own(pc: u64) -> bool {
    let (start, end) = link::own_range();
    (start..end).contains(&(pc as usize))
}

/// The listed part of the thread whose words these are, if there is one yet.
fn listed_already() -> Option<&'static Shared> {
    threads::known().map(|thread| &thread.shared)
}

/// The calling thread's listed part; `None` after its end.
pub fn listed() -> Option<&'static Shared> {
    threads::current().map(|thread| &thread.shared)
}

impl Client<Thread> for Shim {
    fn redirect(&self, pc: u64) -> Redirect {
        match hooks::next_of_stub(pc as usize) {
            Some(_) if hooks::serves_bridge(pc as usize) && process::wants_agent() => {
                Redirect::Leave
            }
            Some(next) => Redirect::To(next as u64),
            None if agent::is_callback(pc as usize) => Redirect::Leave,
            None if is_own(pc) => Redirect::Native,
            None => Redirect::Follow,
        }
    }

    fn before_syscall(&self, thread: &Thread, call: &Call) -> CallToken {
        if python::is_watching() {
            on_own_tls(thread, |_| python::before_call(call.number, call.arguments[0]));
        }
        if behind::concerns(call.number) {
            on_own_tls(thread, |_| {
                if let Some(shared) = listed() {
                    behind::before(shared, call.number, &call.arguments);
                }
            });
        }
        let token = if syscalls::is_counted(call.number) {
            syscalls::before(call.number, &call.arguments)
        } else {
            clock::before_call(call.number, &call.arguments);
            if engine::seccomp::installation(call.number, &call.arguments).is_some() {
                on_own_tls(thread, |_| recorder::make_room_for_good());
            }
            if is_debugging(call) {
                on_own_tls(thread, |_| tell_of_debugger());
            }
            if engine::dispatches_to_user(call) {
                on_own_tls(thread, |_| end::give_up("system-call user dispatch"));
            }
            if helper::mirrors(call.number, &call.arguments) {
                on_own_tls(thread, |_| helper::mirror(call.number, &call.arguments));
            }
            let flags = forks::clone_flags(call.number, &call.arguments);
            if flags.is_some_and(|flags| flags & forks::CLONE_VFORK != 0) {
                on_own_tls(thread, |_| threads::enter_vfork());
            }
            match flags {
                Some(flags) if flags & forks::CLONE_VM == 0 => {
                    on_own_tls(thread, |_| listed().map(forks::about_to)).unwrap_or_default()
                }
                _ => CallToken::default(),
            }
        };
        // Behind the look at what is closed.
        descriptor_calls::before(call.number, &call.arguments);
        token
    }

    fn after_syscall(&self, thread: &Thread, call: &Call, result: i64, before: CallToken) {
        descriptor_calls::after(call.number, &call.arguments, result);
        if behind::concerns(call.number) {
            on_own_tls(thread, |_| {
                if let Some(shared) = listed() {
                    behind::after(shared, call.number, &call.arguments, result);
                }
            });
        }
        if syscalls::is_counted(call.number) {
            on_own_tls(thread, |_| {
                syscalls::observe(listed(), call.number, &call.arguments, before, result);
            });
        } else if helper::mirrors(call.number, &call.arguments) {
            on_own_tls(thread, |_| helper::mirrored(call.number, &call.arguments, result));
        } else if matches!(call.number, sys::nr::EXECVE | sys::nr::EXECVEAT) {
            on_own_tls(thread, |_| helper::exec_failed());
        } else if before != CallToken::default() && result != 0 {
            on_own_tls(thread, |_| {
                if let Some(shared) = listed() {
                    forks::made(shared, before, result);
                }
            });
        }
        if python::is_watching() {
            on_own_tls(thread, |_| python::after_call(call.number, call.arguments[0], result));
        }
    }

    fn before_exec(&self, thread: &Thread, call: &mut Call) {
        let mut path = [0u8; 224];
        let at = if call.number == engine::sys::nr::EXECVEAT { 1 } else { 0 };
        on_own_tls(thread, |_| {
            // First, as it has something to say that the records must have.
            if !filtered::may_be_counted() {
                executed::keep_out(&mut call.arguments[at + 2]);
            }
            events::before_exec(sys::read_string(call.arguments[at], &mut path));
        });
    }

    fn thread_started(&self, thread: &Thread) -> bool {
        let task = match thread.inherited_word().get() {
            0 => python::served(),
            task => task,
        };
        if process::extent() == Extent::Tasks && !recorder::is_task_open(task) {
            return false;
        }
        let present = tls::base();
        let word = if is_own_tls(present) {
            present
        } else {
            // Its creator's, or another runtime's.
            let Some(area) = tls::map_area() else {
                descriptors::give_up();
                let text = format_args!("no memory for the words of a thread without libc's");
                recorder::notice(0, notice::THREAD_NOT_FOLLOWED, 0, 0, text);
                return false;
            };
            area | OUR_AREA
        };
        thread.client_word().set(word);
        on_own_tls(thread, |thread| {
            begin(thread);
            if let Some(shared) = listed().filter(|_| task != 0) {
                events::task_thread_starts(shared, task);
            }
        });
        true
    }

    fn fork_child(&self, thread: &Thread) {
        on_own_tls(thread, |thread| {
            process::check_fork();
            begin(thread);
        });
    }

    fn exiting(&self, thread: &Thread, process: bool, status: i32) {
        let end = |thread: &Thread| {
            if threads::is_unlisted() {
                counters::add_after_end(&counters::of_tracer(thread));
            } else if !process {
                threads::end_current();
            }
        };
        if process {
            on_own_tls(thread, |thread| {
                end(thread);
                end::end(ProcessEndReason::EXIT, i32::from(status as u8));
            });
        } else if thread.client_word().get() & OUR_AREA != 0 {
            on_own_tls(thread, end);
            // SAFETY: this thread's last use of it; the FS base is the application's again.
            unsafe { tls::unmap_area(thread.client_word().get() & !OUR_AREA) };
            thread.client_word().set(0);
        } else if tls::is_libcs(thread.client_word().get()) {
            // Else libc has given the thread's memory back already, as musl does: the helper will miss the thread.
            on_own_tls(thread, end);
        }
    }

    fn notice(&self, thread: &Thread, notice: Notice, at: u64, detail: u64) {
        on_own_tls(thread, |thread| notices::write(thread, notice, at, detail));
    }
}

/// In a thread's word, which is the FS base for the client's code: it is an area of [`tls::map_area`].
const OUR_AREA: u64 = 1;

/// Runs the client's part of something with the thread-local words of this thread.
#[inline]
fn on_own_tls<R>(thread: &Thread, work: impl FnOnce(&Thread) -> R) -> R {
    match thread.client_word().get() {
        0 => work(thread),
        own => tls::with_base(own & !OUR_AREA, || work(thread)),
    }
}

/// Whether the words behind this FS base are this thread's to use: libc's, and not those of a living other thread.
fn is_own_tls(base: u64) -> bool {
    tls::is_libcs(base) && {
        let tid = ids::gettid();
        listed_already().is_none_or(|shared| shared.tid == tid)
    }
}

/// A followed thread is there.
fn begin(thread: &Thread) {
    if let Some(shared) = listed() {
        shared.adopt(thread);
    }
}

/// Whether a call makes one of the traced programs another's debugger.
fn is_debugging(call: &Call) -> bool {
    const PTRACE: u64 = 101;
    const TRACEME: u64 = 0;
    const ATTACH: u64 = 16;
    const SEIZE: u64 = 0x4206;
    call.number == PTRACE && [TRACEME, ATTACH, SEIZE].contains(&call.arguments[0])
}

/// A debugger stops a thread wherever it is, not where the engine could show the application's state.
fn tell_of_debugger() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        let text =
            format_args!("a debugger among the programs sees registers and code of the tracer");
        threads::notice(notice::PART_NOT_COUNTED, 0, text);
    }
}
