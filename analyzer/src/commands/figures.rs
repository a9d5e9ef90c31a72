//! `analyzer figures`: every figure, what it means, its unit, where it comes from and where it stands.

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::console::exit::{Exit, Failure};
use crate::console::output::Output;
use crate::console::terminal::HEADING;
use crate::report::figure::Figure;
use crate::report::findings::rules::{RULES, Rule};
use crate::report::glossary::{meaning, source, tables, unit};
use crate::report::words::wrapped;

/// Say what every figure of reports means
///
/// Name, unit, meaning, source (counted, Spark's event log, or computed from others), and the tables of a store that
/// have it as a column. --rules lists what makes a finding.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only figures whose names contain this
    #[arg(value_name = "WORD")]
    word: Option<String>,

    /// The rules of findings instead, with their thresholds and remedies
    #[arg(long)]
    rules: bool,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

fn described(figure: Figure) -> Value {
    json!({
        "name": figure.name(),
        "unit": unit(figure),
        "source": source(figure),
        "meaning": meaning(figure),
        "of": if figure.is_of_processes() { "tasks and processes" } else { "tasks" },
        "tables": tables(figure),
    })
}

/// Runs the command.
///
/// # Errors
/// When the output cannot be written, or no figure has such a name.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut out = match args.format {
        Format::Table => Output::new(None)?,
        _ => Output::data(None)?,
    };
    if args.rules {
        let printed = rules(&mut out, args.format);
        out.finish(printed)?;
        return Ok(Exit::Success.into());
    }
    let is_wanted = |figure: &Figure| {
        args.word.as_ref().is_none_or(|word| figure.name().contains(word.as_str()))
    };
    let figures: Vec<_> = Figure::all().into_iter().filter(is_wanted).collect();
    if figures.is_empty() {
        let word = args.word.as_deref().unwrap_or_default();
        let message = Figure::parse(word).err().unwrap_or_default();
        return Err(Failure::new(Exit::Usage, message));
    }
    let printed = match args.format {
        Format::Json => {
            let all: Vec<_> = figures.into_iter().map(described).collect();
            serde_json::to_string_pretty(&all)
                .map_err(std::io::Error::other)
                .and_then(|text| writeln!(out, "{text}"))
        }
        Format::Table => figures.into_iter().try_for_each(|figure| {
            let name = figure.name();
            let (unit, source) = (unit(figure), source(figure));
            writeln!(
                out,
                "{HEADING}{name}{HEADING:#}  {unit}, {source}; tables: {}",
                tables(figure)
            )?;
            wrapped(&mut out, "      ", &meaning(figure))
        }),
    };
    out.finish(printed)?;
    Ok(Exit::Success.into())
}

fn rules(out: &mut impl Write, format: Format) -> std::io::Result<()> {
    match format {
        Format::Json => {
            let one = |rule: &Rule| {
                json!({
                    "rule": rule.name,
                    "finds": rule.finds,
                    "threshold": rule.threshold,
                    "remedy": rule.remedy,
                })
            };
            let all: Vec<_> = RULES.iter().map(one).collect();
            let text = serde_json::to_string_pretty(&all).map_err(std::io::Error::other)?;
            writeln!(out, "{text}")
        }
        Format::Table => RULES.iter().try_for_each(|rule| {
            writeln!(out, "{HEADING}{}{HEADING:#}", rule.name)?;
            wrapped(out, "      ", rule.finds)?;
            wrapped(out, "      when: ", rule.threshold)?;
            wrapped(out, "      then: ", rule.remedy)
        }),
    }
}
