//! Ends: a process that a signal ends keeps its counts, its core file shows its own frames, and a signal to a whole
//! process group ends neither `trace` nor the result.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use tests::artifacts::{self, Artifacts};
use tests::guest::{self, ANY, Failures, Guest, Known, compare};
use tests::skip::skip;

/// Rounds of `fatal.c`, of four instructions each.
const ROUNDS: u64 = 20_000_000;

#[test]
fn counts_of_who_is_ended_by_a_signal() {
    let Some(artifacts) = artifacts::need("counts_of_who_is_ended_by_a_signal") else { return };
    let mut failures = Failures::default();
    for way in [
        "segv",
        "abort",
        "term",
        "fpe",
        "ill",
        "sys",
        "hup",
        "alarm",
        "quit",
        "thread-segv",
        "stack",
        "kill-group",
    ] {
        let line = format!("fatal {way} {ROUNDS}");
        let result = compare(&artifacts, &Guest::words(&line), ANY.instructions(4 * ROUNDS));
        if let Some(traced) = failures.add(&line, result) {
            let instructions = traced.total("instructions");
            failures.check(&line, instructions >= 4 * ROUNDS, || {
                format!(
                    "{instructions} of {} instructions are left; {}",
                    4 * ROUNDS,
                    traced.remarks()
                )
            });
        }
    }
    failures.finish();
}

/// SIGKILL leaves no time: one snapshot's interval may be lost.
#[test]
fn counts_of_who_is_killed() {
    let Some(artifacts) = artifacts::need("counts_of_who_is_killed") else { return };
    const LONG: u64 = 1_000_000_000;
    let mut failures = Failures::default();
    for way in ["kill", "thread-kill", "child-kills"] {
        let line = format!("fatal {way} {LONG}");
        let mut guest = Guest::words(&line);
        guest.options = ["--snapshot-interval", "100"].map(str::to_owned).to_vec();
        let processes = if way == "child-kills" { 2 } else { 1 };
        if let Some(traced) = failures.add(
            &line,
            compare(&artifacts, &guest, ANY.processes(processes).instructions(4 * LONG)),
        ) {
            // Its loop takes some tenths of a second natively, and more counted: an interval is 0.1 s.
            let instructions = traced.total("instructions");
            failures.check(&line, instructions >= 2 * LONG, || {
                format!(
                    "{instructions} of {} instructions are left; {}",
                    4 * LONG,
                    traced.remarks()
                )
            });
        }
    }
    failures.finish();
}

#[test]
fn trace_survives_signals_to_the_group() {
    let Some(artifacts) = artifacts::need("trace_survives_signals_to_the_group") else { return };
    let mut cases = Vec::new();
    // HUP, INT, QUIT, USR1, ALRM, TERM, USR2, IO, PWR.
    for number in [1, 2, 3, 10, 14, 15, 12, 29, 30] {
        for how in ["dies", "survives", "handles", "child"] {
            cases
                .push((format!("group_signal {number} {how}"), if how == "child" { 2 } else { 1 }));
        }
    }
    let mut failures = Failures::default();
    for (line, processes) in &cases {
        let result =
            compare(&artifacts, &Guest::words(line), Known { processes: *processes, ..ANY });
        if let Some(traced) = failures.add(line, result) {
            failures
                .check(line, !traced.json.is_null(), || "the analyzer wrote no result".to_owned());
        }
    }
    failures.finish();
}

/// Temporary folders go, also when children make them again, and whoever is signalled.
#[test]
fn no_temporary_folder_stays() {
    const TEST: &str = "no_temporary_folder_stays";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let mut failures = Failures::default();
    for line in [
        "/bin/true",
        "fatal kill",
        "fatal kill-group",
        "group_signal 15 child",
        "hidden_children deep",
        "hidden_children uid",
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let temporary = directory.path().join("tmp");
        std::fs::create_dir(&temporary).expect("a folder");
        let guest = Guest::words(line).with("TMPDIR", temporary.to_str().expect("UTF-8"));
        let mut command = Command::new(&artifacts.analyzer);
        command.args(["trace", "--shim"]).arg(&artifacts.shim).arg("--").args(&guest.command);
        let seen = guest.run(command, directory.path());
        let left: Vec<_> = std::fs::read_dir(&temporary)
            .expect("reads")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        failures.check(line, left.is_empty(), || format!("{left:?} is left; {}", seen.shown()));
    }
    failures.finish();
}

