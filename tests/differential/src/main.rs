//! The differential fuzzer: random instruction sequences run by the CPU and by the engine must leave the same state,
//! and the engine must count what the rules say.
//!
//! ```text
//! differential [--sequences N] [--seed S] [--from I] [--only I] [--sabotage NAME] [--table]
//! differential --vectors FILE
//! differential --list-sabotages
//! ```
//! A sequence is made from the seed and its number alone: `--from` resumes, `--only` shows one.
//!
//! Exit codes: 0 nothing differs, 1 something does, 2 wrong command line.

mod campaign;
mod compare;
mod coverage;
mod heap;
mod host;
mod machine;
mod opcodes;
mod operand;
mod prelude;
mod random;
mod reference;
mod sequence;
mod xsave;

use std::process::ExitCode;

use campaign::{Campaign, Options};

const USAGE: &str = "usage: differential [--sequences N] [--seed S] [--from I] [--only I] [--sabotage NAME] [--table]
       differential --vectors FILE
       differential --list-sabotages";

fn main() -> ExitCode {
    let mut options = Options::default();
    let mut vectors = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().unwrap_or_default();
            text.parse::<u64>().map_err(|error| format!("{argument} {text:?}: {error}"))
        };
        let result = match argument.as_str() {
            "--sequences" => number().map(|n| options.sequences = n),
            "--seed" => number().map(|n| options.seed = n),
            "--from" => number().map(|n| options.from = n),
            "--only" => number().map(|n| {
                options.from = n;
                options.sequences = 1;
                options.show = true;
            }),
            "--table" => {
                options.table = true;
                Ok(())
            }
            "--vectors" => {
                let path = arguments.next().unwrap_or_default();
                match std::fs::read_to_string(&path) {
                    Ok(text) => {
                        vectors = Some(text);
                        Ok(())
                    }
                    Err(error) => Err(format!("--vectors {path}: {error}")),
                }
            }
            "--list-sabotages" => {
                engine::mutants::names().for_each(|name| println!("{name}"));
                return ExitCode::SUCCESS;
            }
            "--sabotage" => {
                let name = arguments.next().unwrap_or_default();
                if engine::mutants::commit(&name) {
                    options.broken = true;
                    Ok(())
                } else {
                    Err(format!("unknown sabotage {name:?}; --list-sabotages names them"))
                }
            }
            _ => Err(format!("unknown argument {argument}")),
        };
        if let Err(error) = result {
            eprintln!("differential: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    }
    let campaign = Campaign::new(options);
    let same = match vectors {
        Some(text) => campaign.run_vectors(&text),
        None => campaign.run(),
    };
    if same { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
