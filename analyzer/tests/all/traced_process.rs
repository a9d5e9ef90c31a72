//! What a program under `trace` is given and what comes back, apart from counts: exit code, signals, standard
//! streams, environment. Any shared library may be preloaded for that; these tests take libm.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const ANY_LIBRARY: &str = "/lib/x86_64-linux-gnu/libm.so.6";

/// `analyzer trace`, ready for more flags and a program.
fn trace() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("analyzer"));
    command.env_remove("LD_PRELOAD").stdin(Stdio::null());
    command.args(["trace", "--shim", ANY_LIBRARY, "--format", "json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(program: &[&str]) -> Output {
    trace().arg("--").args(program).output().expect("starts")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stderr)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_exit_code_is_passed_on() {
    for code in [0, 1, 42, 255] {
        let output = run(&["sh", "-c", &format!("exit {code}")]);
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(report(&output)["exit"], serde_json::json!({ "code": code, "signal": null }));
    }
}

#[test]
fn a_killing_signal_becomes_128_and_its_number() {
    for signal in [6, 9, 15] {
        let output = run(&["sh", "-c", &format!("kill -{signal} $$")]);
        assert_eq!(output.status.code(), Some(128 + signal));
        assert_eq!(report(&output)["exit"], serde_json::json!({ "code": null, "signal": signal }));
    }
}

#[test]
fn standard_streams_are_the_programs_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("input");
    std::fs::write(&input, "from standard input").expect("room");
    let mut command = trace();
    command.stdin(std::fs::File::open(&input).expect("just written"));
    let output = command.args(["--", "cat"]).output().expect("starts");
    assert_eq!(output.stdout, b"from standard input");
    // No descriptor of the analyzer's own is left open.
    let list = ["ls", "/proc/self/fd"];
    let plain = Command::new(list[0]).arg(list[1]).output().expect("starts");
    assert_eq!(run(&list).stdout, plain.stdout);
}

#[test]
fn the_environment_is_inherited_in_its_order_and_extended() {
    let mut command = trace();
    command.env_clear().env("ZEBRA", "1").env("ALPHA", "2").env("PATH", "/usr/bin:/bin");
    let output = command.args(["--", "env"]).output().expect("starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let names: Vec<_> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(
        names,
        [
            "ALPHA",
            "PATH",
            "ZEBRA",
            "LD_PRELOAD",
            "SPARKANALYZER_TRACE",
            "SPARKANALYZER_REPORTER",
            "SPARKANALYZER_OUTPUT_DIR",
            "SPARKANALYZER_TRACER",
            "ASAN_OPTIONS"
        ]
    );
}

