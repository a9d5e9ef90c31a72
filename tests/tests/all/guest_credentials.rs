//! Who gives up rights has given them up: no task of the process, and no process that shares its memory, keeps a right
//! that the program itself has no longer. Every call that changes rights is made, natively and counted, and /proc is
//! read in between.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::artifacts::{self, Artifacts};
use tests::guest::{self, ANY, Failures, Guest, Known, compare};
use tests::skip::skip;

/// Calls of `tests/guest/credentials.c`.
const CALLS: &[&str] = &[
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "seteuid",
    "setegid",
    "setgroups",
    "no_groups",
    "setfsuid",
    "setfsgid",
    "raw_setuid",
    "raw_setgid",
    "raw_setresuid",
    "raw_setresgid",
    "raw_setreuid",
    "raw_setregid",
    "raw_setgroups",
    "raw_setfsuid",
    "raw_setfsgid",
    "capset_none",
    "capset_effective",
    "capset_one",
    "capset_inheritable",
    "ambient",
    "capbset_drop_all",
    "capbset_drop",
    "securebits",
    "keepcaps",
    "no_new_privs",
    "wide_no_new_privs",
    "filter",
    "filter_tsync",
    "two_filters",
    "all",
];

/// Lines of a task's status that say what it may do.
const RIGHTS: [&str; 11] = [
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
];

/// Between two snapshots: whoever takes them has woken up after some of these.
const INTERVAL: Duration = Duration::from_millis(100);

type Rights = BTreeMap<String, String>;

fn rights_of(status: &str) -> Option<Rights> {
    let text = std::fs::read_to_string(status).ok()?;
    let lines = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        RIGHTS
            .contains(&name)
            .then(|| (name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
    });
    Some(lines.collect())
}

/// The tasks of a process in the order of their numbers.
fn tasks(pid: u32) -> Vec<Rights> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.iter().filter_map(|tid| rights_of(&format!("/proc/{pid}/task/{tid}/status"))).collect()
}

/// Whether two processes have one memory, by kcmp(2).
fn share_memory(one: u32, other: u32) -> bool {
    const KCMP_VM: libc::c_long = 1;
    // SAFETY: the call compares two processes by number and has no memory arguments.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) };
    if result >= 0 {
        return result == 0;
    }
    // A kernel without kcmp: two memories with the same random addresses are one.
    let random_addresses =
        |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let maps = random_addresses(one);
    !maps.is_empty() && maps == random_addresses(other)
}

/// Processes beside `pid` that have its memory.
fn sharers(pid: u32) -> Vec<u32> {
    let all = guest::processes().into_iter().map(|process| process.pid);
    all.filter(|&other| other != pid && share_memory(pid, other)).collect()
}

/// Rights that `of` has and no one of `tasks`: the names of the lines.
fn excess(of: &Rights, tasks: &[Rights]) -> Vec<String> {
    let number = |rights: &Rights, name: &str, radix: u32| {
        rights.get(name).and_then(|value| u64::from_str_radix(value, radix).ok()).unwrap_or(0)
    };
    RIGHTS
        .into_iter()
        .filter(|&name| match name {
            "Uid" | "Gid" => {
                // Real, effective, saved, of the file system: each must be one that a task has there.
                let words = |rights: &Rights| -> Vec<String> {
                    rights
                        .get(name)
                        .map(|line| line.split(' ').map(str::to_owned).collect())
                        .unwrap_or_default()
                };
                words(of)
                    .iter()
                    .enumerate()
                    .any(|(i, word)| tasks.iter().all(|task| words(task).get(i) != Some(word)))
            }
            "Groups" => {
                let groups = |rights: &Rights| rights.get(name).cloned().unwrap_or_default();
                let has = |group: &str| {
                    tasks.iter().any(|task| groups(task).split(' ').any(|one| one == group))
                };
                groups(of).split(' ').filter(|group| !group.is_empty()).any(|group| !has(group))
            }
            "NoNewPrivs" | "Seccomp" | "Seccomp_filters" => {
                tasks.iter().all(|task| number(task, name, 10) > number(of, name, 10))
            }
            _ => {
                let union = tasks.iter().fold(0, |bits, task| bits | number(task, name, 16));
                number(of, name, 16) & !union != 0
            }
        })
        .map(|name| format!("{name} {}", of.get(name).map_or("", String::as_str)))
        .collect()
}

/// What is seen of the program while it waits: its tasks, and the processes that share its memory.
struct Moment {
    tasks: Vec<Rights>,
    sharers: Vec<(u32, Vec<Rights>)>,
}

