//! Long: every program of tests/native again and again, in every mode, because races show themselves rarely.

use std::path::PathBuf;
use std::time::Instant;

use tests::artifacts;
use tests::build::{Linking, Source};
use tests::run::{self, Finished, Tracing};

/// Programs with a `main` of their own: the ways to call them, and whether everything they do can be counted.
const ALONE: &[(&str, &[&str], bool)] = &[
    (
        "children.c",
        &["fork", "fork-exec", "fork-deep", "exec", "sigchld", "alarm", "raise", "threads"],
        true,
    ),
    (
        "children.c",
        &["vfork", "vfork-exec", "spawn", "system", "popen", "quick-exit", "_exit"],
        false,
    ),
    ("cross_modification.c", &[""], true),
    ("fault_contexts.c", &[""], true),
    ("gs_user.c", &[""], false),
    ("libraries.c", &[""], true),
    ("machine_state.c", &[""], true),
    ("patched_often.c", &[""], true),
    ("raw_clone.c", &[""], false),
    ("restartable_sequence.c", &[""], false),
    ("self_inspection.c", &[""], true),
    ("signal_ways.c", &["1"], true),
    ("signals.c", &[""], true),
    (
        "thread_ways.c",
        &[
            "exit-group",
            "exec",
            "failed-exec",
            "cancel",
            "fork",
            "daemon",
            "raw",
            "main-ends",
            "many",
            "stop",
        ],
        true,
    ),
    ("thread_ways.c", &["core"], false),
    ("threads.c", &["20"], true),
];

struct Case {
    program: PathBuf,
    argument: String,
    complete: bool,
    native: Finished,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |source: &Source, linking, argument: &str, complete| {
        if !source.missing_cpu_flags().is_empty() {
            return;
        }
        let program = source.build(linking);
        let native = run::native(&program, &[argument]).expect("starts natively");
        cases.push(Case { program, argument: argument.to_owned(), complete, native });
    };
    for (name, ways, complete) in ALONE {
        for way in *ways {
            add(&Source::named(name), Linking::Pie, way, *complete);
        }
    }
    for source in Source::all_passes() {
        add(&source, if source.fixed { Linking::Fixed } else { Linking::Pie }, "3", true);
    }
    cases
}

/// How the engine is run: snapshots as often as they may be taken, and memory that is soon used up.
const MODES: &[(&str, &[(&str, &str)])] = &[
    ("default", &[]),
    (
        "little memory, frequent snapshots",
        &[("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "10"), ("SPARKANALYZER_MEMORY_LIMIT_MIB", "4")],
    ),
];

/// 50 repeats of everything, or as many as $SOAK_REPEATS says.
#[test]
#[ignore = "half an hour; ./run soak"]
fn the_native_suite_again_and_again() {
    let artifacts = artifacts::need("the_native_suite_again_and_again").expect("./run build");
    let repeats = std::env::var("SOAK_REPEATS").map_or(50, |text| text.parse().expect("a number"));
    let cases = cases();
    let mut failures = Vec::new();
    let start = Instant::now();
    for repeat in 1..=repeats {
        for case in &cases {
            for (mode, environment) in MODES {
                let name = format!(
                    "{} {}, {mode}, repeat {repeat}",
                    case.program.display(),
                    case.argument
                );
                let tracing = Tracing { options: &[], environment };
                let traced = match tracing.run(&artifacts, &case.program, &[&case.argument]) {
                    Ok(traced) => traced,
                    Err(error) => {
                        failures.push(format!("{name}: {error}"));
                        continue;
                    }
                };
                let same = traced.captured.stdout == case.native.captured.stdout
                    && traced.status.code() == case.native.status.code();
                if !same || (case.complete && !traced.complete()) {
                    let failure = format!(
                        "{name}: status {:?}, natively {:?}, complete {}\n{}\n{}",
                        traced.status,
                        case.native.status,
                        traced.complete(),
                        String::from_utf8_lossy(&traced.captured.stdout),
                        String::from_utf8_lossy(&traced.captured.stderr)
                    );
                    println!("{failure}");
                    failures.push(failure);
                }
            }
        }
        println!(
            "repeat {repeat} of {repeats}: {} failures, {:?}",
            failures.len(),
            start.elapsed()
        );
    }
    println!("{} programs and ways, {} modes, {repeats} repeats", cases.len(), MODES.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Half a minute of timers at 1 kHz, over formatting, allocation, pipes and fork.
#[test]
#[ignore = "half a minute, several times; ./run soak"]
fn timers_at_1_khz() {
    let artifacts = artifacts::need("timers_at_1_khz").expect("./run build");
    let program = Source::named("signal_ways.c").build(Linking::Pie);
    let native = run::native(&program, &["30"]).expect("starts natively");
    for _ in 0..3 {
        let traced = Tracing::default().run(&artifacts, &program, &["30"]).expect("starts traced");
        assert_eq!(
            String::from_utf8_lossy(&traced.captured.stdout),
            String::from_utf8_lossy(&native.captured.stdout)
        );
        assert!(traced.complete(), "{:#}", traced.json["processes"]);
    }
}
