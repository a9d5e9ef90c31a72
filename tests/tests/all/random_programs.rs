//! Programs that nobody thought of: the same output and the same counts as single-stepped, to the unit.

use std::time::{Duration, Instant};

use tests::artifacts;
use tests::build::{Linking, Source};
use tests::passes::{stepped_difference, traced_difference};
use tests::random_program;
use tests::skip::skip;

/// Builds and compares the program of a seed; says what differs.
fn compare(artifacts: &artifacts::Artifacts, seed: u64) -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path().join(format!("random_{seed}.S"));
    std::fs::write(&path, random_program::assembler(seed)).map_err(|error| error.to_string())?;
    let program = Source::read(&path).build(Linking::Pie);
    let compared = stepped_difference(&program, None).and_then(|oracle| {
        let differences = oracle.differences(&traced_difference(artifacts, &program)?);
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    });
    let _ = std::fs::remove_file(program);
    compared.map_err(|error| format!("seed {seed}: {error}"))
}

fn has_avx2(test: &str) -> bool {
    let has = std::is_x86_feature_detected!("avx2");
    if !has {
        skip(test, "this CPU lacks avx2");
    }
    has
}

#[test]
fn twelve_random_programs() {
    let Some(artifacts) = artifacts::need("twelve_random_programs") else { return };
    if !has_avx2("twelve_random_programs") {
        return;
    }
    let failures: Vec<String> =
        (1..=12).filter_map(|seed| compare(&artifacts, seed).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
#[ignore = "long: ./run soak"]
fn random_programs_for_minutes() {
    let Some(artifacts) = artifacts::need("random_programs_for_minutes") else { return };
    let minutes: u64 =
        std::env::var("SOAK_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let first = now.expect("after 1970").as_secs() << 20;
    let mut seed = first;
    let mut failures = Vec::new();
    while Instant::now() < end && failures.len() < 5 {
        failures.extend(compare(&artifacts, seed).err());
        seed += 1;
    }
    println!("{} random programs", seed - first);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
