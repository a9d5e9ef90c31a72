//! A followed thread makes no system call that the program did not make, but for the documented ones: `strace -f` of
//! programs natively and counted shows the same calls on the program's own threads.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::artifacts::{self, Artifacts};
use tests::call_log::{self, Differences, Phase, Task};
use tests::guest::{self, End, Failures, Guest};
use tests::skip::skip;

/// What a counted run's threads may call besides, where, and why it cannot be otherwise.
const DOCUMENTED: &[(Phase, &str, &str)] = &[
    (Phase::Start, "openat", "the dynamic loader opens the library"),
    (Phase::Start, "read", "the dynamic loader reads the library's head"),
    (Phase::Start, "fstat", "the dynamic loader looks at the library"),
    (Phase::Start, "newfstatat", "the dynamic loader looks at the library"),
    (Phase::Start, "mmap", "the dynamic loader maps the library; memory of the engine"),
    (Phase::Start, "close", "the dynamic loader closes the library"),
    (Phase::Start, "mprotect", "the dynamic loader protects the library's relocated pages"),
    (Phase::Start, "munmap", "memory that was reserved to find an address is given back"),
    (Phase::Start, "access", "the dynamic loader looks for /etc/ld.so.preload"),
];

/// Calls whose number depends on how threads run against each other.
const BY_CHANCE: &[&str] = &["futex", "sched_yield", "restart_syscall"];

fn trace(command: &mut Command, log: &Path) {
    // The program's own environment, the same both ways.
    command.args(["-f", "-q", "-s", "64", "-e", "signal=none", "-o"]).arg(log);
}

/// The log of a command under strace.
fn logged(guest: &Guest, artifacts: Option<&Artifacts>) -> Result<Task, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let mut command = Command::new("strace");
    trace(&mut command, &log);
    match artifacts {
        None => drop(command.args(&guest.command)),
        Some(artifacts) => {
            let trace = guest.trace_command(artifacts, directory.path());
            command.arg(trace.get_program()).args(trace.get_args());
        }
    }
    let seen = guest.run(command, directory.path());
    if seen.end == End::Hung {
        return Err(format!("hangs under strace: {}", seen.shown()));
    }
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    call_log::read(&text, &guest.command[0])
        .ok_or_else(|| format!("no execve of it in the log; {}", seen.shown()))
}

/// Differences that are not documented, in lines.
fn unexplained(found: &Differences) -> Vec<String> {
    let is_documented =
        |phase: Phase, call: &str| DOCUMENTED.iter().any(|one| one.0 == phase && one.1 == call);
    found
        .iter()
        .filter(|(difference, _)| {
            !(difference.is_more && is_documented(difference.phase, &difference.call))
        })
        .map(|(difference, times)| {
            let way = if difference.is_more { "more" } else { "missing" };
            format!("{:?}: {} {way} {}", difference.phase, times, difference.call)
        })
        .collect()
}

fn programs(directory: &Path) -> Vec<(&'static str, Guest)> {
    let text = directory.join("text");
    let lines: String =
        (0..3000u32).map(|i| format!("{} line {i}\n", i.wrapping_mul(2_654_435_761))).collect();
    std::fs::write(&text, lines).expect("writes");
    let text = text.to_str().expect("UTF-8");
    let of = |path: &str, arguments: &[&str]| Guest::new(Path::new(path), arguments);
    vec![
        ("cat", of("/bin/cat", &[text])),
        ("ls", of("/bin/ls", &["-l", "/usr/include/linux"])),
        ("gzip", of("/usr/bin/gzip", &["-c", text])),
        ("sort", of("/usr/bin/sort", &["--parallel=1", text])),
        ("awk", of("/usr/bin/awk", &["{ n += length($0) } END { print n }", text])),
        ("python3", of("/usr/bin/python3", &["-S", "-c", "print(sum(range(100000)))"])),
        (
            "perl",
            of(
                "/usr/bin/perl",
                &["-e", "print join(',', sort { $a <=> $b } map { $_ * 7 % 101 } 1..500)"],
            ),
        ),
        (
            "a shell's pipeline",
            of(
                "/bin/sh",
                &[
                    "-c",
                    &format!("sed -n 's/1/2/p' {text} | wc -l; echo $(cat {text} | tail -n 1)"),
                ],
            ),
        ),
        ("threads", Guest::words("many_threads 8")),
        ("signals", Guest::words("worker signals")),
        ("children", Guest::words("worker children")),
        ("faults", Guest::words("fault_fields")),
        ("a child of each kind", Guest::words("hidden_children clone3")),
    ]
}

#[test]
fn no_call_but_the_programs_own() {
    const TEST: &str = "no_call_but_the_programs_own";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if guest::program("strace").is_none() {
        return skip(TEST, "strace is not installed");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut failures = Failures::default();
    let mut compared = 0;
    let mut table = String::new();
    for (name, guest) in programs(directory.path()) {
        if !PathBuf::from(&guest.command[0]).exists() {
            skip(TEST, &format!("{name} is not installed"));
            continue;
        }
        let result = (|| {
            let (one, other) = (logged(&guest, None)?, logged(&guest, None)?);
            // What differs between two native runs says nothing.
            let varying = call_log::differences(&one, &other, BY_CHANCE);
            let varying: Vec<String> =
                varying.into_keys().map(|difference| difference.call).collect();
            let mut ignored = BY_CHANCE.to_vec();
            ignored.extend(varying.iter().map(String::as_str));
            let counted = logged(&guest, Some(&artifacts))?;
            let found = call_log::differences(&one, &counted, &ignored);
            table += &format!(
                "{name}: {} differences, varying natively: {varying:?}\n",
                found.values().sum::<usize>()
            );
            let wrong = unexplained(&found);
            if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n    ")) }
        })();
        failures.add(name, result);
        compared += 1;
    }
    println!("{table}");
    assert!(compared >= 10, "only {compared} programs are here");
    failures.finish();
}
