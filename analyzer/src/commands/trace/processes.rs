//! Record files put together into processes and their threads.
//!
//! A process is one process image: a new one begins after fork and after exec, with an id of its
//! own. Its segments may be given in any order; each repeats the totals, so what an earlier one
//! lacks is history, not work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use records::event::Event;
use records::notice;
use records::{Flags, Group, Header, ProcessEndReason, ProcessId, Segment};

use crate::input::record_files::RecordFile;
use crate::model::counts::Counts;
use crate::model::history::{History, Remark, Settled};
use crate::model::snapshot_policy::Snapshots;
use crate::text::shown::arguments;

/// What the record files say about one process image.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its random identity.
    pub id: ProcessId,
    /// The counted process that it was forked or exec'd from.
    pub parent: Option<ProcessId>,
    /// The number that the fork which made it has in its parent's records; 0 = not known.
    pub parent_fork: u32,
    /// Process number, as it sees itself.
    pub pid: u32,
    /// Its parent's number at its start; 0 = that is in another PID namespace.
    pub ppid: u32,
    /// Its start in clock ticks since boot, the same before and after exec; 0 = not known.
    pub start_ticks: u64,
    /// The executable's path.
    pub exe: String,
    /// Name of its main thread.
    pub comm: String,
    /// Redacted arguments.
    pub arguments: Vec<String>,
    /// `engine` or `none`.
    pub tracer: String,
    /// From where on it was counted.
    pub starts_at: String,
    /// CLOCK_MONOTONIC in ns when counting began.
    pub start_mono_ns: u64,
    /// Sums over all threads, ended ones included.
    pub totals: Counts,
    /// Threads in order of appearance.
    pub threads: Vec<Thread>,
    /// What the writer wants the reader to know.
    pub notices: Vec<Notice>,
    /// How it ended; `None` if no record says so.
    pub end: Option<(ProcessEndReason, i32)>,
    /// The program that it exec'd as its last deed.
    pub exec: Option<String>,
    /// When it did, by CLOCK_MONOTONIC.
    pub exec_mono_ns: u64,
    /// Children that were started by posix_spawn, or by vfork and exec.
    pub spawned: Vec<Spawned>,
    /// Children that were made by fork.
    pub forked: Vec<Forked>,
    /// Bytes of its files that could not be used.
    pub left_out_bytes: usize,
    /// Segments that should be there and are not.
    pub missing_segments: u32,
}

/// One thread of a process.
#[derive(Debug, Clone)]
pub struct Thread {
    /// Thread number.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Its counters.
    pub totals: Counts,
    /// Every flag that its records carried.
    pub flags: Flags,
}

/// A remark of the writer; the codes are in [`records::notice`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The thread that it is about; 0 = the process.
    pub tid: u32,
    /// What.
    pub code: u16,
    /// First number, by code.
    pub a: u64,
    /// Second number, by code.
    pub b: u64,
    /// Text, by code.
    pub text: String,
}

impl Notice {
    /// The notice of a remark, if it is one.
    fn of(remark: Remark) -> Option<Notice> {
        let Remark { tid, a, b, text, .. } = remark;
        let mut notice = Notice { tid, code: remark.code?, a, b, text };
        if let Some(tid) = notice.thread_not_followed() {
            notice.tid = tid;
            if let Some(reason) = notice.text.strip_prefix(&format!("thread {tid}: ")) {
                notice.text = reason.to_owned();
            }
        }
        Some(notice)
    }

    /// The thread that was not followed, of a notice of that kind: another one than the writer.
    fn thread_not_followed(&self) -> Option<u32> {
        let is_other = self.code == notice::THREAD_NOT_FOLLOWED && self.b != 0;
        u32::try_from(self.b).ok().filter(|_| is_other)
    }
}

/// A child that was started without fork's copy of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spawned {
    /// Its process number, as its parent sees it.
    pub pid: u32,
    /// Its program, as given; empty = not known.
    pub path: String,
    /// When its parent told of it, by CLOCK_MONOTONIC.
    pub mono_ns: u64,
}

