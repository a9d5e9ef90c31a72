//! `analyzer doctor`: whether counting would work here, and what to do where not.

mod bounded;
mod confinement;
mod findings;
mod job;
mod library;
mod machine;
mod probe;
mod spark;
mod trial;
pub mod trial_program;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::commands::doctor::findings::{Findings, Level};
use crate::console::exit::{Exit, Failure};
use crate::console::output::Output;
use crate::console::terminal::{ERROR, GOOD, WARNING};
use crate::store::{self, Address, MayBeOfStore};
use crate::text::shown::printable;

/// Check what counting needs, and say what to do where it lacks
///
/// Library, conf, output directory, machine, what confines processes, Java, Spark, store: each finding has its remedy.
/// Run it on a worker node, or in the container, as the user that runs the executors. A program with threads and
/// signals and a tiny JVM are run natively and followed: what would break here breaks in them.
/// --spark-submit-args proves on a tiny real job that records arrive; it must come last, what follows goes
/// to spark-submit. SPARK_HOME and JAVA_HOME say where Spark and Java are, unless options do.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The library instead of the one that is found (see trace --help)
    #[arg(long, value_name = "PATH")]
    shim: Option<PathBuf>,

    /// The conf file instead of the usual one
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,

    /// Spark's folder instead of SPARK_HOME
    #[arg(long, value_name = "DIR")]
    spark_home: Option<PathBuf>,

    /// Java's folder instead of JAVA_HOME
    #[arg(long, value_name = "DIR")]
    java_home: Option<PathBuf>,

    #[command(flatten)]
    place: MayBeOfStore,

    /// Run no programs natively and followed, which takes some seconds
    #[arg(long)]
    quick: bool,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Run a tiny job with these arguments of spark-submit; the last option
    #[arg(
        long,
        num_args = 0..,
        allow_hyphen_values = true,
        trailing_var_arg = true,
        value_name = "ARGS"
    )]
    spark_submit_args: Option<Vec<OsString>>,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Runs the command.
///
/// # Errors
/// When the output cannot be written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let spark_home = args.spark_home.clone().or_else(|| variable("SPARK_HOME"));
    let java_home = args.java_home.clone().or_else(|| variable("JAVA_HOME"));
    let mut findings = Findings::default();
    let answers = confinement::ask();
    machine::check(&mut findings, &answers);
    let refused = confinement::check(&mut findings, &answers);
    let settings = library::check_conf(&mut findings, args.conf.as_deref());
    let shim = library::check(&mut findings, args.shim.as_deref());
    if let Some(settings) = &settings {
        library::check_output_dir(&mut findings, settings);
    }
    if let Some(shim) = &shim {
        library::check_counts(&mut findings, shim);
    }
    let java = spark::check_java(&mut findings, java_home.as_deref(), shim.as_deref());
    match &shim {
        Some(_) if args.quick => findings.skipped("threads", "--quick"),
        Some(shim) => trial::check(&mut findings, shim, java.as_deref(), &refused),
        None => findings.skipped("threads", "there is no library to count with"),
    }
    spark::check(&mut findings, spark_home.as_deref());
    match &args.place.store {
        Some(address) => check_store(&mut findings, address),
        None => findings.skipped("store", "no --store given"),
    }
    match (&args.spark_submit_args, &shim) {
        (None, _) => findings.skipped("job", "no --spark-submit-args given"),
        (Some(_), None) => findings.skipped("job", "there is no library to count with"),
        (Some(arguments), Some(shim)) => {
            job::check(&mut findings, spark_home.as_deref(), shim, settings.as_ref(), arguments);
        }
    }
    let mut out = match args.format {
        Format::Table => Output::new(None)?,
        Format::Json => Output::data(None)?,
    };
    let printed = match args.format {
        Format::Table => table(&mut out, &findings),
        Format::Json => print_json(&mut out, &findings),
    };
    out.finish(printed)?;
    Ok(match findings.worst() {
        Level::Good | Level::Skipped => Exit::Success,
        Level::Warning => Exit::Partial,
        Level::Problem => Exit::Environment,
    }
    .into())
}

fn check_store(findings: &mut Findings, address: &Address) {
    match store::open(address) {
        Ok(store) => match store.frame(store::Table::Processes, Some(&["process_id"])) {
            Ok(frame) => {
                let count = frame.map_or(0, |frame| frame.height());
                findings.good("store", format!("{address}: readable, {count} processes in it"));
            }
            Err(error) => {
                findings.warning("store", Failure::from(error).message, "see the message")
            }
        },
        Err(error) => {
            let failure = Failure::from(error);
            let remedy = match address.to_string().contains("://") {
                true => {
                    "make the schema by analyzer schema init, or correct the address and the rights"
                }
                false => "ingest makes it, or correct the path",
            };
            findings.warning("store", failure.message, remedy);
        }
    }
}

fn table(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    for one in &findings.0 {
        let style = match one.level {
            Level::Good => GOOD,
            Level::Skipped => anstyle::Style::new(),
            Level::Warning => WARNING,
            Level::Problem => ERROR,
        };
        let level = one.level.name();
        writeln!(out, "{style}{level:<8}{style:#} {:<14} {}", one.check, lines(&one.found))?;
        if let Some(remedy) = &one.remedy {
            writeln!(out, "{:<8} {:<14} -> {}", "", "", printable(remedy))?;
        }
    }
    let count = |level| findings.0.iter().filter(|one| one.level == level).count();
    writeln!(out, "{} problems, {} warnings", count(Level::Problem), count(Level::Warning))
}

/// A text of several lines under its first one.
fn lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(printable).collect();
    lines.join(&format!("\n{:24}", ""))
}

fn print_json(out: &mut impl Write, findings: &Findings) -> io::Result<()> {
    let all = findings.0.iter().map(|one| {
        json!({
            "check": one.check,
            "level": one.level.name(),
            "found": one.found,
            "remedy": one.remedy,
        })
    });
    writeln!(out, "{}", json!({"findings": all.collect::<Vec<_>>()}))
}
