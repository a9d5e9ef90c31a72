//! `analyzer trace`: runs a program under the preloaded shim and shows what it and its children
//! executed.

mod child;
mod environment;
mod family;
mod group;
mod json;
mod left_behind;
mod outcome;
mod output;
mod processes;
mod table;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::commands::trace::child::Child;
use crate::commands::trace::environment::Wishes;
use crate::commands::trace::left_behind::Remains;
use crate::commands::trace::outcome::Outcome;
use crate::commands::trace::output::Folder;
use crate::commands::tracer::Tracer;
use crate::commands::{metric_list, shim};
use crate::console::exit::{Exit, Failure, after_help};
use crate::console::terminal::WARNING;
use crate::text::shown::Harmless;
use elf::OutOfReach;

/// The shape of what is printed on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people
    Table,
    /// The same content as --json
    Json,
}

/// Run a program and count what it executes
///
/// The program runs with the same standard input, output and error and the same working directory.
/// Its children are followed. When it has ended, the counts are printed on standard error, and its
/// exit code is passed on. Children that it leaves behind have two seconds to end as well.
///
/// Static, set-uid, 32-bit and foreign programs cannot be reached by a preloaded library: they are
/// refused with the reason and exit code 5, or run uncounted with --best-effort. Children of that
/// kind run uncounted and are named.
#[derive(Debug, clap::Args)]
#[command(after_long_help = after_help(&EXAMPLES))]
pub struct Args {
    /// What counts instructions, memory accesses and barriers
    #[arg(long, value_enum, value_name = "TRACER", default_value_t = Tracer::Engine)]
    tracer: Tracer,

    /// Also write the counts as JSON to this file; - is standard output, after the program's own
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// How to print the counts on standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,

    /// Keep the record files in this folder, which is made if need be
    ///
    /// Without it they go to a temporary folder and are removed.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Run a program that cannot be traced anyway, uncounted
    #[arg(long)]
    best_effort: bool,

    /// Run a JVM under --tracer gum all the same
    #[arg(long)]
    force: bool,

    /// The library to preload
    ///
    /// Else SPARKANALYZER_SHIM, else libshim.so (libshim_gum.so for --tracer gum) next to this executable, else in
    /// ../lib/sparkanalyzer/ from there.
    #[arg(long, value_name = "PATH")]
    shim: Option<PathBuf>,

    /// What to count: instructions, memory, barriers, syscalls, file, pipe, socket, other, or
    /// metrics by name
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = metric_list::parse)]
    metrics: Vec<metric_list::Choice>,

    /// Milliseconds between two snapshots in the record files
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    snapshot_interval: Option<u64>,

    /// A conf file instead of /etc/sparkanalyzer/sparkanalyzer.toml
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,

    /// The program and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    program: Vec<OsString>,
}

const EXAMPLES: [&str; 4] = [
    "analyzer trace -- gzip -9 -k big.txt",
    "analyzer trace --json counts.json -- sh -c 'sort words.txt | uniq -c'",
    "analyzer trace --tracer none --metrics file -- python3 script.py",
    "analyzer trace --out records/ --snapshot-interval 100 -- ./server --port 8080",
];

const NO_JAVA_UNDER_GUM: &str = "frida-gum's Stalker does not count JVMs: it lets go of them at generated code, and \
HotSpot's handlers would see addresses in its own\n  --tracer engine counts them; --force tries it all the same";

/// Runs the program and shows the counts.
///
/// # Errors
/// When the program was not started, or the counts could not be written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let path = std::env::var_os("PATH");
    let examined = elf::examine(&args.program[0], path.as_deref());
    let (file, out_of_reach) = match examined {
        Ok(program) => (program.path, None),
        Err(reason) if args.best_effort && !reason.cannot_run() => {
            let file = elf::find_program(&args.program[0], path.as_deref());
            (file.map_err(|reason| refusal(&reason))?, Some(reason))
        }
        Err(reason) => return Err(refusal(&reason)),
    };
    if args.tracer == Tracer::Gum && !args.force && shim::is_java(&file) {
        return Err(Failure::new(Exit::OutOfReach, NO_JAVA_UNDER_GUM.to_owned()));
    }
    let shim = shim::find(args.shim.as_deref(), args.tracer)?;
    check_needed(&file, &shim)?;
    let folder = Folder::prepare(args.out.as_deref())?;
    let json = args.json.as_deref().map(output::open_json).transpose()?;
    let wishes = Wishes {
        shim: &shim,
        records: folder.path(),
        tracer: args.tracer,
        metrics: args.metrics.iter().map(|choice| choice.metrics).reduce(|one, two| one.union(two)),
        snapshot_interval_ms: args.snapshot_interval,
        conf: args.conf.as_deref(),
    };
    let id = environment::trace_id()?;
    let (mut variables, settings) = environment::variables(&wishes, &id)?;
    let left = folder.leave_settings(&id, &settings)?;
    if args.force {
        variables.push(("SPARKANALYZER_GUM_FORCE", "1".into()));
    }
    if let Some(reason) = &out_of_reach {
        let reason = crate::text::shown::message(&reason.to_string());
        anstream::eprintln!("{WARNING}warning:{WARNING:#} runs uncounted: {reason}");
    }
    let before = folder.list()?;
    let child = Child::start(&file, &args.program, &variables)?;
    let ended = child.wait()?;

    let remains = Remains::read(&folder, &before, &environment::mark(&id))?;
    let outcome = Outcome::new(&args.program, args.tracer, ended, remains, out_of_reach);
    if let Some(mut out) = json {
        let written = json::write(&outcome, &mut out);
        out.finish(written)?;
    }
    let mut screen = Vec::new();
    let written = match args.format {
        Format::Table => table::write(&outcome, wishes.metrics, &mut screen),
        Format::Json => json::write(&outcome, &mut screen),
    };
    // Nobody may be listening on standard error any more; the program's exit code still counts.
    let _ = written.and_then(|()| match args.format {
        Format::Json if io::stderr().is_terminal() => {
            Harmless::new(io::stderr()).write_all(&screen)
        }
        _ => anstream::stderr().write_all(&screen),
    });
    drop((left, folder));
    child::end_likewise(&outcome.ended);
    Ok(ExitCode::from(outcome.ended.exit_code()))
}

/// A rewritten program loads its own copy of the library: another one would be counted as the program's code.
fn check_needed(program: &Path, shim: &Path) -> Result<(), Failure> {
    let Some(needed) = elf::rewrite::needed_shim(program) else { return Ok(()) };
    if needed.canonicalize().is_ok_and(|needed| needed != shim) {
        let (program, needed) = (program.display(), needed.display());
        let message =
            format!("{program}: needs another copy of the library; use that one: --shim {needed}");
        return Err(Failure::new(Exit::Environment, message));
    }
    Ok(())
}

fn refusal(reason: &OutOfReach) -> Failure {
    let hint = if reason.cannot_run() { "" } else { "\n  --best-effort runs it uncounted" };
    Failure::new(Exit::OutOfReach, format!("{reason}{hint}"))
}
