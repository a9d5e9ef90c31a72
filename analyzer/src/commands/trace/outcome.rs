//! What a trace found out: processes with their counts, and everything that is missing from them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use records::MetricSet;
use records::notice;

use crate::commands::trace::child::{Ended, How};
use crate::commands::trace::family::{self, Missing, What};
use crate::commands::trace::left_behind::Remains;
use crate::commands::trace::processes::{Notice, Process, Thread};
use crate::commands::tracer::Tracer;
use crate::model::counts::Counts;
use elf::{self, OutOfReach};

/// The result of one run.
pub struct Outcome {
    /// The program and its arguments as given.
    pub command: Vec<OsString>,
    /// How the program ended.
    pub ended: Ended,
    /// Sums over all processes.
    pub totals: Counts,
    /// Processes in the order of their start; those that were not counted come behind.
    pub processes: Vec<Tally>,
    /// From where on the program is counted; `None` if it is not.
    pub starts_at: Option<String>,
    /// Reasons why the counts are less than what was executed; none means complete.
    pub gaps: Vec<String>,
    /// Remarks that do not touch the counts.
    pub notices: Vec<String>,
}

/// One process image and what it executed.
pub struct Tally {
    /// Process number.
    pub pid: u32,
    /// Name of its main thread.
    pub comm: String,
    /// Its arguments, quoted for a shell where needed.
    pub command_line: String,
    /// Its counts.
    pub totals: Counts,
    /// Its threads.
    pub threads: Vec<ThreadTally>,
    /// Why it was not followed from its start to its end; `None` if it was.
    pub unfollowed: Option<String>,
}

/// One thread and what it executed.
pub struct ThreadTally {
    /// Thread number.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Its counts.
    pub totals: Counts,
    /// Why it was not followed from its start to its end; `None` if it was.
    pub unfollowed: Option<String>,
}

/// Notices that say why a thread was not followed; they are told with the thread.
const THREAD_REASONS: [u16; 3] =
    [notice::THREAD_RELEASED, notice::THREAD_NOT_FOLLOWED, notice::MEMORY_LIMIT];

/// Notices that take nothing from the counts. Every other one does, or may: so do those that this reader does not know.
const REMARKS: [u16; 6] = [
    notice::PROCESS_SIZE_LIMIT,
    notice::DIRECTORY_SIZE_LIMIT,
    notice::TASK_DETECTION,
    notice::TASK_LATE,
    notice::VFORK_CHILD,
    notice::NO_SNAPSHOTS,
];

/// What hooks on libc's functions cannot see.
const HOOKS_ONLY: &str = "system calls that libc makes inside itself (stdio, name look-ups ...) are \
                          not seen without the engine";

/// Why a program within reach may write nothing.
const NOT_LOADED: &str = "libshim.so was not loaded, or could not write; is there a message above?";

