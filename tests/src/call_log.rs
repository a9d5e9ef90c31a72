//! The calls of a program's own threads as `strace -f` saw them, natively and counted, and what differs.
//!
//! Calls are compared by name. Tasks (processes and threads) are put side by side in the order in which they were made;
//! a task that only the counted run has is nobody's of the program, and is passed over. What made it is not.

use std::collections::{BTreeMap, HashMap};

/// A process or thread, as long as it executes one program.
#[derive(Debug, Default, Clone)]
pub struct Task {
    /// Its calls in order; `execve` begins a new task in `next`.
    pub calls: Vec<String>,
    /// Tasks that it made.
    pub children: Vec<Task>,
    /// The program that it executes then.
    pub next: Option<Box<Task>>,
    /// The first word of each child's making: `thread` or `process`.
    pub is_thread: bool,
}

impl Task {
    /// How many processes were made, this one among them.
    pub fn processes(&self) -> usize {
        let children: usize = self.children.iter().map(Self::processes).sum();
        let next =
            self.next.as_deref().map_or(0, |next| next.processes() - usize::from(!next.is_thread));
        usize::from(!self.is_thread) + children + next
    }
}

/// Where in a life a call lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// While the program is loaded, and the library's constructor.
    Start,
    /// At the beginning of a thread or of a forked child.
    Child,
    /// Beside a call that makes a process or thread.
    Making,
    /// Before the last call: an exit, or an execve.
    End,
    /// In the midst of it.
    Middle,
}

/// A call that one of the two logs has alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Where.
    pub phase: Phase,
    /// Its name.
    pub call: String,
    /// The counted run has it, not the native one.
    pub is_more: bool,
}

/// How often each difference was seen.
pub type Differences = BTreeMap<Difference, usize>;

const MAKERS: [&str; 4] = ["clone", "clone3", "fork", "vfork"];

/// Reads a log of `strace -f -o`; the task that begins with the `execve` of `program`.
pub fn read(text: &str, program: &str) -> Option<Task> {
    let mut reader = Reader::default();
    let mut root = None;
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let Ok(pid) = pid.parse::<u32>() else { continue };
        let rest = rest.trim_start();
        // strace -n writes the number in front.
        let rest = rest
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "))
            .map_or(rest, |(_, rest)| rest);
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((name, end)) = resumed.split_once(" resumed>") else { continue };
            let start = reader.unfinished.remove(&pid).unwrap_or_default();
            reader.finished(pid, name, &(start + end));
            continue;
        }
        let Some((name, _)) = rest.split_once('(') else { continue };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            continue;
        }
        reader.logs.entry(pid).or_default().push(Entry::Call(name.to_owned()));
        if name == "execve" && root.is_none() && rest.starts_with(&format!("execve(\"{program}\""))
        {
            root = Some(pid);
            // What the process did before was somebody else's.
            reader.logs.insert(pid, vec![Entry::Call(name.to_owned())]);
        }
        match rest.strip_suffix("<unfinished ...>") {
            Some(start) => drop(reader.unfinished.insert(pid, start.to_owned())),
            None => reader.finished(pid, name, rest),
        }
    }
    let mut logs = reader.logs;
    Some(task(root?, &mut logs, false))
}

#[derive(Debug, Clone)]
enum Entry {
    Call(String),
    Made { pid: u32, is_thread: bool },
    Executed,
}

#[derive(Default)]
struct Reader {
    logs: HashMap<u32, Vec<Entry>>,
    unfinished: HashMap<u32, String>,
}

impl Reader {
    fn finished(&mut self, pid: u32, name: &str, text: &str) {
        let Some((_, result)) = text.rsplit_once(" = ") else { return };
        let result: Option<u32> = result.split(' ').next().and_then(|word| word.parse().ok());
        let log = self.logs.entry(pid).or_default();
        if MAKERS.contains(&name) {
            if let Some(child) = result.filter(|&child| child > 0) {
                log.push(Entry::Made { pid: child, is_thread: text.contains("CLONE_THREAD") });
            }
        } else if name.starts_with("execve") && result == Some(0) {
            log.push(Entry::Executed);
        }
    }
}