/// A child that was made by fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forked {
    /// Its process number, as its parent sees it.
    pub pid: u32,
    /// The number of the fork, which the child's header repeats.
    pub number: u32,
}

impl Thread {
    /// True when the engine counted it for at least some time.
    pub fn was_followed(&self) -> bool {
        self.flags.contains(Flags::FOLLOWED) || self.was_released()
    }

    /// True when the engine let go of it before its end.
    pub fn was_released(&self) -> bool {
        self.flags.contains(Flags::WAS_RELEASED)
    }
}

impl Process {
    /// True when a tracer was there to count it.
    pub fn is_traced(&self) -> bool {
        ["engine", "gum"].contains(&self.tracer.as_str())
    }
}

/// Reads record files and puts them together; processes come in the order in which they began.
/// Files that cannot be used come back as messages.
pub fn read_processes(files: &[PathBuf]) -> (Vec<Process>, Vec<String>) {
    let mut building = BTreeMap::<ProcessId, Building>::new();
    let mut unusable = Vec::new();
    // Segments of one process have to be seen in their order, and only one file need be in memory.
    let mut in_order: Vec<&PathBuf> = files.iter().collect();
    in_order.sort_by_key(|file| segment_number(file));
    for path in in_order {
        let taken = RecordFile::load(path).and_then(|file| {
            let segment = file.segment()?;
            let header = segment.header();
            let process = building.entry(header.process_id);
            process.or_insert_with(|| Building::begin(header)).take(&segment);
            Ok(())
        });
        unusable.extend(taken.err());
    }
    let mut processes: Vec<_> = building.into_values().map(Building::finish).collect();
    processes.sort_by_key(|process| (process.start_mono_ns, process.pid));
    (processes, unusable)
}

fn segment_number(file: &Path) -> u32 {
    let name = file.file_name().and_then(|name| name.to_str());
    name.and_then(records::file_name::parse).map_or(0, |(_, segment)| segment)
}

/// A process of which more segments may come.
struct Building {
    process: Process,
    history: History,
    segments: Vec<u32>,
    /// When the last Exec record was written.
    exec_mono_ns: u64,
    /// The last program that each thread wanted to exec.
    execs: BTreeMap<u32, String>,
}

/// How long other threads' snapshots may come after an Exec record although exec succeeds: the shim
/// waits up to two seconds for the disk before it lets exec go on.
const EXEC_DELAY_NS: u64 = 3_000_000_000;

impl Building {
    fn begin(header: &Header<'_>) -> Building {
        Building {
            process: begin(header),
            history: History::new(Snapshots::Last),
            segments: Vec::new(),
            exec_mono_ns: 0,
            execs: BTreeMap::new(),
        }
    }

    fn take(&mut self, segment: &Segment<'_>) {
        self.segments.push(segment.header().segment);
        let mut groups = segment.groups();
        for group in groups.by_ref() {
            if shows_life(&group, self.exec_mono_ns) {
                self.process.exec = None;
            }
            self.history.take(&group);
            let process = &mut self.process;
            match group.event {
                Event::Exec { path } => {
                    self.exec_mono_ns = group.stamp.mono_ns;
                    self.execs.insert(group.tid, text(path));
                    process.exec = Some(text(path));
                    process.exec_mono_ns = group.stamp.mono_ns;
                }
                Event::Spawn { pid, fork: number @ 1.., .. } => {
                    process.forked.push(Forked { pid, number });
                }
                Event::Spawn { pid, path, .. } => {
                    // A child of vfork writes its Exec record here, in the memory of its parent.
                    let exec = self.execs.remove(&pid).filter(|_| path.is_empty());
                    let path = exec.unwrap_or_else(|| text(path));
                    process.spawned.push(Spawned { pid, path, mono_ns: group.stamp.mono_ns });
                }
                _ => {}
            }
        }
        self.process.left_out_bytes += groups.left_out().total();
    }