impl Outcome {
    /// Draws up the result of running `command`.
    pub fn new(
        command: &[OsString],
        tracer: Tracer,
        ended: Ended,
        remains: Remains,
        out_of_reach: Option<OutOfReach>,
    ) -> Outcome {
        let Remains { processes, unusable_files, silent } = remains;
        let mut gaps = Vec::new();
        let mut notices = Vec::new();
        let mut totals = Counts::default();
        let is_counted = processes.iter().any(|process| process.pid == ended.pid);
        let mut uncounted = Vec::new();
        if !is_counted {
            let reason = match &out_of_reach {
                Some(reason) => reason.to_string(),
                None => match ended.how {
                    How::Killed(signal) => format!(
                        "process {}: wrote no record file: signal {signal} killed it too early",
                        ended.pid
                    ),
                    How::Exited(_) => {
                        format!("process {}: wrote no record file: {NOT_LOADED}", ended.pid)
                    }
                },
            };
            uncounted.push(uncounted_tally(ended.pid, command, reason));
        } else if let Some(reason) = out_of_reach.filter(|reason| !is_guess(reason)) {
            // What is counted under its number is a program that it executed.
            uncounted.push(uncounted_tally(ended.pid, command, reason.to_string()));
        }
        for process in &processes {
            totals.add(&process.totals);
            gaps.extend(gaps_of(process, &processes, tracer));
            let has_reasons = process.threads.iter().any(is_lost);
            for one in &process.notices {
                if has_reasons && THREAD_REASONS.contains(&one.code) {
                    continue;
                }
                let list = if REMARKS.contains(&one.code) { &mut notices } else { &mut gaps };
                list.push(format!("process {}{}", process.pid, describe(one)));
            }
        }
        for missing in family::missing(&processes, ended.pid) {
            uncounted.push(missing_tally(&missing, silent.get(&missing.pid)));
        }
        for (pid, name) in silent {
            // Its parent may have told of it, and why it writes nothing.
            if uncounted.iter().all(|tally| tally.pid != pid) {
                let reason = format!("child {pid} ({name}): still running, wrote no record file");
                uncounted.push(uncounted_tally(pid, &[OsString::from(name)], reason));
            }
        }
        gaps.extend(uncounted.iter().filter_map(|tally| {
            let reason = tally.unfollowed.as_ref()?;
            Some(format!("not counted: {reason}"))
        }));
        gaps.extend(unusable_files);
        let starts_at = processes
            .iter()
            .find(|process| process.pid == ended.pid)
            .map(|process| process.starts_at.clone());
        let counted: Vec<_> =
            processes.iter().map(|process| tally(process, &processes, tracer)).collect();
        Outcome {
            command: command.to_vec(),
            ended,
            totals,
            processes: counted.into_iter().chain(uncounted).collect(),
            starts_at,
            gaps: unique(gaps),
            notices: unique(notices),
        }
    }

    /// True when everything that the program and its children executed is in the counts.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty()
    }
}

fn tally(process: &Process, all: &[Process], tracer: Tracer) -> Tally {
    let threads: Vec<_> = process
        .threads
        .iter()
        .map(|thread| ThreadTally {
            tid: thread.tid,
            name: thread.name.clone(),
            totals: thread.totals.clone(),
            unfollowed: unfollowed(process, thread, all, tracer),
        })
        .collect();
    let first = threads.iter().find_map(|thread| thread.unfollowed.clone());
    let unfollowed = untraced(process, tracer).or(first);
    Tally {
        pid: process.pid,
        comm: process.comm.clone(),
        command_line: quote(process.arguments.iter().map(OsStr::new)),
        totals: process.totals.clone(),
        threads,
        unfollowed,
    }
}

/// Why nothing follows any thread of a process, if that is so.
fn untraced(process: &Process, tracer: Tracer) -> Option<String> {
    if process.is_traced() {
        return None;
    }
    let unavailable = find_notice(process, 0, &[notice::ENGINE_UNAVAILABLE]);
    Some(match unavailable {
        Some(found) if tracer != Tracer::None => format!("not followed: {}", found.text),
        _ => "not followed: tracer none counts system calls only".to_owned(),
    })
}

/// True when a program may have been counted although nobody could say so beforehand.
fn is_guess(reason: &OutOfReach) -> bool {
    match reason {
        OutOfReach::Unreadable { .. } => true,
        OutOfReach::Interpreter { reason, .. } => is_guess(reason),
        _ => false,
    }
}

/// True when the engine did not count a thread from its start to its end.
fn is_lost(thread: &Thread) -> bool {
    !thread.was_followed() || thread.was_released()
}

/// Why the engine did not follow a thread from its start to its end.
fn unfollowed(
    process: &Process,
    thread: &Thread,
    all: &[Process],
    tracer: Tracer,
) -> Option<String> {
    if let Some(reason) = untraced(process, tracer) {
        return Some(reason);
    }
    if !is_lost(thread) {
        return None;
    }
    let state = if thread.was_released() { "released" } else { "not followed" };
    let told = find_notice(process, thread.tid, &THREAD_REASONS)
        .or_else(|| find_notice(process, 0, &[notice::ENGINE_UNAVAILABLE]))
        .map(|found| found.text.as_str());
    let parent = all.iter().find(|other| Some(other.id) == process.parent);
    let was_orphaned = parent.is_some_and(|parent| parent.threads.iter().any(is_lost));
    Some(match told.filter(|text| !text.is_empty()) {
        Some(reason) => format!("{state}: {reason}"),
        None if was_orphaned => format!("{state}: forked by a process that was not followed then"),
        None if thread.tid != process.pid && !thread.was_released() => {
            format!("{state}: started by a thread that was not followed then")
        }
        None => state.to_owned(),
    })
}