fn task(pid: u32, logs: &mut HashMap<u32, Vec<Entry>>, is_thread: bool) -> Task {
    let entries = logs.remove(&pid).unwrap_or_default();
    let mut images = vec![Task { is_thread, ..Task::default() }];
    for entry in entries {
        let image = images.last_mut().expect("one at least");
        match entry {
            Entry::Call(name) => image.calls.push(name),
            Entry::Made { pid, is_thread } => image.children.push(task(pid, logs, is_thread)),
            Entry::Executed => images.push(Task::default()),
        }
    }
    let chain =
        images.into_iter().rev().reduce(|next, image| Task { next: Some(Box::new(next)), ..image });
    chain.expect("one at least")
}

/// Everything in which two lives differ, calls of `ignored` names left out.
pub fn differences(native: &Task, counted: &Task, ignored: &[&str]) -> Differences {
    let mut found = Differences::new();
    compare(native, counted, ignored, &mut found);
    found
}

fn compare(native: &Task, counted: &Task, ignored: &[&str], found: &mut Differences) {
    // In how many pieces a pipe is read depends on who writes when: reads in a row are one.
    let kept = |task: &Task| -> Vec<String> {
        let mut calls = task.calls.clone();
        calls.retain(|call| !ignored.contains(&call.as_str()));
        calls.dedup_by(|next, call| next == "read" && call == "read");
        calls
    };
    let (one, other) = (kept(native), kept(counted));
    let loaded = end_of_loading(&one);
    for (at, call, is_more) in edits(&one, &other) {
        let phase = phase(native, &one, loaded, at);
        *found.entry(Difference { phase, call, is_more }).or_default() += 1;
    }
    for (one, other) in pairs(&native.children, &counted.children) {
        compare(one, other, ignored, found);
    }
    match (&native.next, &counted.next) {
        (Some(one), Some(other)) => compare(one, other, ignored, found),
        (None, None) => {}
        (one, _) => {
            let difference = Difference {
                phase: Phase::End,
                call: "a whole program".to_owned(),
                is_more: one.is_none(),
            };
            *found.entry(difference).or_default() += 1;
        }
    }
}

/// Behind the dynamic loader's last call, the munmap of its cache; 0 where there is none.
fn end_of_loading(calls: &[String]) -> usize {
    let limits = calls.iter().position(|call| call == "prlimit64" || call == "set_robust_list");
    let Some(limits) = limits else { return 0 };
    calls[limits..]
        .iter()
        .position(|call| call == "munmap")
        .map_or(limits + 1, |at| limits + at + 1)
}

fn phase(task: &Task, calls: &[String], loaded: usize, at: usize) -> Phase {
    let is_maker = |at: usize| calls.get(at).is_some_and(|call| MAKERS.contains(&call.as_str()));
    if loaded > 0 && at <= loaded {
        Phase::Start
    } else if at == 0 && (loaded == 0 || task.is_thread) {
        Phase::Child
    } else if at + 1 >= calls.len() {
        Phase::End
    } else if is_maker(at) || at > 0 && is_maker(at - 1) {
        Phase::Making
    } else {
        Phase::Middle
    }
}

/// The steps from one list to the other by a longest common subsequence: the place in the first, the call, and whether the
/// second has it more. Of equal ways the one that puts steps as early as it can: what a constructor does stands before the
/// program's own calls.
fn edits(one: &[String], other: &[String]) -> Vec<(usize, String, bool)> {
    let (n, m) = (one.len(), other.len());
    // Length of the longest common part of the beginnings.
    let mut common = vec![0u32; (n + 1) * (m + 1)];
    for i in 1..=n {
        for j in 1..=m {
            common[i * (m + 1) + j] = if one[i - 1] == other[j - 1] {
                common[(i - 1) * (m + 1) + j - 1] + 1
            } else {
                common[(i - 1) * (m + 1) + j].max(common[i * (m + 1) + j - 1])
            };
        }
    }
    let (mut i, mut j, mut steps) = (n, m, Vec::new());
    while i > 0 || j > 0 {
        if i > 0 && j > 0 && one[i - 1] == other[j - 1] {
            (i, j) = (i - 1, j - 1);
        } else if j > 0 && (i == 0 || common[i * (m + 1) + j - 1] >= common[(i - 1) * (m + 1) + j])
        {
            j -= 1;
            steps.push((i, other[j].clone(), true));
        } else {
            i -= 1;
            steps.push((i, one[i].clone(), false));
        }
    }
    steps.reverse();
    steps
}