    fn finish(mut self) -> Process {
        self.segments.sort_unstable();
        self.segments.dedup();
        let last = self.segments.last().copied().unwrap_or(0);
        let missing = u64::from(last) + 1 - self.segments.len() as u64;
        self.history.finish(missing == 0);
        let History { settled, end, counters, .. } = self.history;
        let Settled { mut threads, remarks, .. } = settled;
        threads.sort_by_key(|thread| thread.ordinal);
        let mut process = self.process;
        (process.end, process.totals) = (end, counters);
        process.missing_segments = u32::try_from(missing).unwrap_or(u32::MAX);
        for thread in threads {
            let to = push_thread(&mut process, thread.tid);
            (to.totals, to.flags) = (thread.counters, thread.flags);
            if let Some(name) = thread.name {
                to.name = name;
            }
        }
        process.notices = remarks.into_iter().filter_map(Notice::of).collect();
        let others: Vec<_> =
            process.notices.iter().filter_map(Notice::thread_not_followed).collect();
        for tid in others {
            // It may never write a record of its own.
            if process.threads.iter().all(|thread| thread.tid != tid) {
                push_thread(&mut process, tid);
            }
        }
        if process.is_traced() && process.threads.is_empty() {
            // Threads write their first record when something of them is counted.
            let pid = process.pid;
            push_thread(&mut process, pid);
        }
        process
    }
}

/// Whether a group can only come from a process that did not succeed in its last exec, at that time.
fn shows_life(group: &Group<'_>, exec_mono_ns: u64) -> bool {
    match group.event {
        Event::Exec { .. } | Event::Notice { .. } => false,
        Event::ProcessEnd { reason, .. } => reason != ProcessEndReason::EXEC,
        Event::Snapshot if group.flags.contains(Flags::FIRST_OF_SEGMENT) => false,
        Event::Snapshot | Event::Directory { .. } => {
            group.stamp.mono_ns > exec_mono_ns.saturating_add(EXEC_DELAY_NS)
        }
        _ => true,
    }
}

fn begin(header: &Header<'_>) -> Process {
    Process {
        id: header.process_id,
        parent: header.parent_process,
        parent_fork: header.parent_fork,
        pid: header.pid,
        ppid: header.ppid,
        start_ticks: header.start_ticks,
        exe: text(header.exe),
        comm: text(header.comm),
        arguments: arguments(header.command_line),
        tracer: text(header.tracer),
        starts_at: text(header.starts_at),
        start_mono_ns: header.start_mono_ns,
        totals: Counts::default(),
        threads: Vec::new(),
        notices: Vec::new(),
        end: None,
        exec: None,
        exec_mono_ns: 0,
        spawned: Vec::new(),
        forked: Vec::new(),
        left_out_bytes: 0,
        missing_segments: 0,
    }
}

fn push_thread(process: &mut Process, tid: u32) -> &mut Thread {
    let name = if tid == process.pid { process.comm.clone() } else { String::new() };
    process.threads.push(Thread { tid, name, totals: Counts::default(), flags: Flags::NONE });
    process.threads.last_mut().expect("just pushed")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
impl Process {
    /// A process for tests of what is made of processes: followed from start to end, one thread.
    pub fn whole(pid: u32, comm: &str, totals: Counts) -> Process {
        let flags = Flags::FOLLOWED | Flags::FINAL;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&pid.to_le_bytes());
        let mut process = begin(&Header { process_id: id, pid, ..Header::default() });
        process.comm = comm.to_owned();
        process.arguments = vec![comm.to_owned(), "-x".to_owned()];
        process.tracer = "engine".to_owned();
        process.starts_at = "constructor".to_owned();
        process.end = Some((ProcessEndReason::EXIT, 0));
        let thread = push_thread(&mut process, pid);
        (thread.totals, thread.flags) = (totals.clone(), flags);
        process.totals = totals;
        process
    }

    /// The same with one more thread.
    pub fn with_thread(mut self, tid: u32, name: &str, totals: Counts, flags: Flags) -> Process {
        let thread = push_thread(&mut self, tid);
        thread.name = name.to_owned();
        (thread.totals, thread.flags) = (totals, flags);
        self
    }
}