#[test]
fn arguments_and_the_programs_name_arrive_as_given() {
    let output = run(&["sh", "-c", r#"printf '%s|' "$0" "$@""#, "zero", "a b", "", "--json"]);
    assert_eq!(output.stdout, b"zero|a b||--json|");
    // Found in PATH, but called by the name that was typed.
    let output = run(&["sh", "-c", "tr '\\0' ' ' </proc/$$/cmdline"]);
    assert!(output.stdout.starts_with(b"sh -c "), "{output:?}");
}

/// The signal lines of a process's status.
const SIGNALS: [&str; 4] = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"];

#[test]
fn signal_dispositions_and_mask_are_those_of_the_caller() {
    for ignored in [None, Some(libc::SIGINT), Some(libc::SIGPIPE), Some(libc::SIGCHLD)] {
        let prepare = move |command: &mut Command| {
            let block = move || {
                // SAFETY: async-signal-safe calls on a local set.
                unsafe {
                    let mut set: libc::sigset_t = std::mem::zeroed();
                    libc::sigaddset(&raw mut set, libc::SIGUSR1);
                    libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
                    if let Some(signal) = ignored {
                        libc::signal(signal, libc::SIG_IGN);
                    }
                }
                Ok(())
            };
            // SAFETY: the closure makes only async-signal-safe calls.
            unsafe { command.pre_exec(block) };
        };
        let mut plain = Command::new(SIGNALS[0]);
        plain.args(&SIGNALS[1..]);
        prepare(&mut plain);
        let expected = plain.output().expect("starts").stdout;
        let mut traced = trace();
        traced.arg("--").args(SIGNALS);
        prepare(&mut traced);
        let found = traced.output().expect("starts").stdout;
        assert_eq!(String::from_utf8(found), String::from_utf8(expected), "{ignored:?}");
    }
}

/// Starts a shell script under `trace` and waits until it has written its first line.
fn start(script: &str, prepare: impl FnOnce(&mut Command)) -> Child {
    let mut command = trace();
    command.args(["--", "sh", "-c", script]);
    prepare(&mut command);
    // Under nohup and in some CI systems SIGHUP comes ignored, and a shell cannot trap what was ignored.
    // SAFETY: between fork and exec the closure makes system calls and touches no memory.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    let mut child = command.spawn().expect("starts");
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    output.read_line(&mut line).expect("readable");
    assert_eq!(line, "ready\n");
    child
}

#[test]
fn signals_to_the_analyzer_are_passed_on() {
    let signals = [
        ("TERM", libc::SIGTERM),
        ("HUP", libc::SIGHUP),
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
    ];
    for (name, signal) in signals {
        let script = format!("trap 'exit 7' {name}; echo ready; while :; do sleep 0.05; done");
        let child = start(&script, |_| ());
        // SAFETY: the child is ours and not yet waited for.
        unsafe { libc::kill(child.id().cast_signed(), signal) };
        let output = child.wait_with_output().expect("ends");
        assert_eq!(output.status.code(), Some(7), "{name}");
        assert_eq!(report(&output)["exit"]["code"], 7);
    }
}

#[test]
fn an_interrupt_from_the_terminal_ends_the_program_and_is_reported() {
    let child = start("echo ready; exec sleep 60", |command| {
        command.process_group(0);
    });
    // What a terminal does at Ctrl-C: the whole foreground group.
    // SAFETY: the group was made for this child.
    unsafe { libc::kill(-child.id().cast_signed(), libc::SIGINT) };
    let output = child.wait_with_output().expect("ends");
    // Killed as natively: a shell's loop ends here.
    assert_eq!(output.status.signal(), Some(libc::SIGINT));
    assert_eq!(report(&output)["exit"]["signal"], libc::SIGINT);
}

#[test]
fn the_exit_code_is_passed_on_where_ends_of_children_are_ignored() {
    let mut command = trace();
    command.args(["--", "sh", "-c", "/bin/true; exit 5"]);
    // SAFETY: between fork and exec the closure makes one system call.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            Ok(())
        });
    }
    let output = command.output().expect("starts");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(report(&output)["exit"]["code"], 5);
}

#[test]
fn a_program_that_signals_its_group_is_reported() {
    // The leader of a group, one of its members, and the leader of a session.
    for place in ["leader", "member", "session"] {
        for (signal, ends) in [("KILL", true), ("TERM", true), ("HUP", false), ("INT", false)] {
            let trap = if ends { String::new() } else { format!("trap '' {signal}; ") };
            let script = format!("{trap}echo before; kill -{signal} 0; echo after");
            let mut command = trace();
            command.args(["--", "sh", "-c", &script]);
            let prepare = move || {
                // SAFETY: async-signal-safe calls that take numbers alone.
                unsafe {
                    libc::signal(libc::SIGHUP, libc::SIG_DFL);
                    libc::signal(libc::SIGINT, libc::SIG_DFL);
                    match place {
                        "session" => libc::setsid(),
                        _ => libc::setpgid(0, 0),
                    };
                    // The group's leader waits for its member, which goes on to the analyzer.
                    let child = if place == "member" { libc::fork() } else { 0 };
                    if child != 0 {
                        libc::signal(libc::SIGTERM, libc::SIG_IGN);
                        libc::signal(libc::SIGHUP, libc::SIG_IGN);
                        libc::signal(libc::SIGINT, libc::SIG_IGN);
                        let mut status = 0;
                        libc::waitpid(child, &raw mut status, 0);
                        libc::_exit(libc::WEXITSTATUS(status));
                    }
                }
                Ok(())
            };
            // SAFETY: the closure makes only async-signal-safe calls.
            unsafe { command.pre_exec(prepare) };
            let output = command.output().expect("starts");
            let case = format!("{place}, {signal}: {output:?}");
            let out = if ends { "before\n" } else { "before\nafter\n" };
            assert_eq!(String::from_utf8_lossy(&output.stdout), out, "{case}");
            let number = if signal == "KILL" { libc::SIGKILL } else { libc::SIGTERM };
            let code = if ends { 128 + number } else { 0 };
            // Its leader, which is no part of it, dies of SIGKILL as natively.
            if !(place == "member" && signal == "KILL") {
                assert_eq!(output.status.code(), Some(code), "{case}");
            }
            let exit = &report(&output)["exit"];
            let told = if ends { &exit["signal"] } else { &exit["code"] };
            assert_eq!(told, if ends { number } else { 0 }, "{case}");
        }
    }
}