fn find_notice<'a>(process: &'a Process, tid: u32, codes: &[u16]) -> Option<&'a Notice> {
    process.notices.iter().find(|one| one.tid == tid && codes.contains(&one.code))
}

/// What is missing from the counts of one process, as far as its own records tell.
fn gaps_of(process: &Process, all: &[Process], tracer: Tracer) -> Vec<String> {
    let mut gaps = Vec::new();
    let name = format!("process {} ({})", process.pid, process.comm);
    if process.end.is_none() && process.exec.is_none() {
        gaps.push(format!(
            "{name}: no record of its end (killed, or still running): counts up to its last record"
        ));
    }
    if process.left_out_bytes > 0 {
        gaps.push(format!("{name}: {} bytes of its records are damaged", process.left_out_bytes));
    }
    if process.missing_segments > 0 {
        gaps.push(format!("{name}: {} record files are missing", process.missing_segments));
    }
    let active = process.totals.known();
    let calls_asked = !active.difference(MetricSet::ENGINE).is_empty();
    if !process.is_traced() && calls_asked {
        gaps.push(HOOKS_ONLY.to_owned());
    }
    if active.is_empty() {
        gaps.push(format!("{name}: nothing was counted"));
    }
    if process.is_traced() {
        // Threads with the same reason share a line.
        let mut reasons = BTreeMap::<String, u32>::new();
        for thread in process.threads.iter().filter(|thread| is_lost(thread)) {
            let reason = unfollowed(process, thread, all, tracer).unwrap_or_default();
            *reasons.entry(reason).or_default() += 1;
        }
        for (reason, threads) in reasons {
            let consequence = if reason.starts_with("released") {
                "what it executed from there on is not counted"
            } else {
                "what it executed is not counted"
            };
            let which = match process.threads.len() {
                1 => String::new(),
                all => format!("{threads} of {all} threads "),
            };
            gaps.push(format!("{name}: {which}{reason}: {consequence}"));
        }
    }
    gaps
}

fn reason_of(pid: u32, path: &str) -> String {
    if path.is_empty() {
        return format!("child {pid}: wrote no record file, and its program is not known");
    }
    match elf::examine(OsStr::new(path), std::env::var_os("PATH").as_deref()) {
        Err(reason) => reason.to_string(),
        Ok(_) => format!(
            "{path}: wrote no record file: started without LD_PRELOAD in its environment, or ended \
             before the library began"
        ),
    }
}

/// Somebody who is told of and left no records; `still_there` is the name of its main thread if it goes on.
fn missing_tally(missing: &Missing<'_>, still_there: Option<&String>) -> Tally {
    let (pid, teller) = (missing.pid, missing.teller);
    match missing.what {
        What::Program(path) => uncounted_tally(pid, &[OsString::from(path)], reason_of(pid, path)),
        What::Forked => {
            let why = if still_there.is_some() {
                "it is still running"
            } else {
                "it was killed at once, or could not write there (another user or root folder, a limit)"
            };
            let reason = format!(
                "child {pid}, forked by process {} ({}): wrote no record file: {why}",
                teller.pid, teller.comm
            );
            let name = still_there.unwrap_or(&teller.comm);
            uncounted_tally(pid, &[OsString::from(name)], reason)
        }
    }
}

