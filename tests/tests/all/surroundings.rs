//! Ten programs under random seccomp filters and resource limits: as natively, without a hang, and complete only where that is
//! true. `surroundings --seed S --only N` repeats a number that failed.

use std::time::Duration;

use tests::artifacts;
use tests::guest;
use tests::skip::skip;
use tests::surroundings::{Campaign, mixed};

fn run(test: &str, from: u64, time: Duration) {
    let Some(artifacts) = artifacts::need(test) else { return };
    if guest::program("strace").is_none() {
        return skip(test, "strace is not installed");
    }
    let seed = std::env::var("SURROUNDINGS_SEED").map_or(1, |text| text.parse().expect("a number"));
    let mut campaign = Campaign::new(artifacts, seed);
    if campaign.programs() < 10 {
        skip(
            test,
            &format!(
                "only {} of its ten programs are installed; they were tried",
                campaign.programs()
            ),
        );
    }
    let report = campaign.run(mixed(from), time);
    println!("{}", report.shown());
    assert!(report.counts.values().sum::<u64>() > 0, "nothing was tried");
    assert!(report.wrong.is_empty(), "{} wrong, seed {seed}", report.wrong.len());
}

#[test]
fn random_surroundings_for_a_minute() {
    run("random_surroundings_for_a_minute", 0, Duration::from_secs(60));
}

/// All of them; $SURROUNDINGS_FROM goes on in the midst.
#[test]
#[ignore = "1,300 numbers, half an hour and more; ./run soak"]
fn random_surroundings_all_of_them() {
    let from = std::env::var("SURROUNDINGS_FROM").map_or(0, |text| text.parse().expect("a number"));
    run("random_surroundings_all_of_them", from, Duration::from_secs(6 * 3600));
}
