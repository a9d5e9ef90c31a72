//! Signals, threads and children do not shake a traced program off: the same output as natively, counts complete.

use std::path::Path;

use tests::artifacts;
use tests::build::{Linking, Source};
use tests::run::{self, Traced, Tracing};

/// How often what may race is repeated here; `./run soak` repeats more.
const REPEATS: usize = 5;

fn same_and_complete(test: &str, program: &Path, arguments: &[&str]) -> Option<Traced> {
    let traced = same_output(test, program, arguments)?;
    let complaint = String::from_utf8_lossy(&traced.captured.stderr);
    assert!(traced.complete(), "{:#}\n{complaint}", traced.json["processes"]);
    Some(traced)
}

fn same_output(test: &str, program: &Path, arguments: &[&str]) -> Option<Traced> {
    let artifacts = artifacts::need(test)?;
    let native = run::native(program, arguments).expect("starts natively");
    let traced = Tracing::default().run(&artifacts, program, arguments).expect("starts traced");
    let complaint = String::from_utf8_lossy(&traced.captured.stderr);
    let (ours, own) = (&traced.captured.stdout, &native.captured.stdout);
    assert_eq!(String::from_utf8_lossy(ours), String::from_utf8_lossy(own), "{complaint}");
    assert_eq!(traced.status.code(), native.status.code(), "{complaint}");
    Some(traced)
}

#[test]
fn through_signals() {
    let program = Source::named("signals.c").build(Linking::Pie);
    for _ in 0..REPEATS {
        let Some(traced) = same_and_complete("through_signals", &program, &[]) else { return };
        // 60 million passes of at least six instructions.
        assert!(traced.total("instructions") > 360_000_000);
    }
}

#[test]
fn through_a_thousand_threads() {
    let program = Source::named("threads.c").build(Linking::Pie);
    for _ in 0..REPEATS {
        let Some(traced) = same_and_complete("through_a_thousand_threads", &program, &["100"])
        else {
            return;
        };
        // 1,000 threads of 20,000 passes of at least five instructions; every thread has its own counts.
        assert!(traced.total("instructions") > 100_000_000);
        let threads = traced.json["processes"][0]["threads"].as_array().expect("threads").len();
        assert_eq!(threads, 1_002);
    }
}

#[test]
fn a_shell_with_pipelines() {
    let script = "for i in 1 2 3; do seq 1 1000 | sort -rn | head -1; done; (exit 3); echo $?";
    for _ in 0..REPEATS {
        let Some(traced) =
            same_and_complete("a_shell_with_pipelines", Path::new("/bin/bash"), &["-c", script])
        else {
            return;
        };
        assert!(traced.json["processes"].as_array().expect("processes").len() > 9);
    }
}

/// Children that never exec cannot be counted; they must run all the same, as must a thread without TLS of its own.
#[test]
fn raw_clones_run_as_natively() {
    let program = Source::named("raw_clone.c").build(Linking::Pie);
    let Some(artifacts) = artifacts::need("raw_clones_run_as_natively") else { return };
    for _ in 0..REPEATS {
        let native = run::native(&program, &[]).expect("starts natively");
        let traced = Tracing::default().run(&artifacts, &program, &[]).expect("starts traced");
        assert_eq!(traced.captured.stdout, native.captured.stdout);
        assert_eq!(traced.status.code(), native.status.code());
        assert!(!traced.complete());
    }
}

/// Flags, MXCSR, x87, FS base, the trap flag, the vsyscall page: what a program sees of the processor.
#[test]
fn the_machine_looks_as_natively() {
    let program = Source::named("machine_state.c").build(Linking::Pie);
    same_and_complete("the_machine_looks_as_natively", &program, &[]);
}

/// SEGV, BUS, FPE, ILL and TRAP in the middle of blocks; the handler reads and changes every register there is.
#[test]
fn faults_show_every_register() {
    let source = Source::named("fault_contexts.c");
    let missing = source.missing_cpu_flags();
    if !missing.is_empty() {
        let reason = format!("this CPU lacks {}", missing.join(", "));
        return tests::skip::skip("faults_show_every_register", &reason);
    }
    same_and_complete("faults_show_every_register", &source.build(Linking::Pie), &[]);
}

/// Nesting, masks, values, signalfd, sigwait, tiny stacks, jumps out of handlers, storms, timers at 1 kHz.
#[test]
fn through_all_ways_of_signals() {
    let program = Source::named("signal_ways.c").build(Linking::Pie);
    same_and_complete("through_all_ways_of_signals", &program, &["2"]);
}

