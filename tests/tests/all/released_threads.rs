//! Whatever goes wrong in the engine releases threads to run natively: the program's result is the same, and the records
//! say what happened. `libshim_faults.so` does on request what should never happen.

use std::path::Path;
use std::process::{Command, Stdio};

use records::{Event, Segment, notice};
use tests::artifacts;

/// Fault, at every which chance, the notice that tells of it, and how it begins.
const FAULTS: &[(&str, u32, u16, &str)] = &[
    ("undecodable", 2_000, notice::THREAD_RELEASED, "instruction not known to the decoder"),
    ("undecodable", 20_000, notice::THREAD_RELEASED, "instruction not known to the decoder"),
    ("not_executable", 3_000, notice::THREAD_RELEASED, "branch to memory that is not executable"),
    ("given_up", 5_000, notice::MEMORY_LIMIT, "the engine's memory is used up"),
    ("no_block", 5, notice::THREAD_NOT_FOLLOWED, "no memory to follow a new thread"),
    ("assertion", 30_000, notice::ENGINE_UNAVAILABLE, "switched off: "),
    ("assertion_at_call", 2_000, notice::ENGINE_UNAVAILABLE, "switched off: "),
];

/// The notices in the records of a JVM with four busy threads, garbage collection and compilation; all threads followed.
fn notices_of_churn(
    shim: &Path,
    classes: &str,
    collector: &str,
    fault: &str,
) -> Vec<(u16, String)> {
    let records = tempfile::tempdir().expect("a directory");
    // Not the class that is run: it makes the process an executor for the library.
    let executor = "org.apache.spark.executor.CoarseGrainedExecutorBackend";
    let output = Command::new("/usr/bin/java")
        .args([collector, "-Xmx512m", "-cp", classes, "Churn", "100000", executor])
        .env("LD_PRELOAD", shim)
        .env("SPARKANALYZER_OUTPUT_DIR", records.path())
        .env("SPARKANALYZER_SCOPE", "executor")
        .env("SPARKANALYZER_FAULT", fault)
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{fault}: {}\n{}", output.status, text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), RESULT, "{fault}");
    assert_eq!(text(&output.stderr), "", "{fault}");
    let mut notices = Vec::new();
    for entry in std::fs::read_dir(records.path()).expect("a directory") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("reads");
        for group in Segment::parse(&bytes).expect("a segment").groups() {
            if let Event::Notice { code, text, .. } = group.event {
                notices.push((code, String::from_utf8_lossy(text).into_owned()));
            }
        }
    }
    notices
}

const RESULT: &str = "-2050032838120566726";

#[test]
fn each_fault_releases_threads_and_says_so() {
    const TEST: &str = "each_fault_releases_threads_and_says_so";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let shim = artifacts.shim.with_file_name("libshim_faults.so");
    if !shim.exists() {
        return tests::skip::skip(TEST, "no libshim_faults.so; ./run test builds it");
    }
    let classes = tempfile::tempdir().expect("a directory");
    let source = artifacts::repository().join("tests/jvm/Churn.java");
    let compiled = Command::new("javac").arg("-d").arg(classes.path()).arg(source).status();
    if !compiled.is_ok_and(|status| status.success()) {
        return tests::skip::skip(TEST, "no Java compiler");
    }
    let classes = classes.path().to_str().expect("UTF-8");
    let notices_of = |fault: &str| notices_of_churn(&shim, classes, "-XX:+UseG1GC", fault);
    assert_eq!(notices_of("none:1").len(), 1, "one, of a fault unknown");
    for (fault, every, code, begin) in FAULTS {
        let notices = notices_of(&format!("{fault}:{every}"));
        let is_told = notices.iter().any(|(found, text)| found == code && text.starts_with(begin));
        assert!(is_told, "{fault} at every {every}th chance: {notices:?}");
    }
    // A cache that is flushed all the time loses nothing.
    assert_eq!(notices_of("full:3000"), []);
    // HotSpot keeps to what the agent says of it: with every block compared, the parts that it generates once never
    // differ from what they were.
    for collector in ["-XX:+UseSerialGC", "-XX:+UseParallelGC", "-XX:+UseG1GC", "-XX:+UseZGC"] {
        assert_eq!(notices_of_churn(&shim, classes, collector, "audit:1"), [], "{collector}");
    }
}