#[cfg(test)]
mod tests {
    use records::metric::{Class, INSTRUCTIONS, METRIC_COUNT};
    use records::{MAX_GROUP_BYTES, MAX_HEADER_BYTES, MetricSet, Stamp, encode_group};

    use super::*;

    const READ_CALLS: usize = Class::File.first() + 6;

    /// A segment of process 100 with these groups: thread, flags, event, instructions and read
    /// calls.
    fn segment(number: u32, groups: &[(u32, Flags, Event<'_>, [u64; 2])]) -> Vec<u8> {
        let header = Header {
            segment: number,
            process_id: [7; 16],
            pid: 100,
            comm: b"prog",
            command_line: b"prog\0-x\0",
            tracer: b"engine",
            starts_at: b"constructor",
            metrics: MetricSet::ENGINE.union(MetricSet::class(Class::File)),
            ..Header::default()
        };
        let mut file = vec![0; MAX_HEADER_BYTES];
        let length = header.encode(&mut file).expect("room");
        file.truncate(length);
        for (seq, (tid, flags, event, [instructions, reads])) in groups.iter().enumerate() {
            let mut values = [0; METRIC_COUNT];
            (values[INSTRUCTIONS], values[READ_CALLS]) = (*instructions, *reads);
            let mut group = [0; MAX_GROUP_BYTES];
            let stamp = Stamp { mono_ns: 1000 + seq as u64, real_ns: 0 };
            let length =
                encode_group(&mut group, seq as u32, stamp, *tid, *flags, event, Some(&values));
            file.extend(&group[..length.expect("room")]);
        }
        file
    }

    /// Writes the segments to files, reads them back, and expects one process.
    fn process(segments: &[(u32, Vec<u8>)]) -> Process {
        let folder = tempfile::tempdir().expect("a folder");
        let files: Vec<_> = segments
            .iter()
            .map(|(number, bytes)| {
                let id = "07".repeat(16);
                let file = folder.path().join(format!("node-100-{id}.{number:04}.sar"));
                std::fs::write(&file, bytes).expect("room");
                file
            })
            .collect();
        let (mut processes, unusable) = read_processes(&files);
        assert_eq!((processes.len(), unusable.len()), (1, 0));
        processes.remove(0)
    }

    const END: Event<'_> = Event::ProcessEnd { reason: ProcessEndReason::EXIT, status: 3 };
    const LAST: Flags = Flags(Flags::FOLLOWED.0 | Flags::FINAL.0);

    #[test]
    fn a_process_with_two_threads_that_ended() {
        let start = Event::ThreadStart { name: b"worker" };
        let process = process(&[(
            0,
            segment(
                0,
                &[
                    (101, Flags::FOLLOWED, start, [0, 0]),
                    (101, LAST, Event::ThreadEnd, [40, 2]),
                    (100, LAST, Event::ThreadEnd, [60, 1]),
                    (0, LAST, END, [100, 3]),
                ],
            ),
        )]);
        assert_eq!(process.totals.get(INSTRUCTIONS), Some(100));
        assert_eq!(process.totals.get(READ_CALLS), Some(3));
        assert_eq!(process.totals.get(Class::Pipe.first()), None);
        let threads: Vec<_> = process
            .threads
            .iter()
            .map(|one| (one.tid, one.name.as_str(), one.totals.get(INSTRUCTIONS)))
            .collect();
        assert_eq!(threads, [(101, "worker", Some(40)), (100, "prog", Some(60))]);
        assert_eq!(process.end, Some((ProcessEndReason::EXIT, 3)));
        assert_eq!(process.arguments, ["prog", "-x"]);
        assert_eq!((process.left_out_bytes, process.missing_segments), (0, 0));
    }

    #[test]
    fn a_reused_thread_number_is_another_thread() {
        let start = Event::ThreadStart { name: b"worker" };
        let process = process(&[(
            0,
            segment(
                0,
                &[
                    (101, Flags::FOLLOWED, start, [0, 0]),
                    (101, LAST, Event::ThreadEnd, [40, 0]),
                    (101, Flags::FOLLOWED, start, [0, 0]),
                    (101, LAST, Event::ThreadEnd, [2, 0]),
                ],
            ),
        )]);
        let counts: Vec<_> =
            process.threads.iter().map(|one| one.totals.get(INSTRUCTIONS)).collect();
        assert_eq!(counts, [Some(40), Some(2)]);
    }

    #[test]
    fn instructions_of_threads_that_were_never_followed_are_unknown() {
        let start = Event::ThreadStart { name: b"" };
        let process = process(&[(
            0,
            segment(0, &[(100, Flags::NONE, start, [0, 0]), (0, Flags::FINAL, END, [0, 5])]),
        )]);
        assert!(!process.threads.iter().any(Thread::was_followed));
        assert_eq!(process.totals.get(INSTRUCTIONS), None);
        assert_eq!(process.totals.get(READ_CALLS), Some(5));
    }

    #[test]
    fn the_last_segment_has_the_totals_and_gaps_are_counted() {
        let first = segment(0, &[(0, Flags::FOLLOWED, Event::Snapshot, [10, 1])]);
        let last = segment(
            2,
            &[
                (100, Flags::FOLLOWED, Event::Snapshot, [25, 2]),
                (0, Flags::FOLLOWED, Event::Snapshot, [20, 2]),
                (100, Flags::FOLLOWED, Event::Snapshot, [30, 2]),
            ],
        );
        // Given in the wrong order; killed, so one thread's record is newer than the process's.
        let process = process(&[(2, last), (0, first)]);
        assert_eq!(process.totals.get(INSTRUCTIONS), Some(30));
        assert_eq!(process.missing_segments, 1);
        assert_eq!(process.end, None);
    }

    #[test]
    fn an_exec_that_failed_is_forgotten() {
        let exec = Event::Exec { path: b"/bin/one" };
        let gone = segment(0, &[(100, Flags::FOLLOWED, exec, [0, 0])]);
        assert_eq!(process(&[(0, gone)]).exec.as_deref(), Some("/bin/one"));
        let failed = segment(
            0,
            &[
                (100, Flags::FOLLOWED, exec, [0, 0]),
                (100, Flags::FOLLOWED, Event::Snapshot, [9, 0]),
                (0, LAST, END, [9, 0]),
            ],
        );
        assert_eq!(process(&[(0, failed)]).exec, None);
    }

    #[test]
    fn the_program_of_a_vforked_child_is_known_by_its_exec() {
        let exec = Event::Exec { path: b"/bin/one" };
        let spawn = Event::Spawn { pid: 107, fork: 0, path: b"" };
        let fork = Event::Spawn { pid: 108, fork: 3, path: b"" };
        let groups = [
            (107, Flags::NONE, exec, [0, 0]),
            (100, Flags::FOLLOWED, spawn, [0, 0]),
            (100, Flags::FOLLOWED, fork, [0, 0]),
            (0, LAST, END, [9, 0]),
        ];
        let process = process(&[(0, segment(0, &groups))]);
        let path = "/bin/one".to_owned();
        assert_eq!(process.spawned, [Spawned { pid: 107, path, mono_ns: 1001 }]);
        assert_eq!(process.forked, [Forked { pid: 108, number: 3 }]);
        assert_eq!(process.exec, None);
    }

    #[test]
    fn unusable_files_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.sar");
        std::fs::write(&file, "plain text").expect("room");
        let (processes, unusable) = read_processes(&[file.clone(), folder.path().join("none.sar")]);
        assert!(processes.is_empty());
        assert_eq!(unusable.len(), 2);
        assert!(unusable.iter().any(|line| line.starts_with(&file.display().to_string())));
    }
}