fn uncounted_tally(pid: u32, command: &[OsString], reason: String) -> Tally {
    let file = std::path::Path::new(&command[0]).file_name().unwrap_or_default();
    // As the kernel names a thread: 15 bytes.
    let comm: String = file.to_string_lossy().chars().take(15).collect();
    Tally {
        pid,
        comm,
        command_line: quote(command.iter().map(OsString::as_os_str)),
        totals: Counts::default(),
        threads: Vec::new(),
        unfollowed: Some(reason),
    }
}

/// A notice in words, to follow "process N".
fn describe(one: &Notice) -> String {
    let place = if one.tid == 0 { String::new() } else { format!(", thread {}", one.tid) };
    let words = match one.code {
        notice::THREAD_RELEASED => "released, ran uncounted from there on".to_owned(),
        notice::THREAD_NOT_FOLLOWED => "not followed".to_owned(),
        notice::MEMORY_LIMIT => format!("the memory limit of {} bytes was reached", one.a),
        notice::DISK_FULL => "the file system was full, recording stopped".to_owned(),
        notice::WRITE_FAILED => {
            let error = std::io::Error::from_raw_os_error(i32::try_from(one.a).unwrap_or(0));
            format!("a record could not be written: {error}")
        }
        notice::PROCESS_SIZE_LIMIT => {
            format!("max_bytes_per_process ({}) was reached, snapshots are sparser", one.a)
        }
        notice::DIRECTORY_SIZE_LIMIT => {
            format!("max_bytes_per_directory ({}) was reached, snapshots are sparser", one.a)
        }
        notice::TASK_DETECTION => "tasks are not detected by the preferred method".to_owned(),
        notice::VFORK_CHILD => {
            format!("child {} ran uncounted between vfork and exec", one.a)
        }
        notice::FILE_DISTURBED => "its record file was changed by somebody else".to_owned(),
        notice::ENGINE_UNAVAILABLE => "instructions are not counted".to_owned(),
        notice::TASK_LATE => "a task was noticed after its start".to_owned(),
        notice::TABLE_FULL => "a table of the shim is full".to_owned(),
        notice::PART_NOT_COUNTED => "not all of it is counted".to_owned(),
        notice::NO_SNAPSHOTS => "nothing was written while it ran".to_owned(),
        other => format!("notice {other}"),
    };
    let is_told = one.text.is_empty() || one.code == notice::VFORK_CHILD;
    let detail = if is_told { String::new() } else { format!(": {}", one.text) };
    format!("{place}: {words}{detail}")
}

