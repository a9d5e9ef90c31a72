//! What a group says: the kinds of leaders and the layout of their payloads.
//!
//! | kind | payload (offsets in the 224 bytes) | counters |
//! |---|---|---|
//! | 1 ThreadStart | name `[32]` | no |
//! | 2 ThreadEnd | | yes |
//! | 3 TaskStart | task | yes |
//! | 4 TaskEnd | task | yes |
//! | 5 Snapshot | | yes |
//! | 6 Values | first u16, count u16, pad u32, values `[27]` u64 | is them |
//! | 7 Notice | code u16, 8: a u64, 16: b u64, 24: text `[200]` | no |
//! | 8 Exec | path `[224]` | no |
//! | 9 Spawn | pid u32, 4: fork u32, 8: path `[216]` | no |
//! | 10 ProcessEnd | reason u8, 4: status i32 | yes |
//! | 11 Directory | number u16, 8: path `[216]` | yes |
//!
//! task: stage i32, 4: stage attempt i32, 8: index i32, 12: attempt i32, 16: TID i64, 24: method u8,
//! 25: flags u8 (0), 26: outcome u8, 32: application id `[64]`, 96: executor id `[32]`.
//!
//! A Spawn with a fork number is of a child by fork, without a path; without one (0, as before there were any) of another program.
//!
//! The counters of a Directory are those of the process's calls on files in it, and are part of the process's.

use crate::bytes::{self, i32_at, i64_at, text_at, u8_at, u16_at, u32_at, u64_at};

/// Size of a record's payload, in bytes.
pub const PAYLOAD_BYTES: usize = 224;
/// Offset of the payload in a record.
pub const PAYLOAD_AT: usize = 32;
/// Values that fit into one `Values` record.
pub const VALUES_PER_RECORD: usize = 27;

/// The longest path of a directory that is kept, in bytes.
pub const MAX_DIRECTORY_BYTES: usize = 216;
/// Stands for all directories beyond those that a process tells apart.
pub const OTHER_DIRECTORIES: &[u8] = b"(other directories)";

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A thread was seen for the first time.
    ThreadStart = 1,
    /// A thread ended.
    ThreadEnd = 2,
    /// A Spark task began on the thread.
    TaskStart = 3,
    /// A Spark task ended on the thread.
    TaskEnd = 4,
    /// The cumulative counters now.
    Snapshot = 5,
    /// Counters of the leader before it.
    Values = 6,
    /// Something that a reader of the figures should know.
    Notice = 7,
    /// The process image is about to be replaced.
    Exec = 8,
    /// A child was started.
    Spawn = 9,
    /// The process is about to end.
    ProcessEnd = 10,
    /// What the process did to files in one directory until now.
    Directory = 11,
}

impl Kind {
    /// The kind stored as this byte.
    pub const fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::ThreadStart,
            2 => Kind::ThreadEnd,
            3 => Kind::TaskStart,
            4 => Kind::TaskEnd,
            5 => Kind::Snapshot,
            6 => Kind::Values,
            7 => Kind::Notice,
            8 => Kind::Exec,
            9 => Kind::Spawn,
            10 => Kind::ProcessEnd,
            11 => Kind::Directory,
            _ => return None,
        })
    }

    /// The kind's name, for tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::ThreadStart => "thread_start",
            Kind::ThreadEnd => "thread_end",
            Kind::TaskStart => "task_start",
            Kind::TaskEnd => "task_end",
            Kind::Snapshot => "snapshot",
            Kind::Values => "values",
            Kind::Notice => "notice",
            Kind::Exec => "exec",
            Kind::Spawn => "spawn",
            Kind::ProcessEnd => "process_end",
            Kind::Directory => "directory",
        }
    }

    /// Whether leaders of this kind carry counters.
    pub const fn has_values(self) -> bool {
        matches!(
            self,
            Kind::ThreadEnd
                | Kind::TaskStart
                | Kind::TaskEnd
                | Kind::Snapshot
                | Kind::ProcessEnd
                | Kind::Directory
        )
    }
}

/// The clocks at the moment of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// CLOCK_MONOTONIC in ns.
    pub mono_ns: u64,
    /// CLOCK_REALTIME in ns since the epoch; 0 = not taken.
    pub real_ns: u64,
}

/// How a task's start and end were noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskMethod(pub u8);

impl TaskMethod {
    /// Not said.
    pub const UNKNOWN: TaskMethod = TaskMethod(0);
    /// JVMTI breakpoints in Spark's own methods.
    pub const BREAKPOINT: TaskMethod = TaskMethod(1);
    /// The thread's name, as given to `pthread_setname_np`.
    pub const THREAD_NAME: TaskMethod = TaskMethod(2);
    /// The event log's times.
    pub const EVENT_LOG: TaskMethod = TaskMethod(3);
    /// The record is of a thread that the task has started, from its start to its end or the task's.
    pub const TASK_THREAD: TaskMethod = TaskMethod(4);
    /// The record is of a Python worker that serves the task, from the bytes that tell it of the task to the moment at
    /// which it waits for the next ones. The stage's attempt and the task's index are not known there.
    pub const PYTHON_WORKER: TaskMethod = TaskMethod(5);
    /// Those of which a record adds to a task that has another one.
    pub const FURTHER: [TaskMethod; 2] = [TaskMethod::TASK_THREAD, TaskMethod::PYTHON_WORKER];