/// A grandchild in a session of its own starts a program when `trace` has long ended: what is gone is not made again.
#[test]
fn no_temporary_folder_comes_back() {
    const TEST: &str = "no_temporary_folder_comes_back";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let temporary = directory.path().join("tmp");
    std::fs::create_dir(&temporary).expect("a folder");
    let script = "setsid sh -c 'sleep 4; /bin/true; echo ended >late' >/dev/null 2>&1 & exit 3";
    let guest = Guest::new(Path::new("/bin/sh"), &["-c", script])
        .with("TMPDIR", temporary.to_str().expect("UTF-8"));
    let mut command = Command::new(&artifacts.analyzer);
    command.args(["trace", "--shim"]).arg(&artifacts.shim).arg("--").args(&guest.command);
    let seen = guest.run(command, directory.path());
    assert_eq!(seen.end, guest::End::Code(3), "{}", seen.shown());
    let late = directory.path().join("late");
    for _ in 0..200 {
        if late.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(late.exists(), "the grandchild did not end");
    let left: Vec<_> =
        std::fs::read_dir(&temporary).expect("reads").flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?} is left");
}

/// The functions that gdb finds in the core file of a run, innermost first.
fn functions_in_core(
    command: &mut Command,
    program: &Path,
    directory: &Path,
) -> Result<Vec<String>, String> {
    // SAFETY: between fork and exec the closure makes one system call; its argument is on its stack.
    unsafe {
        command.pre_exec(|| {
            let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const all);
            Ok(())
        });
    }
    let output = command.current_dir(directory).output().expect("starts");
    let cores: Vec<_> = std::fs::read_dir(directory)
        .expect("reads")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"))
        })
        .collect();
    let [core] = &cores[..] else { return Err(format!("core files {cores:?}, {output:?}")) };
    let gdb = Command::new("gdb")
        .args(["-batch", "-nx", "-ex", "bt"])
        .arg(program)
        .arg(core)
        .env("HOME", directory)
        .output()
        .expect("starts gdb");
    let text = String::from_utf8_lossy(&gdb.stdout).into_owned();
    // "#1  0x0000555555555189 in middle (way=..., n=10) at ..." or "#0  innermost (where=0x0) at ..."
    let functions = text.lines().filter(|line| line.starts_with('#')).filter_map(|line| {
        let rest = line.split_once("  ")?.1;
        let rest = rest.split_once(" in ").map_or(rest, |(_, rest)| rest);
        Some(rest.split_once(" (")?.0.to_owned())
    });
    let functions: Vec<String> = functions.collect();
    if functions.is_empty() { Err(text) } else { Ok(functions) }
}

#[test]
fn a_core_file_has_the_programs_frames() {
    const TEST: &str = "a_core_file_has_the_programs_frames";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if guest::program("gdb").is_none() {
        return skip(TEST, "gdb is not installed");
    }
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with('|') || pattern.contains('/') {
        return skip(
            TEST,
            "core files do not go to the working directory here (kernel.core_pattern)",
        );
    }
    let program = guest::compile("core_dump");
    let mut failures = Failures::default();
    for (way, wanted) in [
        ("segv", &["innermost", "middle", "outermost", "main"][..]),
        ("abort", &["middle", "outermost", "main"]),
        ("thread", &["innermost", "middle", "outermost"]),
    ] {
        let (one, other) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let native = functions_in_core(Command::new(&program).arg(way), &program, one.path());
        let has_all = |functions: &[String]| {
            let mut found = functions.iter();
            wanted.iter().all(|name| found.any(|function| function == name))
        };
        match native {
            Ok(functions) if has_all(&functions) => {}
            other => {
                skip(TEST, &format!("natively gdb does not find the frames here: {other:?}"));
                continue;
            }
        }
        let guest = Guest::new(&program, &[way]);
        let mut command = guest.trace_command(&artifacts, other.path());
        let traced = functions_in_core(&mut command, &program, other.path());
        let result = match traced {
            Ok(functions) if has_all(&functions) => Ok(()),
            Ok(functions) => Err(format!("{functions:?}, and not {wanted:?} in that order")),
            Err(text) => Err(text),
        };
        failures.add(way, result);
    }
    failures.finish();
}

/// A second signal, a handler that ends by the first one's default: as natively.
#[test]
fn the_end_of_a_signal_is_seen_by_the_parent() {
    let Some(artifacts) = artifacts::need("the_end_of_a_signal_is_seen_by_the_parent") else {
        return;
    };
    parents_see(&artifacts);
}

fn parents_see(artifacts: &Artifacts) {
    let mut cases = Vec::new();
    let program = guest::compile("fatal");
    for way in ["segv", "abort", "kill", "term", "thread-segv"] {
        cases.push(Guest::new(
            Path::new("/bin/bash"),
            &[
                "-c",
                "exec 2>/dev/null; \"$1\" \"$2\" 1000; echo \"status $?\"",
                "bash",
                program.to_str().expect("UTF-8"),
                way,
            ],
        ));
    }
    let mut failures = Failures::default();
    for guest in &cases {
        failures.add(&guest.command.join(" "), compare(artifacts, guest, ANY.processes(2)));
    }
    failures.finish();
}
