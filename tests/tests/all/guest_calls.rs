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
    (Phase::Start, "access", "the dynamic loader looks for /etc/ld.so.preload; the kill switch"),
    // The library's constructor, before the program's first instruction.
    (Phase::Start, "open", "the list of mappings, and what the kernel says of the machine (auxv)"),
    (Phase::Start, "readlink", "the program's path, for the header"),
    (Phase::Start, "uname", "the node's name, for the header"),
    (Phase::Start, "getpid", "for the header"),
    (Phase::Start, "getppid", "for the header"),
    (Phase::Start, "gettid", "the first thread's id; threads that it makes need no call"),
    (Phase::Start, "getuid", "whether the process is privileged"),
    (Phase::Start, "geteuid", "whether the process is privileged"),
    (Phase::Start, "capget", "whether the helper may have a high process number"),
    (Phase::Start, "statfs", "whether the output folder can be written to"),
    (Phase::Start, "getrandom", "the process's identity in records"),
    (Phase::Start, "clock_gettime", "the vDSO's clock is found by then; time of the start"),
    (Phase::Start, "prctl", "the time-stamp counter may be off; names of process and thread"),
    (Phase::Start, "prlimit64", "limits of address space, core files and file sizes"),
    (Phase::Start, "madvise", "a page that forked children find empty; large pages"),
    (Phase::Start, "mremap", "tables of translations grow"),
    (Phase::Start, "process_vm_readv", "whether the thread pointer is libc's"),
    (Phase::Start, "rt_sigprocmask", "signals are blocked while the helper is made"),
    (Phase::Start, "rt_sigaction", "where core files are wanted"),
    (Phase::Start, "sigaltstack", "the first thread's alternate stack"),
    (Phase::Start, "clone3", "the helper, outside the thread group"),
    (Phase::Start, "clone", "the helper, where clone3 is refused"),
    // While the program runs. Each is left out where a filter may forbid it.
    (
        Phase::Middle,
        "fstat",
        "what a descriptor is, once; where a filter goes on, of all that are open",
    ),
    (Phase::Middle, "readlink", "the directory of a file, when it is opened or every 0.13 s"),
    (Phase::Middle, "mmap", "memory for translations and records"),
    (Phase::Middle, "mremap", "tables of translations grow"),
    (Phase::Middle, "munmap", "a search for an arena's place"),
    (Phase::Middle, "open", "the list of mappings, where code appears that no call told of"),
    (Phase::Middle, "read", "the same"),
    (Phase::Middle, "close", "the same"),
    (
        Phase::Middle,
        "rt_sigprocmask",
        "around fork and clone; to a handler's mask; once to learn the mask",
    ),
    (Phase::Middle, "getpid", "a child of fork, for its header"),
    (Phase::Middle, "gettid", "a thread that was released"),
    (
        Phase::Middle,
        "process_vm_readv",
        "a structure that is not on the stack, where no handler of ours is set",
    ),
    (Phase::Middle, "wait4", "the helper is reaped before an exec"),
    // Around the making of a thread or process.
    (Phase::Making, "rt_sigprocmask", "signals are blocked until the new one has told of itself"),
    (Phase::Making, "mmap", "a new thread's block"),
    (Phase::Making, "mremap", "tables of translations grow"),
    (Phase::Making, "madvise", "a block that is used again"),
    (Phase::Making, "tgkill", "whether the thread that had the block is gone"),
    (Phase::Making, "process_vm_readv", "whether the new thread's thread pointer is libc's"),
    (Phase::Making, "getpid", "a child of fork, for its header"),
    (Phase::Start, "wait4", "the helper is reaped before an exec"),
    // At the end, or before an exec.
    (Phase::End, "getpid", "whether this is a child in the parent's memory"),
    (Phase::End, "gettid", "a thread that was released"),
    (Phase::End, "rt_sigprocmask", "the same"),
    (Phase::End, "mmap", "room for the last records"),
    (Phase::End, "mremap", "the same"),
    (Phase::End, "wait4", "the helper is reaped"),
    (Phase::End, "newfstatat", "whether a program that is executed is there"),
    (Phase::End, "process_vm_readv", "its path"),
    (Phase::End, "readlink", "a directory that is told of last"),
];

/// Calls whose number depends on how threads run against each other, and on when timers run out.
const BY_CHANCE: &[&str] = &["futex", "sched_yield", "restart_syscall", "rt_sigreturn"];

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
            // A mapping less: the C library asked for the same memory in fewer pieces.
            let is_layout = !difference.is_more
                && difference.phase == Phase::Start
                && difference.call == "mmap";
            !(is_layout || difference.is_more && is_documented(difference.phase, &difference.call))
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