    /// The method's name, for tables and JSON.
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "breakpoint",
            2 => "thread_name",
            3 => "event_log",
            4 => "task_thread",
            5 => "python_worker",
            _ => "unknown",
        }
    }
}

/// How a task's code ended, as far as the thread's own end of it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskOutcome(pub u8);

impl TaskOutcome {
    /// Not said; so for every task whose end was not seen.
    pub const UNKNOWN: TaskOutcome = TaskOutcome(0);
    /// The task's method returned. Spark catches most failures inside, so this is not yet success.
    pub const RETURNED: TaskOutcome = TaskOutcome(1);
    /// An exception left the task's method.
    pub const THREW: TaskOutcome = TaskOutcome(2);

    /// The outcome's name, for tables and JSON.
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "returned",
            2 => "threw",
            _ => "unknown",
        }
    }
}

/// Why a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProcessEndReason(pub u8);

impl ProcessEndReason {
    /// Not said.
    pub const UNKNOWN: ProcessEndReason = ProcessEndReason(0);
    /// exit, exit_group or a return from main; the status is the exit code.
    pub const EXIT: ProcessEndReason = ProcessEndReason(1);
    /// exec replaced the image; the status is 0.
    pub const EXEC: ProcessEndReason = ProcessEndReason(2);
    /// A signal's default action; the status is the signal's number.
    pub const SIGNAL: ProcessEndReason = ProcessEndReason(3);

    /// The reason's name, for tables and JSON.
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "exit",
            2 => "exec",
            3 => "signal",
            _ => "unknown",
        }
    }
}

/// The identity of a Spark task attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskId<'a> {
    /// Stage id; -1 = unknown.
    pub stage: i32,
    /// Attempt of the stage; -1 = unknown.
    pub stage_attempt: i32,
    /// Index of the task in its stage; -1 = unknown.
    pub index: i32,
    /// Attempt of the task; -1 = unknown.
    pub attempt: i32,
    /// Spark's TID, unique in an application attempt; -1 = unknown.
    pub task_id: i64,
    /// How it was noticed.
    pub method: TaskMethod,
    /// Application id; empty = unknown, or as the header says.
    pub application_id: &'a [u8],
    /// Executor id; empty = unknown, or as the header says.
    pub executor_id: &'a [u8],
}

impl Default for TaskId<'_> {
    fn default() -> Self {
        TaskId {
            stage: -1,
            stage_attempt: -1,
            index: -1,
            attempt: -1,
            task_id: -1,
            method: TaskMethod::UNKNOWN,
            application_id: &[],
            executor_id: &[],
        }
    }
}

/// What a group says, counters apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A thread was seen for the first time.
    ThreadStart {
        /// Its name.
        name: &'a [u8],
    },
    /// The thread ended; its last counters.
    ThreadEnd,
    /// A task began on the thread; the thread's counters at that moment.
    TaskStart(TaskId<'a>),
    /// A task ended on the thread; the thread's counters at that moment.
    TaskEnd {
        /// The task.
        task: TaskId<'a>,
        /// How it ended.
        outcome: TaskOutcome,
    },
    /// The counters now; tid 0 = of the whole process, ended threads included.
    Snapshot,
    /// Something that a reader of the figures should know; see [`crate::notice`].
    Notice {
        /// What.
        code: u16,
        /// First number, by code.
        a: u64,
        /// Second number, by code.
        b: u64,
        /// Text, by code.
        text: &'a [u8],
    },
    /// The process image is about to be replaced by this file.
    Exec {
        /// The file, as given to exec.
        path: &'a [u8],
    },
    /// A child was started: by fork, or by posix_spawn or vfork and exec.
    Spawn {
        /// The child, as its parent sees it: in its own PID namespace it may have another number.
        pid: u32,
        /// The number of the fork in this process, which the child's header repeats
        /// ([`crate::Header::parent_fork`]); 0 = it was no fork.
        fork: u32,
        /// Its program, as given; empty after a fork.
        path: &'a [u8],
    },
    /// The process is about to end; the process's last counters.
    ProcessEnd {
        /// Why.
        reason: ProcessEndReason,
        /// Exit code or signal, by reason.
        status: i32,
    },
    /// What the process did to files in one directory until now.
    Directory {
        /// The directory's number in this process; names may be equal after secrets were taken out of them.
        number: u16,
        /// Its path; [`OTHER_DIRECTORIES`] for those that have no number of their own.
        path: &'a [u8],
    },
}

