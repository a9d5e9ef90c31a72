//! The native programs under `analyzer trace --tracer gum`, as a table: `./run test-gum`. Ignored elsewhere: it
//! needs libshim_gum.so, and that a devkit.
//!
//! Stalker has defects that are known; what must hold is that none is silent: a program that is said to be complete
//! is counted to the unit. What ends differently than natively is named in [`BROKEN`].

use tests::artifacts;
use tests::build::{Linking, Source};
use tests::passes::stepped_difference;
use tests::run::{self, Tracing};
use tests::stepper::Count;

/// Programs that end otherwise, print something else or count otherwise under Stalker, whatever is guarded.
const BROKEN: [&str; 6] =
    ["avx512", "callbacks", "fault_handlers", "libc_memory", "signal_steps", "system_calls"];

/// What came of a program: in words for the table, and whether it is worse than that.
fn outcome(source: &Source) -> (String, bool) {
    let mut artifacts = artifacts::find().expect("./run test-gum builds them");
    artifacts.shim.set_file_name("libshim_gum.so");
    let program = source.build(if source.fixed { Linking::Fixed } else { Linking::Pie });
    let mut counts = Vec::new();
    for passes in ["1", "3"] {
        let native = run::native(&program, &[passes]).expect("runs natively");
        let tracing = Tracing { options: &["--tracer", "gum"], environment: &[] };
        let traced = tracing.run(&artifacts, &program, &[passes]);
        let traced = match traced {
            Ok(traced) => traced,
            Err(error) => return (format!("no counts: {error}"), true),
        };
        if traced.status.code() != native.status.code() {
            return (format!("ends otherwise: {:?}", traced.status), true);
        }
        if traced.captured.stdout != native.captured.stdout {
            return ("prints something else".to_owned(), true);
        }
        if !traced.complete() {
            let gaps = traced.json["gaps"].as_array().cloned().unwrap_or_default();
            let why = gaps.first().and_then(|gap| gap.as_str()).unwrap_or("not complete");
            let why = why.rsplit(": ").next().unwrap_or(why).replace(char::is_numeric, "");
            return (format!("released with a notice: {}", why.trim()), false);
        }
        counts.push(Count::of(|metric| traced.total(metric)));
    }
    let oracle =
        match stepped_difference(&program, source.libraries.then_some(artifacts.shim.as_path())) {
            Ok(oracle) => oracle,
            Err(error) => return (format!("not comparable: {error}"), false),
        };
    let differences = oracle.differences(&counts[1].minus(&counts[0]));
    if differences.is_empty() {
        ("equal to single steps".to_owned(), false)
    } else {
        (format!("differs: {differences}"), true)
    }
}

#[test]
#[ignore = "needs libshim_gum.so: ./run test-gum"]
fn no_defect_of_stalker_is_silent() {
    let mut wrong = Vec::new();
    println!("| program | under Stalker |\n|---|---|");
    for source in Source::all_passes().iter().filter(|s| s.missing_cpu_flags().is_empty()) {
        let (words, is_wrong) = outcome(source);
        println!("| {} | {words} |", source.name);
        if is_wrong && !BROKEN.contains(&source.name.as_str()) {
            wrong.push(format!("{}: {words}", source.name));
        }
    }
    assert!(wrong.is_empty(), "new defects:\n{}", wrong.join("\n"));
}