/// Which of the counted run's children are which of the native one's: in order, those left out that fit least.
fn pairs<'a>(native: &'a [Task], counted: &'a [Task]) -> Vec<(&'a Task, &'a Task)> {
    let (n, m) = (native.len(), counted.len());
    if n > m {
        return native.iter().zip(counted).collect();
    }
    let cost = |i: usize, j: usize| {
        let whole = |task: &Task| -> Vec<String> {
            let mut calls = task.calls.clone();
            let mut next = &task.next;
            while let Some(task) = next {
                calls.extend(task.calls.iter().cloned());
                next = &task.next;
            }
            calls
        };
        // What is missing weighs most: a counted task has the native one's calls, and some more.
        edits(&whole(&native[i]), &whole(&counted[j]))
            .iter()
            .map(|(_, _, is_more)| if *is_more { 1 } else { 1000 })
            .sum::<usize>()
    };
    // best[i][j]: of the first i native ones within the first j counted ones.
    let mut best = vec![vec![usize::MAX / 2; m + 1]; n + 1];
    best[0].fill(0);
    let mut costs = vec![vec![0; m]; n];
    for i in 1..=n {
        for j in i..=m - (n - i) {
            costs[i - 1][j - 1] = cost(i - 1, j - 1);
            best[i][j] = best[i][j - 1].min(best[i - 1][j - 1] + costs[i - 1][j - 1]);
        }
    }
    let (mut i, mut j, mut found) = (n, m, Vec::new());
    while i > 0 {
        if j > i && best[i][j] == best[i][j - 1] {
            j -= 1;
        } else {
            found.push((&native[i - 1], &counted[j - 1]));
            (i, j) = (i - 1, j - 1);
        }
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: &str = "\
10 execve(\"/bin/x\", [\"x\"], 0x0) = 0
10 set_robust_list(0x1, 24) = 0
10 munmap(0x1, 2) = 0
10 clone3({flags=CLONE_VM|CLONE_THREAD}, 88 <unfinished ...>
11 getpid( <unfinished ...>
10 <... clone3 resumed> => {parent_tid=[11]}, 88) = 11
11 <... getpid resumed>) = 10
11 exit(0) = ?
11 +++ exited with 0 +++
10 clone(child_stack=NULL, flags=SIGCHLD) = 12
12 execve(\"/bin/y\", [\"y\"], 0x0) = 0
12 exit_group(0) = ?
10 wait4(-1, NULL, 0, NULL) = 12
10 exit_group(0) = ?
";

    #[test]
    fn a_log_differs_from_itself_in_nothing() {
        let task = read(NATIVE, "/bin/x").expect("the program");
        assert_eq!(task.calls, ["execve"]);
        let image = task.next.as_deref().expect("executed");
        assert_eq!((image.children.len(), task.processes()), (2, 2));
        assert!(image.children[0].is_thread && !image.children[1].is_thread);
        assert!(differences(&task, &task, &[]).is_empty());
    }

    #[test]
    fn a_pipe_may_be_read_in_more_pieces() {
        let reads = |times: usize| {
            let reads = "12 read(0, \"x\", 9) = 1\n".repeat(times);
            let text = NATIVE.replace("12 exit_group", &format!("{reads}12 exit_group"));
            read(&text, "/bin/x").expect("the program")
        };
        assert!(differences(&reads(2), &reads(7), &[]).is_empty());
        assert_eq!(differences(&reads(0), &reads(2), &[]).len(), 1);
    }

    #[test]
    fn more_calls_and_more_tasks_are_found() {
        let counted = NATIVE
            .replace("10 munmap(0x1, 2) = 0\n", "10 munmap(0x1, 2) = 0\n10 clone(flags=CLONE_VM) = 99\n99 nanosleep(1) = 0\n99 ppoll(1) = 0\n")
            .replace("10 wait4(", "10 gettid() = 10\n10 wait4(");
        let (native, counted) =
            (read(NATIVE, "/bin/x").expect("one"), read(&counted, "/bin/x").expect("other"));
        let found: Vec<_> = differences(&native, &counted, &[]).into_keys().collect();
        let more = |phase, call: &str| Difference { phase, call: call.to_owned(), is_more: true };
        assert_eq!(found, [more(Phase::Start, "clone"), more(Phase::Making, "gettid")]);
        assert!(differences(&native, &counted, &["clone", "gettid"]).is_empty());
    }
}
