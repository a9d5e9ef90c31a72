//! When a Python worker begins and ends a task, by the system calls of its main thread.
//!
//! Spark's worker (`pyspark/daemon.py`, `pyspark/worker.py`; 3.5 and 4.x) opens a file over a copy
//! of its socket for each task, reads the task from it, closes it, and waits for the next task on
//! another one:
//!
//! | call | meaning |
//! |---|---|
//! | read from a socket, while nothing is known | this is the input; its first bytes may begin a task |
//! | write to a socket, before the task is identified | that was a greeting (the secret): the next bytes begin it |
//! | close of the input | the worker is done with the task; it may still collect garbage |
//! | read from a socket after that | it waits for the next task: the old one has ended |
//!
//! Who the task is the interpreter tells ([`Stream::identified`]); bytes after which nobody does
//! were none.
//!
//! # Limitations
//!
//! An input that is never closed (somebody holds the file) leaves its task open until the process
//! ends.

use crate::syscall_number as nr;
use core::sync::atomic::{AtomicI64, AtomicU8, Ordering};

/// Nothing is known.
const IDLE: u8 = 0;
/// Bytes came that may begin a task.
const ARRIVED: u8 = 1;
/// They were answered: what comes next may begin it.
const ANSWERED: u8 = 2;
/// A task is served.
const SERVING: u8 = 3;
/// Its input is closed.
const CLOSED: u8 = 4;

const NO_INPUT: i64 = -1;

/// What is known of the main thread's input. The main thread alone moves it on, but for closes.
pub struct Stream {
    input: AtomicI64,
    phase: AtomicU8,
}

/// What a call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Reads(u64),
    Writes(u64),
    Sends(u64),
    Closes(u64),
}

fn doing(number: u64, first_argument: u64) -> Option<Doing> {
    // A descriptor is an int: the upper half of the register has no meaning.
    let fd = u64::from(first_argument as u32);
    Some(match number {
        nr::READ | nr::READV | nr::RECVFROM | nr::RECVMSG => Doing::Reads(fd),
        nr::WRITE | nr::WRITEV => Doing::Writes(fd),
        nr::SENDTO | nr::SENDMSG => Doing::Sends(fd),
        nr::CLOSE => Doing::Closes(fd),
        _ => return None,
    })
}

impl Stream {
    /// Nothing is known yet.
    pub const fn new() -> Stream {
        Stream { input: AtomicI64::new(NO_INPUT), phase: AtomicU8::new(IDLE) }
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    fn is_input(&self, fd: u64) -> bool {
        self.input.load(Ordering::Relaxed) == fd as i64
    }

    /// Whether bytes came that may have begun a task, which nobody has identified yet.
    #[inline]
    pub fn is_undecided(&self) -> bool {
        matches!(self.phase(), ARRIVED | ANSWERED)
    }

    /// Whether a task is served.
    pub fn is_serving(&self) -> bool {
        matches!(self.phase(), SERVING | CLOSED)
    }

    /// Whether the task that is served has nothing more to read.
    pub fn is_closed(&self) -> bool {
        self.phase() == CLOSED
    }

    /// A call is about to be made, by the main thread or another; whether the task ends now.
    pub fn before(
        &self,
        number: u64,
        first_argument: u64,
        is_main: bool,
        is_socket: impl Fn(u64) -> bool,
    ) -> bool {
        let Some(doing) = doing(number, first_argument) else { return false };
        match (doing, self.phase()) {
            (Doing::Closes(fd), phase) if self.is_input(fd) => {
                self.input.store(NO_INPUT, Ordering::Relaxed);
                let next = if phase == SERVING { CLOSED } else { IDLE };
                self.phase.store(next, Ordering::Relaxed);
            }
            (Doing::Reads(fd), phase @ (IDLE | CLOSED)) if is_main && is_socket(fd) => {
                self.input.store(fd as i64, Ordering::Relaxed);
                self.phase.store(IDLE, Ordering::Relaxed);
                return phase == CLOSED;
            }
            (Doing::Writes(fd), ARRIVED) if is_main && is_socket(fd) => {
                self.phase.store(ANSWERED, Ordering::Relaxed);
            }
            (Doing::Sends(fd), ARRIVED) if is_main && self.is_input(fd) => {
                self.phase.store(ANSWERED, Ordering::Relaxed);
            }
            _ => {}
        }
        false
    }

    /// A call of the main thread returned; whether this is the moment at which a task may have
    /// begun.
    pub fn after(&self, number: u64, first_argument: u64, result: i64) -> bool {
        let begins = matches!(doing(number, first_argument), Some(Doing::Reads(fd)) if self.is_input(fd))
            && matches!(self.phase(), IDLE | ANSWERED)
            && result > 0;
        if begins {
            self.phase.store(ARRIVED, Ordering::Relaxed);
        }
        begins
    }

    /// It is known which task has begun.
    pub fn identified(&self) {
        self.phase.store(SERVING, Ordering::Relaxed);
    }

    /// In a child of fork: it serves nobody, or the task that its parent serves, to its end.
    pub fn after_fork_in_child(&self) {
        let next = if self.is_serving() { SERVING } else { IDLE };
        self.input.store(NO_INPUT, Ordering::Relaxed);
        self.phase.store(next, Ordering::Relaxed);
    }
}

impl Default for Stream {
    fn default() -> Stream {
        Stream::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::String, vec, vec::Vec};