/// Arguments as one would type them into a shell.
pub fn quote<'a>(arguments: impl Iterator<Item = &'a OsStr>) -> String {
    let is_plain = |char: char| char.is_alphanumeric() || "_-./:=@%+,".contains(char);
    let quoted = arguments.map(|argument| {
        let argument = argument.to_string_lossy();
        if !argument.is_empty() && argument.chars().all(is_plain) {
            argument.into_owned()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Drops repetitions, keeps the order.
fn unique(mut lines: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::commands::trace::processes::{Forked, Spawned};
    use records::Flags;
    use records::metric::{Class, INSTRUCTIONS};

    const ENDED: Ended = Ended {
        pid: 100,
        how: How::Exited(0),
        wall: Duration::from_millis(5),
        user: Duration::ZERO,
        system: Duration::ZERO,
    };

    fn counts(instructions: u64) -> Counts {
        Counts::of(&[(INSTRUCTIONS, instructions)])
    }

    fn outcome(processes: Vec<Process>, out_of_reach: Option<OutOfReach>) -> Outcome {
        let command = ["prog".into(), "a b".into()];
        let remains = Remains { processes, ..Remains::default() };
        Outcome::new(&command, Tracer::Engine, ENDED, remains, out_of_reach)
    }

    fn notice(tid: u32, code: u16, text: &str) -> Notice {
        Notice { tid, code, a: 0, b: 0, text: text.to_owned() }
    }

    #[test]
    fn two_processes_that_were_followed_to_their_end_are_complete() {
        let processes =
            vec![Process::whole(100, "prog", counts(5)), Process::whole(101, "child", counts(7))];
        let outcome = outcome(processes, None);
        assert_eq!(outcome.gaps, [""; 0]);
        assert!(outcome.is_complete());
        assert_eq!(outcome.totals.get(INSTRUCTIONS), Some(12));
        assert_eq!(outcome.starts_at.as_deref(), Some("constructor"));
        assert!(outcome.processes.iter().all(|tally| tally.unfollowed.is_none()));
    }

    #[test]
    fn a_released_thread_is_named_with_its_reason() {
        let flags = Flags::FOLLOWED | Flags::WAS_RELEASED;
        let mut process =
            Process::whole(100, "prog", counts(5)).with_thread(102, "jit", counts(1), flags);
        process.notices.push(notice(102, notice::THREAD_RELEASED, "code that changes"));
        let outcome = outcome(vec![process], None);
        let threads: Vec<_> =
            outcome.processes[0].threads.iter().map(|one| one.unfollowed.as_deref()).collect();
        assert_eq!(threads, [None, Some("released: code that changes")]);
        assert!(!outcome.is_complete());
        assert_eq!(
            outcome.gaps,
            ["process 100 (prog): 1 of 2 threads released: code that changes: what it executed \
                 from there on is not counted",]
        );
    }

    #[test]
    fn children_that_left_no_records_are_named() {
        let mut process = Process::whole(100, "prog", counts(5));
        process.spawned = vec![
            Spawned { pid: 101, path: "/no/such/program".to_owned(), mono_ns: 0 },
            Spawned { pid: 102, path: "/bin/true".to_owned(), mono_ns: 0 },
        ];
        let outcome = outcome(vec![process, Process::whole(102, "true", counts(1))], None);
        let names: Vec<_> = outcome
            .processes
            .iter()
            .map(|tally| (tally.pid, tally.comm.as_str(), tally.unfollowed.as_deref()))
            .collect();
        assert_eq!(
            names,
            [
                (100, "prog", None),
                (102, "true", None),
                (101, "program", Some("/no/such/program: not found")),
            ]
        );
        assert_eq!(outcome.gaps, ["not counted: /no/such/program: not found"]);
        assert_eq!(outcome.processes[2].totals, Counts::default());
    }

    #[test]
    fn a_child_that_goes_on_without_records_is_named() {
        let silent = [(101, "program"), (103, "daemon")].map(|(pid, name)| (pid, name.to_owned()));
        let mut process = Process::whole(100, "prog", counts(5));
        let path = "/no/such/program".to_owned();
        process.spawned = vec![Spawned { pid: 101, path, mono_ns: 0 }];
        let remains =
            Remains { processes: vec![process], silent: silent.into(), ..Remains::default() };
        let outcome = Outcome::new(&["prog".into()], Tracer::Engine, ENDED, remains, None);
        let pids: Vec<_> = outcome.processes.iter().map(|tally| tally.pid).collect();
        assert_eq!(pids, [100, 101, 103], "who is told of by its parent is named once");
        let gap = "not counted: child 103 (daemon): still running, wrote no record file";
        assert_eq!(outcome.gaps, ["not counted: /no/such/program: not found", gap]);
    }

    #[test]
    fn an_exec_into_a_program_without_records_is_named() {
        let mut process = Process::whole(100, "env", counts(5));
        process.end = None;
        process.exec = Some("/bin/true".to_owned());
        let outcome = outcome(vec![process], None);
        assert_eq!(outcome.processes[1].pid, 100);
        assert_eq!(outcome.gaps.len(), 1);
        assert!(outcome.gaps[0].contains("/bin/true: wrote no record file"), "{:?}", outcome.gaps);
    }

    #[test]
    fn a_program_out_of_reach_has_no_counts_and_its_reason() {
        let reason = OutOfReach::Static { path: "/x/prog".into() };
        let outcome = outcome(Vec::new(), Some(reason));
        assert_eq!(outcome.totals, Counts::default());
        assert_eq!(outcome.starts_at, None);
        assert_eq!(outcome.processes[0].command_line, "prog 'a b'");
        assert!(outcome.gaps[0].starts_with("not counted: /x/prog: is statically linked"));
        assert!(!outcome.is_complete());
    }

    #[test]
    fn a_killed_process_is_a_gap() {
        let mut process = Process::whole(100, "prog", counts(5));
        process.end = None;
        process.left_out_bytes = 256;
        let gaps = outcome(vec![process], None).gaps;
        assert_eq!(gaps.len(), 2);
        assert!(gaps[0].starts_with("process 100 (prog): no record of its end"), "{gaps:?}");
        assert_eq!(gaps[1], "process 100 (prog): 256 bytes of its records are damaged");
    }

    #[test]
    fn remarks_that_lose_nothing_leave_it_complete() {
        let mut process = Process::whole(100, "prog", counts(5));
        process.notices.push(notice(0, notice::PROCESS_SIZE_LIMIT, ""));
        let outcome = outcome(vec![process], None);
        assert!(outcome.is_complete());
        assert_eq!(
            outcome.notices,
            ["process 100: max_bytes_per_process (0) was reached, snapshots are sparser"]
        );
    }

    #[test]
    fn a_remark_that_nobody_knows_may_be_a_loss() {
        let mut process = Process::whole(100, "prog", counts(5));
        process.notices.push(notice(0, 9999, "from the future"));
        let gaps = outcome(vec![process], None).gaps;
        assert_eq!(gaps, ["process 100: notice 9999: from the future"]);
    }

    #[test]
    fn a_static_program_is_a_gap_although_it_executed_one_that_is_counted() {
        let counted = || vec![Process::whole(100, "prog", counts(5))];
        let reason = OutOfReach::Static { path: "/x/prog".into() };
        let gaps = outcome(counted(), Some(reason)).gaps;
        assert!(gaps[0].starts_with("not counted: /x/prog: is statically linked"), "{gaps:?}");
        let path = "/x/prog".into();
        let reason = OutOfReach::Unreadable { path, why: "no permission".to_owned() };
        assert!(outcome(counted(), Some(reason)).is_complete());
    }

    #[test]
    fn a_process_of_which_nothing_is_known_is_a_gap() {
        let gaps = outcome(vec![Process::whole(100, "prog", Counts::default())], None).gaps;
        assert_eq!(gaps, ["process 100 (prog): nothing was counted"]);
    }

    #[test]
    fn a_thread_that_was_let_go_is_a_gap_whatever_is_counted() {
        let reads = Counts::of(&[(Class::File.first(), 5)]);
        let process = Process::whole(100, "prog", reads.clone()).with_thread(
            102,
            "worker",
            reads,
            Flags::WAS_RELEASED,
        );
        let gaps = outcome(vec![process], None).gaps;
        assert!(gaps[0].starts_with("process 100 (prog): 1 of 2 threads released"), "{gaps:?}");
    }

    #[test]
    fn a_forked_child_without_records_is_named_with_its_parent() {
        let mut process = Process::whole(100, "prog", counts(5));
        process.forked = vec![Forked { pid: 101, number: 1 }, Forked { pid: 102, number: 2 }];
        let silent = BTreeMap::from([(102, "worker".to_owned())]);
        let remains = Remains { processes: vec![process], silent, ..Remains::default() };
        let outcome = Outcome::new(&["prog".into()], Tracer::Engine, ENDED, remains, None);
        let names: Vec<_> =
            outcome.processes.iter().map(|tally| (tally.pid, tally.comm.as_str())).collect();
        assert_eq!(names, [(100, "prog"), (101, "prog"), (102, "worker")]);
        let [first, second] = &outcome.gaps[..] else { panic!("{:?}", outcome.gaps) };
        let start =
            "not counted: child 101, forked by process 100 (prog): wrote no record file: it was";
        assert!(first.starts_with(start), "{first}");
        assert!(second.ends_with("it is still running"), "{second}");
    }

    #[test]
    fn command_lines_can_be_typed_into_a_shell() {
        let words = ["a", "b c", "it's", ""].map(OsStr::new);
        assert_eq!(quote(words.into_iter()), r"a 'b c' 'it'\''s' ''");
    }
}
