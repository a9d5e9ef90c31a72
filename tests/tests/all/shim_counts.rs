//! What the hooks count, call by call: against a table made by hand, and against strace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::artifacts::{self, Artifacts};
use tests::preloaded::{Process, compile, counted, processes, shown};
use tests::skip::skip;

/// What `tests/shim/calls.c` does: class and family, then calls, bytes, errors.
const EXPECTED: [(&str, u64, u64, u64); 17] = [
    ("file_open", 5, 0, 1),
    ("file_close", 4, 0, 0),
    ("file_read", 11, 279, 1),
    ("file_write", 7, 307, 0),
    ("pipe_read", 3, 40, 0),
    ("pipe_write", 3, 40, 0),
    ("pipe_close", 2, 0, 0),
    ("socket_send", 4, 113, 0),
    ("socket_write", 3, 42, 0),
    ("socket_recv", 5, 113, 1),
    ("socket_read", 3, 42, 0),
    ("socket_close", 3, 0, 0),
    ("other_write", 1, 8, 0),
    ("other_read", 2, 8, 1),
    ("other_close", 3, 0, 1),
    ("pipe_open", 0, 0, 0),
    ("other_open", 0, 0, 0),
];

type Counts = BTreeMap<String, (u64, u64, u64)>;

/// The nonzero rows of the table whose name passes.
fn expected(passes: impl Fn(&str) -> bool) -> Counts {
    EXPECTED
        .iter()
        .filter(|(name, calls, ..)| *calls > 0 && passes(name))
        .map(|(name, calls, bytes, errors)| ((*name).to_owned(), (*calls, *bytes, *errors)))
        .collect()
}

/// A process's totals in the table's form.
fn counts(process: &Process) -> Counts {
    let mut counts = Counts::new();
    for (metric, value) in &process.totals {
        let (name, quantity) = metric.rsplit_once('_').expect("class_family_quantity");
        if quantity == "ns" {
            continue;
        }
        let row = counts.entry(name.to_owned()).or_default();
        match quantity {
            "calls" => row.0 = *value,
            "bytes" => row.1 = *value,
            _ => row.2 = *value,
        }
    }
    counts
}

struct Place {
    _directory: tempfile::TempDir,
    program: PathBuf,
    work: PathBuf,
    records: PathBuf,
}

fn place(compiler: &str) -> Place {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().canonicalize().expect("a path");
    let (work, records) = (root.join("work"), root.join("records"));
    std::fs::create_dir(&work).expect("a directory");
    std::fs::create_dir(&records).expect("a directory");
    let program = compile(compiler, "calls.c", &root, &[]);
    Place { _directory: directory, program, work, records }
}

fn run(artifacts: &Artifacts, place: &Place, environment: &[(&str, &str)]) -> Process {
    let output = counted(artifacts, &place.program, &place.records)
        .arg(&place.work)
        .envs(environment.iter().copied())
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(output.stderr, b"", "{}", shown(&output));
    let mut all = processes(&place.records);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn every_hook_counts_to_the_unit() {
    let Some(artifacts) = artifacts::need("every_hook_counts") else { return };
    let process = run(&artifacts, &place("gcc"), &[]);
    assert_eq!(counts(&process), expected(|_| true));
    assert!(process.total("file_write_ns") > 0 && process.total("socket_recv_ns") > 0);
}

#[test]
fn the_same_under_musl() {
    let Some(artifacts) = artifacts::need("musl") else { return };
    if Command::new("musl-gcc").arg("--version").output().is_err() {
        return skip("the_same_under_musl", "no musl-gcc: apt-get install musl-tools");
    }
    let process = run(&artifacts, &place("musl-gcc"), &[]);
    assert_eq!(counts(&process), expected(|_| true));
    assert!(process.ended);
}

#[test]
fn classes_can_be_switched_off() {
    let Some(artifacts) = artifacts::need("classes") else { return };
    let environment = [("SPARKANALYZER_SYSCALL_CLASSES", "pipe,socket")];
    let process = run(&artifacts, &place("gcc"), &environment);
    assert_eq!(
        counts(&process),
        expected(|name| name.starts_with("pipe") || name.starts_with("socket"))
    );
    let environment = [("SPARKANALYZER_METRICS", "instructions")];
    let process = run(&artifacts, &place("gcc"), &environment);
    assert_eq!(counts(&process), Counts::new());
}

#[test]
fn only_files_below_the_chosen_directories() {
    let Some(artifacts) = artifacts::need("directories") else { return };
    let place = place("gcc");
    let chosen = place.work.to_str().expect("text").to_owned() + "/";
    let process = run(&artifacts, &place, &[("SPARKANALYZER_DIRECTORIES", &chosen)]);
    let mut wanted = expected(|_| true);
    // Without /dev/null, and without the relative path that could not be opened.
    wanted.insert("file_open".into(), (3, 0, 0));
    wanted.insert("file_close".into(), (3, 0, 0));
    wanted.insert("file_read".into(), (10, 279, 1));
    wanted.insert("file_write".into(), (6, 300, 0));
    assert_eq!(counts(&process), wanted);
}

#[test]
fn the_same_as_strace_saw() {
    let Some(artifacts) = artifacts::need("strace") else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("the_same_as_strace_saw", "no strace: apt-get install strace");
    }
    let place = place("gcc");
    let log = place.records.with_file_name("strace.log");
    let output = Command::new("strace")
        .args(["-yy", "-o"])
        .arg(&log)
        .arg(&place.program)
        .arg(&place.work)
        .output()
        .expect("starts");
    if !output.status.success() {
        return skip("the_same_as_strace_saw", &format!("strace cannot trace: {}", shown(&output)));
    }
    let process = run(&artifacts, &place, &[]);
    assert_eq!(counts(&process), strace_counts(&log));
}

