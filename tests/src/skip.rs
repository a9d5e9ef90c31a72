//! Skipping a test: never silent. The line goes to stderr and to the file that `./run test` lists at its end.

use std::io::Write;

/// Says that `test` cannot run here. With SPARKANALYZER_TEST_SKIPS set, the line is appended to that file.
///
/// cargo knows no skipped state, so the caller returns afterwards and counts as passed there;
/// `./run test` subtracts it again.
pub fn skip(test: &str, reason: &str) {
    let line = format!("{test}: {reason}\n");
    // Straight to the descriptor: the test harness would swallow eprint! of a passing test.
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(format!("SKIPPED {line}").as_bytes());
    if let Some(path) = std::env::var_os("SPARKANALYZER_TEST_SKIPS")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = file.write_all(line.as_bytes());
    }
}
