//! Programs under random seccomp filters and resource limits, natively and counted; exit 1 when any differs.
//!
//! `surroundings [--seed S] [--only N] [--from N] [--seconds N]`

use std::process::ExitCode;
use std::time::Duration;

use tests::artifacts;
use tests::surroundings::{ALL, Campaign, Outcome, mixed};

fn main() -> ExitCode {
    let (mut seed, mut only, mut from, mut seconds) = (1, None, 0, 86_400);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|text| text.parse::<u64>().ok());
        match (name.as_str(), value) {
            ("--seed", Some(value)) => seed = value,
            ("--only", Some(value)) => only = Some(value),
            ("--from", Some(value)) => from = value,
            ("--seconds", Some(value)) => seconds = value,
            _ => {
                eprintln!(
                    "usage: surroundings [--seed S] [--only N] [--from N] [--seconds N]; N is below {ALL}"
                );
                return ExitCode::from(2);
            }
        }
    }
    let Some(artifacts) = artifacts::find() else {
        eprintln!(
            "surroundings: no target/release/{{analyzer,libshim.so}}: ./run build makes them"
        );
        return ExitCode::from(6);
    };
    let mut campaign = Campaign::new(artifacts, seed);
    if let Some(number) = only {
        let (_, outcome, name) = campaign.one(number);
        println!("{number}: {name}");
        return match outcome {
            Outcome::Wrong(error) => {
                println!("wrong:\n    {error}");
                ExitCode::FAILURE
            }
            other => {
                println!("{other:?}");
                ExitCode::SUCCESS
            }
        };
    }
    let report = campaign.run(mixed(from), Duration::from_secs(seconds));
    print!("{}", report.shown());
    if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