#[test]
fn the_temporary_folder_is_removed_and_the_chosen_one_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = trace();
    command.env("TMPDIR", folder.path());
    let print = "echo $SPARKANALYZER_OUTPUT_DIR; test -d $SPARKANALYZER_OUTPUT_DIR";
    let output = command.args(["--", "sh", "-c", print]).output().expect("starts");
    assert!(output.status.success(), "it is there while the program runs");
    let path = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(path.starts_with(folder.path().to_str().expect("UTF-8")), "{path}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);

    let kept = folder.path().join("new/records");
    let mut command = trace();
    command.arg("--out").arg(&kept).args(["--", "sh", "-c", print]);
    let output = command.output().expect("starts");
    assert_eq!(
        String::from_utf8(output.stdout).expect("UTF-8").trim(),
        kept.to_str().expect("UTF-8")
    );
    assert!(kept.is_dir());
}

#[test]
fn without_records_nothing_is_claimed() {
    let output = run(&["true"]);
    let report = report(&output);
    assert_eq!(report["complete"], false);
    assert_eq!(report["starts_at"], Value::Null);
    assert_eq!(report["totals"]["instructions"], Value::Null);
    assert!(report["totals"].as_object().expect("an object").values().all(Value::is_null));
    let process = &report["processes"][0];
    assert!(
        process["followed"]
            .as_str()
            .expect("a reason")
            .contains("wrote no record file: libshim.so was not")
    );
}

#[test]
fn json_goes_to_the_file_that_was_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("counts.json");
    let mut command = trace();
    command.arg("--json").arg(&file).args(["--", "true"]);
    let output = command.output().expect("starts");
    assert_eq!(output.status.code(), Some(0));
    let written: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("written")).expect("JSON");
    assert_eq!(written, report(&output));
    let mut command = trace();
    let output = command.args(["--json", "-", "--", "echo", "first"]).output().expect("starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let json = text.strip_prefix("first\n").expect("the program's output comes first");
    assert_eq!(serde_json::from_str::<Value>(json).expect("JSON")["command"][1], "first");
}

#[test]
fn best_effort_runs_what_cannot_be_counted() {
    let script = tempfile::tempdir().expect("a folder");
    let program = script.path().join("privileged");
    tests::program_file::copy(Path::new("/bin/echo"), &program);
    let chown = std::os::unix::fs::chown(&program, Some(65534), Some(65534));
    if chown.is_err() {
        return tests::skip::skip("best_effort_runs_what_cannot_be_counted", "not root");
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(&program, mode).expect("root");
    std::fs::set_permissions(script.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("own folder");
    let file = script.path().join("counts.json");
    let mut command = trace();
    command.args(["--best-effort", "--json"]).arg(&file).arg("--").arg(&program).arg("it ran");
    let output = command.output().expect("starts");
    assert_eq!(output.stdout, b"it ran\n");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.starts_with("warning: runs uncounted: "), "{said}");
    let report: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("written")).expect("JSON");
    assert_eq!(report["complete"], false);
    assert_eq!(report["totals"]["file_write_calls"], Value::Null);
    let why = report["processes"][0]["followed"].as_str().expect("a reason");
    assert!(why.contains("is set-uid"), "{why}");
}