/// The counts in strace's log, between the markers of `calls.c`.
fn strace_counts(log: &Path) -> Counts {
    let text = std::fs::read_to_string(log).expect("strace's log");
    let mut counts = Counts::new();
    let between = text
        .lines()
        .skip_while(|line| !line.contains("/marker/begin"))
        .take_while(|line| !line.contains("/marker/end"));
    for line in between {
        let Some((name, rest)) = line.split_once('(') else { continue };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else { continue };
        let value: i64 =
            result.split([' ', '<']).next().and_then(|word| word.parse().ok()).unwrap_or(-1);
        let (failed, bytes) = (u64::from(value < 0), value.max(0) as u64);
        let mut add = |class: &str, family: &str, bytes: u64| {
            let row = counts.entry(format!("{class}_{family}")).or_default();
            row.0 += 1;
            row.1 += bytes;
            row.2 += failed;
        };
        let words: Vec<&str> = arguments.split(", ").collect();
        match name {
            "open" | "openat" | "creat" => {
                add(if value < 0 { "file" } else { class_of(result) }, "open", 0);
            }
            "close" => add(class_of(arguments), "close", 0),
            "read" | "pread64" | "readv" | "preadv" | "preadv2" => {
                add(class_of(words[0]), "read", bytes);
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => {
                add(class_of(words[0]), "write", bytes);
            }
            "sendto" | "sendmsg" => add(class_of(words[0]), "send", bytes),
            "recvfrom" | "recvmsg" => add(class_of(words[0]), "recv", bytes),
            "sendmmsg" => add(class_of(words[0]), "send", message_bytes(arguments)),
            "recvmmsg" => add(class_of(words[0]), "recv", message_bytes(arguments)),
            "sendfile" => {
                add(class_of(words[1]), "read", bytes);
                add(class_of(words[0]), "write", bytes);
            }
            "splice" | "copy_file_range" => {
                add(class_of(words[0]), "read", bytes);
                add(class_of(words[2]), "write", bytes);
            }
            _ => {}
        }
    }
    counts
}

/// The class by what strace -yy shows behind a descriptor's number.
fn class_of(descriptor: &str) -> &'static str {
    match descriptor.split_once('<').map(|(_, shown)| shown) {
        Some(shown) if shown.starts_with("pipe:") => "pipe",
        Some(shown) if shown.starts_with("UNIX") || shown.starts_with("socket:") => "socket",
        Some(shown) if shown.starts_with('/') => "file",
        _ => "other",
    }
}

fn message_bytes(arguments: &str) -> u64 {
    arguments
        .split("msg_len=")
        .skip(1)
        .filter_map(|rest| rest.split(['}', ',']).next()?.parse::<u64>().ok())
        .sum()
}
