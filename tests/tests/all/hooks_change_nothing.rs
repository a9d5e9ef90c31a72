//! What the hooks count must not show in what the engine counts: a program that calls hooked functions
//! executes the same instructions with system calls counted and with that switched off.

use tests::artifacts;
use tests::build::{Linking, Source};
use tests::run::{Traced, Tracing};

#[test]
fn same_instructions_with_hooks_on_and_off() {
    let test = "same_instructions_with_hooks_on_and_off";
    let Some(artifacts) = artifacts::need(test) else { return };
    let on = [("SPARKANALYZER_METRICS", "instructions,memory,barriers,syscalls")];
    let off = [("SPARKANALYZER_METRICS", "instructions,memory,barriers")];
    for name in ["system_calls.c", "formatted_output.c", "integer.c"] {
        let program = Source::named(name).build(Linking::Pie);
        let two_passes = |environment: &[(&str, &str)]| {
            let runs: Vec<Traced> = ["1", "3"]
                .iter()
                .map(|n| {
                    let tracing = Tracing { environment, ..Tracing::default() };
                    tracing.run(&artifacts, &program, &[n]).expect("starts")
                })
                .collect();
            assert!(runs[0].complete() && runs[1].complete(), "{name}: complete");
            let counts = ["instructions", "memory_reads", "memory_writes", "barriers"]
                .map(|metric| runs[1].total(metric) - runs[0].total(metric));
            (counts, runs[1].json["totals"].clone())
        };
        let (with, totals_with) = two_passes(&on);
        let (without, totals_without) = two_passes(&off);
        assert_eq!(with, without, "{name}: with hooks, without");
        if name == "system_calls.c" {
            // 10 rounds of 3 passes: read of 5 * i bytes and readv of 16.
            assert_eq!(totals_with["file_read_calls"].as_u64(), Some(60), "{totals_with:#}");
            assert_eq!(totals_with["pipe_write_calls"].as_u64(), Some(30), "{totals_with:#}");
            assert_eq!(totals_with["pipe_read_bytes"].as_u64(), Some(180), "{totals_with:#}");
            assert!(
                totals_without["file_read_calls"].as_u64().is_none(),
                "switched off is unknown, not a number: {totals_without:#}"
            );
        }
    }
}