    const FILE: u64 = 3;

    /// What calls on descriptors say, one letter each: (b)egin of a task, (e)nd; a task is
    /// identified at `?`.
    fn said(calls: &[(char, u64)]) -> String {
        let stream = Stream::new();
        let mut said = String::new();
        for &(call, fd) in calls {
            let number = match call {
                'r' | '0' => nr::READ,
                'w' => nr::WRITE,
                's' => nr::SENDTO,
                'c' | 'C' => nr::CLOSE,
                'R' => nr::RECVFROM,
                'f' => {
                    stream.after_fork_in_child();
                    continue;
                }
                _ => {
                    if stream.is_undecided() {
                        stream.identified();
                        said.push('?');
                    }
                    continue;
                }
            };
            if stream.before(number, fd, call != 'C', |fd| fd != FILE) {
                said.push('e');
            }
            let result = if call == '0' { 0 } else { 4 };
            if stream.after(number, fd, result) {
                said.push('b');
            }
        }
        said
    }

    /// A task with input `fd`: its bytes in two pieces, a file and a connection of its own, its
    /// results.
    fn task(fd: u64) -> Vec<(char, u64)> {
        let mut calls = vec![('r', fd), ('r', fd), ('?', 0), ('r', FILE), ('s', 9), ('R', 9)];
        calls.extend([('c', 9), ('r', fd), ('w', fd + 1), ('r', fd), ('?', 0), ('w', fd + 1)]);
        calls
    }

    #[test]
    fn tasks_of_a_worker_that_is_used_again() {
        let mut calls = vec![('r', FILE), ('w', 4), ('r', 5), ('w', 6)];
        calls.extend(task(5));
        calls.extend([('c', 5), ('c', 6), ('r', FILE)]);
        calls.extend(task(6));
        calls.extend([('c', 6), ('0', 8)]);
        assert_eq!(said(&calls), "bb?eb?e", "the secret's bytes begin nothing, the task's do");
    }

    #[test]
    fn a_worker_of_one_task_waits_for_its_end_on_the_socket_itself() {
        let mut calls = task(5);
        calls.extend([('c', 5), ('R', 4), ('R', 4)]);
        assert_eq!(said(&calls), "b?eb", "bytes that nobody identifies are no task");
    }

    #[test]
    fn another_thread_may_close_the_input() {
        let mut calls = task(5);
        calls.extend([('C', 5), ('r', 7)]);
        assert_eq!(said(&calls), "b?eb");
    }

    #[test]
    fn without_a_daemon_one_descriptor_does_all() {
        let calls = [('R', 4), ('s', 4), ('R', 4), ('?', 0), ('R', 4), ('s', 4), ('R', 4)];
        assert_eq!(said(&calls), "bb?");
    }

    #[test]
    fn a_child_of_a_task_serves_it_to_its_own_end() {
        let mut calls = task(5);
        calls.extend([('f', 0), ('c', 5), ('r', 8), ('?', 0)]);
        assert_eq!(said(&calls), "b?");
        assert_eq!(said(&[('r', 5), ('f', 0), ('r', 6), ('?', 0)]), "bb?", "of no task");
    }
}