impl<'a> Event<'a> {
    /// The kind of the group's leader.
    pub const fn kind(&self) -> Kind {
        match self {
            Event::ThreadStart { .. } => Kind::ThreadStart,
            Event::ThreadEnd => Kind::ThreadEnd,
            Event::TaskStart(_) => Kind::TaskStart,
            Event::TaskEnd { .. } => Kind::TaskEnd,
            Event::Snapshot => Kind::Snapshot,
            Event::Notice { .. } => Kind::Notice,
            Event::Exec { .. } => Kind::Exec,
            Event::Spawn { .. } => Kind::Spawn,
            Event::ProcessEnd { .. } => Kind::ProcessEnd,
            Event::Directory { .. } => Kind::Directory,
        }
    }

    /// Writes the payload into zeroed bytes; says whether a text was clipped.
    pub(crate) fn encode(&self, into: &mut [u8]) -> bool {
        match *self {
            Event::ThreadStart { name } => bytes::put_text(into, 0, 32, name),
            Event::ThreadEnd | Event::Snapshot => false,
            Event::TaskStart(ref task) => encode_task(into, task, TaskOutcome::UNKNOWN),
            Event::TaskEnd { ref task, outcome } => encode_task(into, task, outcome),
            Event::Notice { code, a, b, text } => {
                bytes::put(into, 0, &code.to_le_bytes());
                bytes::put(into, 8, &a.to_le_bytes());
                bytes::put(into, 16, &b.to_le_bytes());
                bytes::put_text(into, 24, 200, text)
            }
            Event::Exec { path } => bytes::put_text(into, 0, 224, path),
            Event::Spawn { pid, fork, path } => {
                bytes::put(into, 0, &pid.to_le_bytes());
                bytes::put(into, 4, &fork.to_le_bytes());
                bytes::put_text(into, 8, 216, path)
            }
            Event::ProcessEnd { reason, status } => {
                into[0] = reason.0;
                bytes::put(into, 4, &status.to_le_bytes());
                false
            }
            Event::Directory { number, path } => {
                bytes::put(into, 0, &number.to_le_bytes());
                bytes::put_text(into, 8, MAX_DIRECTORY_BYTES, path)
            }
        }
    }

    /// Reads the payload of a leader; `None` for `Values`, which lead nothing.
    pub(crate) fn decode(kind: Kind, from: &'a [u8]) -> Option<Event<'a>> {
        Some(match kind {
            Kind::ThreadStart => Event::ThreadStart { name: text_at(from, 0, 32) },
            Kind::ThreadEnd => Event::ThreadEnd,
            Kind::TaskStart => Event::TaskStart(decode_task(from)),
            Kind::TaskEnd => {
                Event::TaskEnd { task: decode_task(from), outcome: TaskOutcome(u8_at(from, 26)) }
            }
            Kind::Snapshot => Event::Snapshot,
            Kind::Values => return None,
            Kind::Notice => Event::Notice {
                code: u16_at(from, 0),
                a: u64_at(from, 8),
                b: u64_at(from, 16),
                text: text_at(from, 24, 200),
            },
            Kind::Exec => Event::Exec { path: text_at(from, 0, 224) },
            Kind::Spawn => Event::Spawn {
                pid: u32_at(from, 0),
                fork: u32_at(from, 4),
                path: text_at(from, 8, 216),
            },
            Kind::ProcessEnd => Event::ProcessEnd {
                reason: ProcessEndReason(u8_at(from, 0)),
                status: i32_at(from, 4),
            },
            Kind::Directory => Event::Directory {
                number: u16_at(from, 0),
                path: text_at(from, 8, MAX_DIRECTORY_BYTES),
            },
        })
    }
}

fn encode_task(into: &mut [u8], task: &TaskId<'_>, outcome: TaskOutcome) -> bool {
    bytes::put(into, 0, &task.stage.to_le_bytes());
    bytes::put(into, 4, &task.stage_attempt.to_le_bytes());
    bytes::put(into, 8, &task.index.to_le_bytes());
    bytes::put(into, 12, &task.attempt.to_le_bytes());
    bytes::put(into, 16, &task.task_id.to_le_bytes());
    into[24] = task.method.0;
    into[26] = outcome.0;
    let application_clipped = bytes::put_text(into, 32, 64, task.application_id);
    let executor_clipped = bytes::put_text(into, 96, 32, task.executor_id);
    application_clipped || executor_clipped
}

fn decode_task(from: &[u8]) -> TaskId<'_> {
    TaskId {
        stage: i32_at(from, 0),
        stage_attempt: i32_at(from, 4),
        index: i32_at(from, 8),
        attempt: i32_at(from, 12),
        task_id: i64_at(from, 16),
        method: TaskMethod(u8_at(from, 24)),
        application_id: text_at(from, 32, 64),
        executor_id: text_at(from, 96, 32),
    }
}
