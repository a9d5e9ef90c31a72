//! Children made in every way, signals, threads, sudden ends: the same output and exit code as natively,
//! in a bounded time, under both tracers. Counts may be incomplete here; then `complete` says so.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::artifacts;
use tests::build::{Linking, Source};

/// Runs with a time limit; stdout and the exit code (128 + n for signal n), or `None` when time is up.
fn run(command: &mut Command) -> Option<(String, i32)> {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    // A group of its own: what hangs is killed whole.
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("starts");
    let mut stdout = child.stdout.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut stdout, &mut text);
        text
    });
    let limit = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().expect("waits") {
            break status;
        }
        if Instant::now() > limit {
            // SAFETY: a signal to the process group that this function made.
            unsafe { libc::kill(-child.id().cast_signed(), libc::SIGKILL) };
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Some((reader.join().expect("reads"), code))
}

fn traced(artifacts: &artifacts::Artifacts, tracer: &str, program: &Path) -> Command {
    let mut command = Command::new(&artifacts.analyzer);
    command.args(["trace", "--tracer", tracer, "--shim"]).arg(&artifacts.shim);
    command.arg("--").arg(program);
    command
}

#[test]
fn children_signals_threads_and_ends() {
    let Some(artifacts) = artifacts::need("children_signals_threads_and_ends") else { return };
    let program = Source::named("children.c").build(Linking::Pie);
    let ways = [
        "fork",
        "fork-exec",
        "fork-deep",
        "vfork",
        "vfork-exec",
        "vfork-failed-exec",
        "spawn",
        "spawn-failed",
        "system",
        "popen",
        "exec",
        "sigchld",
        "alarm",
        "raise",
        "threads",
        "killed",
        "abort",
        "fault",
        "quick-exit",
        "_exit",
    ];
    let mut failures = Vec::new();
    for way in ways {
        let native = run(Command::new(&program).arg(way)).expect("ends natively");
        for tracer in ["none", "engine"] {
            let ours = run(traced(&artifacts, tracer, &program).arg(way));
            if ours.as_ref() != Some(&native) {
                failures.push(format!("{way}, {tracer}: native {native:?}, traced {ours:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn compiler_and_shells() {
    let Some(artifacts) = artifacts::need("compiler_and_shells") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("program.c");
    std::fs::write(&source, "int main(void) { return 7; }\n").expect("writes");
    let source = source.to_str().expect("UTF-8");
    let mut failures = Vec::new();
    for (program, arguments) in [
        ("/usr/bin/gcc", &["-O2", "-S", "-o", "-", source][..]),
        ("/bin/bash", &["-c", "for i in 1 2 3; do echo $i | cat; done; (echo sub; exit 3)"]),
        ("/bin/sh", &["-c", "ls / | wc -l; trap 'echo bye' EXIT; kill -0 $$"]),
        (
            "/usr/bin/python3",
            &[
                "-c",
                "import subprocess; print(subprocess.run(['echo', 'hi'], capture_output=True).stdout)",
            ],
        ),
        ("/usr/bin/perl", &["-e", "print `echo from a shell`; exit 4"]),
        ("/usr/bin/timeout", &["5", "/bin/sleep", "0.1"]),
    ] {
        if !Path::new(program).exists() {
            tests::skip::skip(program, "is not installed here");
            continue;
        }
        let native = run(Command::new(program).args(arguments)).expect("ends natively");
        for tracer in ["none", "engine"] {
            let ours = run(traced(&artifacts, tracer, Path::new(program)).args(arguments));
            if ours.as_ref() != Some(&native) {
                failures.push(format!("{program}, {tracer}: native {native:?}, traced {ours:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A child that outlives the program for a moment is counted to its end; one that stays is named, and not waited for.
#[test]
fn children_left_behind() {
    let Some(artifacts) = artifacts::need("children_left_behind") else { return };
    // After a fifth of a second it has begun, and has a record file; at once it may have none.
    for (seconds, has_begun) in [("1", true), ("1", false), ("60", true), ("60", false)] {
        let begin = Instant::now();
        let mut command = traced(&artifacts, "none", Path::new("sh"));
        let pause = if has_begun { "sleep 0.2; " } else { "" };
        let script = format!("sleep {seconds} >/dev/null 2>&1 & {pause}echo $!");
        command.args(["-c", &script]);
        let output = command.output().expect("starts");
        let child: i32 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
        let is_complete = seconds == "1";
        if !is_complete {
            // SAFETY: a signal to the process that this test has left behind.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        let report = String::from_utf8_lossy(&output.stderr);
        let is_named = report.contains(&format!("process {child} (sleep): no record of its end"));
        assert_eq!(is_named, !is_complete, "{report}");
        assert!(!report.contains("not counted"), "{report}");
        assert!(begin.elapsed() < Duration::from_secs(20), "waited for {:?}", begin.elapsed());
    }
}

/// Who goes on when the trace is over makes no folder that nobody removes.
#[test]
fn a_temporary_folder_does_not_come_back() {
    let Some(artifacts) = artifacts::need("a_temporary_folder_does_not_come_back") else { return };
    let place = tempfile::tempdir().expect("a directory");
    let ended = place.path().join("ended");
    let folder = place.path().join("temporary");
    std::fs::create_dir(&folder).expect("makes");
    let mut command = traced(&artifacts, "engine", Path::new("sh"));
    let script = format!(
        "(sleep 3; /bin/true; (true); sh -c 'sleep 1; exec true'; echo >{}) >/dev/null 2>&1 &",
        ended.display()
    );
    let output = command.args(["-c", &script]).env("TMPDIR", &folder).output().expect("starts");
    assert!(output.status.success(), "{output:?}");
    assert!(!ended.exists(), "it goes on");
    let count = || std::fs::read_dir(&folder).expect("readable").count();
    assert_eq!(count(), 0);
    let limit = Instant::now() + Duration::from_secs(30);
    while !ended.exists() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(ended.exists());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(count(), 0, "{:?}", std::fs::read_dir(&folder).expect("readable").next());
}

/// AddressSanitizer's library wants to be the first one, and is not.
#[test]
fn a_program_with_address_sanitizer() {
    const TEST: &str = "a_program_with_address_sanitizer";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let (source, program) = (directory.path().join("p.c"), directory.path().join("p"));
    let text = "#include <stdio.h>\n#include <stdlib.h>\nint main(int c, char **v) {\n\
                char *p = malloc(8 + c); (void)v; p[0] = 0; puts(\"runs\"); p[c > 1 ? 12 : 1] = 1; free(p); return 7; }\n";
    std::fs::write(&source, text).expect("writes");
    let mut compiler = Command::new("gcc");
    let built = compiler.args(["-fsanitize=address", "-o"]).arg(&program).arg(&source).output();
    if !built.is_ok_and(|output| output.status.success()) {
        return tests::skip::skip(TEST, "gcc has no AddressSanitizer");
    }
    for arguments in [&[][..], &["too far"]] {
        let native = run(Command::new(&program).args(arguments)).expect("ends natively");
        assert_eq!(native.1, if arguments.is_empty() { 7 } else { 1 });
        for tracer in ["none", "engine"] {
            let ours = run(traced(&artifacts, tracer, &program).args(arguments));
            assert_eq!(ours.as_ref(), Some(&native), "{tracer}, {arguments:?}");
        }
    }
}