/// Starts the command, whose own child or self runs `credentials`, and looks at it twice.
fn look(
    mut command: Command,
    call: &str,
    directory: &std::path::Path,
) -> Result<Vec<Moment>, String> {
    guest::in_session(&mut command);
    let stderr = std::fs::File::create(directory.join("stderr")).expect("a file");
    command.current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().expect("starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("reads");
    let mut moments = Vec::new();
    let complaint = if line == "ready\n" {
        // Its own number: of the session, the one that runs the program.
        let session = child.id();
        let is_it = |pid: u32| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| {
                let mut words = words.split(|&byte| byte == 0);
                words.next().is_some_and(|word| word.ends_with(b"/credentials"))
            })
        };
        let leader = |pid: u32| guest::processes().into_iter().find(|process| process.pid == pid);
        let candidates: Vec<u32> = guest::processes()
            .into_iter()
            .filter(|process| process.session == session && is_it(process.pid))
            .map(|process| process.pid)
            .collect();
        // A helper that shares the memory has the same command line: the program is the child of the analyzer, or the leader.
        let pid = candidates.iter().copied().find(|&pid| {
            pid == session || leader(pid).is_some_and(|process| process.parent == session)
        });
        match pid {
            None => Some(format!("no process runs it: {candidates:?}")),
            Some(pid) => {
                // At once, and after whoever works behind the scenes has woken up.
                for pause in [Duration::ZERO, 4 * INTERVAL] {
                    std::thread::sleep(pause);
                    let sharers = sharers(pid).into_iter().map(|pid| (pid, tasks(pid))).collect();
                    moments.push(Moment { tasks: tasks(pid), sharers });
                }
                None
            }
        }
    } else {
        Some(format!("said {line:?}"))
    };
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(b"go on\n");
    }
    line.clear();
    out.read_line(&mut line).expect("reads");
    let end = guest::wait(&mut child, guest::LIMIT);
    let stderr = std::fs::read_to_string(directory.join("stderr")).unwrap_or_default();
    match complaint {
        Some(complaint) => {
            Err(format!("{call}: {complaint}, {end:?}, {}", &stderr[..stderr.len().min(500)]))
        }
        None if line != "done\n" || end != guest::End::Code(0) => {
            Err(format!("{call}: ended {end:?} after {line:?}"))
        }
        None => Ok(moments),
    }
}

fn compare_rights(artifacts: &Artifacts, call: &str) -> Result<(), String> {
    let mut guest = Guest::words(&format!("credentials {call}"));
    guest.options = vec!["--snapshot-interval".to_owned(), INTERVAL.as_millis().to_string()];
    let (one, other) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mut native = Command::new(&guest.command[0]);
    native.args(&guest.command[1..]);
    let native = look(native, call, one.path()).map_err(|error| format!("natively: {error}"))?;
    let traced = look(guest.trace_command(artifacts, other.path()), call, other.path())?;
    let mut wrong = Vec::new();
    for (when, (native, traced)) in ["at once", "later"].into_iter().zip(native.iter().zip(&traced))
    {
        if native.tasks.len() != traced.tasks.len() {
            wrong.push(format!(
                "{when}: {} tasks, natively {}",
                traced.tasks.len(),
                native.tasks.len()
            ));
        }
        for (i, task) in traced.tasks.iter().enumerate() {
            let too_much = excess(task, &native.tasks);
            if !too_much.is_empty() {
                wrong.push(format!("{when}: task {i} keeps {too_much:?}"));
            }
        }
        if native.tasks.len() == traced.tasks.len() && native.tasks != traced.tasks {
            wrong.push(format!(
                "{when}: other rights than natively: {:?}, natively {:?}",
                traced.tasks, native.tasks
            ));
        }
        for (pid, tasks) in &traced.sharers {
            for task in tasks {
                let too_much = excess(task, &native.tasks);
                if !too_much.is_empty() {
                    wrong.push(format!(
                        "{when}: process {pid} shares the memory and keeps {too_much:?}"
                    ));
                }
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n    ")) }
}

#[test]
fn whoever_gives_up_rights_has_given_them_up() {
    const TEST: &str = "whoever_gives_up_rights_has_given_them_up";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !guest::is_root() {
        return skip(TEST, "needs root, to give it up");
    }
    let mut failures = Failures::default();
    for call in CALLS {
        failures.add(call, compare_rights(&artifacts, call));
    }
    failures.finish();
}

/// The same by one thread of four: the kernel changes that thread alone where the call is raw.
#[test]
fn rights_given_up_by_a_thread() {
    const TEST: &str = "rights_given_up_by_a_thread";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !guest::is_root() {
        return skip(TEST, "needs root, to give it up");
    }
    let mut failures = Failures::default();
    for call in [
        "setuid",
        "setgroups",
        "raw_setuid",
        "raw_setresgid",
        "raw_setgroups",
        "capset_none",
        "no_new_privs",
        "filter",
        "filter_tsync",
        "capbset_drop_all",
        "all",
    ] {
        let call = format!("{call}+threads");
        failures.add(&call, compare_rights(&artifacts, &call));
    }
    failures.finish();
}

/// A root-owned folder stays closed to who gave up root, and its records are there or missed aloud.
#[test]
fn children_of_who_dropped_privileges() {
    const TEST: &str = "children_of_who_dropped_privileges";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !guest::is_root() {
        return skip(TEST, "needs root, to give it up");
    }
    let closed = tempfile::tempdir().expect("a directory");
    let path = closed.path().join("made-by-nobody");
    let path = path.to_str().expect("UTF-8");
    let mut failures = Failures::default();
    let cases: [(&str, Known); 2] =
        [("drop_privileges_fork", ANY.processes(4)), ("credentials_child", ANY.processes(2))];
    for (program, known) in cases {
        let guest = Guest::new(&guest::compile(program), &[path]);
        failures.add(program, compare(&artifacts, &guest, known));
    }
    failures.finish();
}
