//! Every program of tests/native that the frame drives: translated and counted it prints the same and
//! counts the same as single-stepped, to the unit.

use tests::artifacts;
use tests::build::{Linking, Source};
use tests::passes::{stepped_difference, traced_difference};
use tests::skip::skip;

/// The programs that this machine's CPU can execute; the others are skipped by name.
/// SPARKANALYZER_TEST_PROGRAM names the only one wanted.
fn runnable() -> Vec<Source> {
    let wanted = std::env::var("SPARKANALYZER_TEST_PROGRAM").ok();
    let (can, cannot): (Vec<Source>, Vec<Source>) = Source::all_passes()
        .into_iter()
        .filter(|source| wanted.as_ref().is_none_or(|name| source.name == *name))
        .partition(|source| source.missing_cpu_flags().is_empty());
    for source in cannot {
        skip(&source.name, &format!("this CPU lacks {}", source.missing_cpu_flags().join(", ")));
    }
    can
}

fn linkings(source: &Source) -> &'static [Linking] {
    if source.fixed { &[Linking::Fixed] } else { &[Linking::Pie, Linking::Fixed] }
}

#[test]
fn the_oracle_repeats_itself() {
    let mut failures = Vec::new();
    // Every fifth program: the equality below would show it for the others, but not name the oracle.
    for source in runnable().into_iter().step_by(5) {
        let program = source.build(linkings(&source)[0]);
        let first = stepped_difference(&program, None);
        match (&first, stepped_difference(&program, None)) {
            (Ok(one), Ok(two)) if *one == two && one.instructions() > 0 => {}
            (_, second) => failures.push(format!("{}: {first:?}, then {second:?}", source.name)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn counts_equal_single_steps() {
    let Some(artifacts) = artifacts::need("counts_equal_single_steps") else { return };
    let mut failures = Vec::new();
    let mut table = String::new();
    let mut equal = 0;
    for source in runnable() {
        for linking in linkings(&source) {
            let name = format!("{} {linking:?}", source.name);
            let program = source.build(*linking);
            let preload = source.libraries.then_some(artifacts.shim.as_path());
            let oracle = match stepped_difference(&program, preload) {
                Ok(oracle) => oracle,
                Err(error) => {
                    failures.push(format!("{name}: {error}"));
                    continue;
                }
            };
            match traced_difference(&artifacts, &program) {
                Ok(ours) => {
                    let differences = oracle.differences(&ours);
                    table += &format!("{name}: {}\n", oracle.instructions());
                    if differences.is_empty() {
                        equal += 1;
                    } else {
                        failures.push(format!("{name}: {differences}"));
                    }
                }
                Err(error) => failures.push(format!("{name}: {error}")),
            }
        }
    }
    println!("instructions of two passes, equal to the single-step count:\n{table}");
    assert!(failures.is_empty(), "{equal} equal, {} not:\n{}", failures.len(), failures.join("\n"));
    let least = if std::env::var_os("SPARKANALYZER_TEST_PROGRAM").is_some() { 1 } else { 35 };
    assert!(equal >= least, "only {equal} programs");
}
