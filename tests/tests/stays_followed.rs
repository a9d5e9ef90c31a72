//! Signals, threads and children do not shake a traced program off: the same output as natively, counts complete.

use std::path::Path;

use tests::artifacts;
use tests::build::{Linking, Source};
use tests::run::{self, Traced, Tracing};

/// How often what may race is repeated here; `./run soak` repeats more.
const REPEATS: usize = 5;

fn same_and_complete(test: &str, program: &Path, arguments: &[&str]) -> Option<Traced> {
    let artifacts = artifacts::need(test)?;
    let native = run::native(program, arguments).expect("starts natively");
    let traced = Tracing::default().run(&artifacts, program, arguments).expect("starts traced");
    let complaint = String::from_utf8_lossy(&traced.captured.stderr);
    let (ours, own) = (&traced.captured.stdout, &native.captured.stdout);
    assert_eq!(String::from_utf8_lossy(ours), String::from_utf8_lossy(own), "{complaint}");
    assert_eq!(traced.status.code(), native.status.code(), "{complaint}");
    assert!(traced.complete(), "{:#}\n{complaint}", traced.json["processes"]);
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