#[test]
fn through_all_ways_of_threads_and_processes() {
    const TEST: &str = "through_all_ways_of_threads_and_processes";
    let program = Source::named("thread_ways.c").build(Linking::Pie);
    let threads = |traced: &Traced| -> usize {
        let processes = traced.json["processes"].as_array().expect("processes");
        processes.iter().map(|process| process["threads"].as_array().map_or(0, Vec::len)).sum()
    };
    // What was executed at least, and by how many threads of all processes.
    for (way, instructions, expected) in [
        ("exit-group", 400_000, 5),
        ("exec", 1_000, 6),
        ("failed-exec", 1_000, 2),
        ("cancel", 20 * 100_000 * 4, 61),
        ("fork", 40 * 20_000 * 4, 45),
        ("daemon", 400_000, 3),
        // On stacks, and most of them with thread-local storage, that no library knows.
        ("raw", 12 * 100_000 * 4, 13),
        ("main-ends", 1_000, 2),
        ("many", 512 * 1_000 * 4, 513),
        ("stop", 50_000 * 4, 2),
    ] {
        let Some(traced) = same_and_complete(TEST, &program, &[way]) else { return };
        assert!(traced.total("instructions") > instructions, "{way}");
        assert_eq!(threads(&traced), expected, "{way}");
    }
}

/// Signals without a handler end, stop and continue processes as natively, a shell's job control included.
#[test]
fn default_actions_stay() {
    let program = Source::named("thread_ways.c").build(Linking::Pie);
    same_output("default_actions_stay", &program, &["core"]);
    let script = format!(
        "set -m; {program} stop; sleep 60 & kill -STOP %1; wait %1; echo stopped $?; kill -CONT %1; kill %1; wait %1; \
         echo ended $?; {program} main-ends | cat; (ulimit -c 0; kill -SEGV $BASHPID); echo $?; \
         {{ kill -TSTP $BASHPID; echo continued; }} & wait %%; echo $?; fg %% >/dev/null; echo $?",
        program = program.display()
    );
    same_output("default_actions_stay", Path::new("/bin/bash"), &["-c", &script]);
}

/// Released with a notice, because they use what the engine needs or what only works in its own place: but unharmed.
#[test]
fn released_programs_run_as_natively() {
    for (name, notice) in
        [("gs_user.c", "uses GS"), ("restartable_sequence.c", "restartable sequence")]
    {
        let program = Source::named(name).build(Linking::Pie);
        let test = "released_programs_run_as_natively";
        let Some(traced) = same_output(test, &program, &[]) else { return };
        let complaint = String::from_utf8_lossy(&traced.captured.stderr);
        assert!(!traced.complete() && complaint.contains(notice), "{complaint}");
    }
}

#[test]
fn a_program_finds_itself_in_proc() {
    let program = Source::named("self_inspection.c").build(Linking::Pie);
    same_and_complete("a_program_finds_itself_in_proc", &program, &[]);
}

/// A thread that waits to translate may hold the loader's lock, so who translates must not wait for that.
#[test]
fn the_loaders_lock_is_the_applications() {
    let program = Source::named("loader_lock.c").build(Linking::Pie);
    let directory = tempfile::tempdir().expect("a directory");
    let java = directory.path().join("java");
    std::fs::copy(program, &java).expect("a copy");
    same_and_complete("the_loaders_lock_is_the_applications", &java, &[]);
}

/// gdb follows the program with breakpoints in the loader; both are traced.
#[test]
fn a_debugger_runs_a_program() {
    const TEST: &str = "a_debugger_runs_a_program";
    let gdb = Path::new("/usr/bin/gdb");
    if !gdb.exists() {
        return tests::skip::skip(TEST, "gdb is not installed");
    }
    let program = Source::named("thread_ways.c").build(Linking::Pie);
    let program = program.to_str().expect("UTF-8");
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let arguments = ["-q", "-batch", "-nx", "-ex", "run", "--args", program, "raw"];
    let traced = Tracing::default().run(&artifacts, gdb, &arguments).expect("starts traced");
    let output = String::from_utf8_lossy(&traced.captured.stdout);
    assert!(output.contains("12 started, 12 right, 12 with their own words"), "{output}");
    assert!(output.contains("exited normally]"), "{output}");
}
