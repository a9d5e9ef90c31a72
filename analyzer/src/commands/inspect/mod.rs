//! `analyzer inspect`: what can be known of a program without running it.

mod found;
mod print;

use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use elf::code;
use elf::facts::Facts;
use elf::functions;
use elf::layout::Layout;
use elf::plan::SHIM_NAME;
use elf::{Image, regular_file};
use indicatif::{ProgressBar, ProgressStyle};
use object::read::{ReadCache, ReadRef};

use crate::commands::inspect::found::{Contents, Inspected};
use crate::console::exit::{Exit, Failure};
use crate::console::output;

/// Say what can be known of a program without running it
///
/// Its kind, whether it can be counted, by `analyzer trace` or rewritten by `analyzer rewrite`, and what its code
/// holds: functions, basic blocks, instructions, memory accesses and barriers by the very weights that are used when
/// it runs, and system-call instructions. Functions without symbols come from its unwinding table.
///
/// Each instruction is counted once, as often as it stands in the file. What the run decides (how often REP
/// iterates, which elements a mask enables) is left out; "varying" instructions are those.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to list
    #[arg(long, value_enum, value_name = "WHAT")]
    by: Option<By>,

    /// How to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,

    /// The program or library
    #[arg(value_name = "PROG")]
    program: PathBuf,
}

/// The values of `--by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// Every function, those with the most instructions first
    Function,
    /// Every system-call instruction, by address
    Syscall,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs: everything that there is
    Json,
    /// For spreadsheets: the totals, or what --by lists
    Csv,
}

/// Runs the command.
///
/// # Errors
/// When the file cannot be read or is no ELF file, or the output cannot be written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let inspected = inspect(&args.program)?;
    let mut out: Box<dyn Write> = match args.format {
        Format::Table => Box::new(BufWriter::new(anstream::AutoStream::auto(io::stdout()).lock())),
        Format::Json | Format::Csv => output::standard_data(),
    };
    let printed = match (args.format, args.by) {
        (Format::Json, _) => print::json(&inspected, &mut out),
        (Format::Table, None) => print::table(&inspected, &mut out),
        (Format::Table, Some(By::Function)) => print::functions(&inspected, &mut out),
        (Format::Table, Some(By::Syscall)) => print::syscalls(&inspected, &mut out),
        (Format::Csv, None) => print::csv_total(&inspected, &mut out),
        (Format::Csv, Some(By::Function)) => print::csv_functions(&inspected, &mut out),
        (Format::Csv, Some(By::Syscall)) => print::csv_syscalls(&inspected, &mut out),
    };
    match printed.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::BadOutput, format!("standard output: {error}")))
        }
        _ => Ok(Exit::Success.into()),
    }
}

fn inspect(path: &Path) -> Result<Inspected, Failure> {
    let bad = |why: String| Failure::new(Exit::BadInput, format!("{}: {why}", path.display()));
    let file = regular_file::open(path).map_err(|error| bad(error.to_string()))?;
    let found = file.metadata().map_err(|error| bad(error.to_string()))?;
    let image = Image::read(&file).map_err(|why| bad(format!("no ELF file to inspect: {why}")))?;
    let cache = ReadCache::new(&file);
    let (contents, rewrite) = if image.is_x86_64() {
        let layout = Layout::read(&cache).map_err(bad)?;
        let change = elf::rewrite::Change::AddNeeded { name: SHIM_NAME, allow_setuid: false };
        let rewrite = elf::rewrite::prepare(path, change).map(drop);
        (Some(contents(&layout).map_err(bad)?), rewrite.map_err(|why| why.to_string()))
    } else {
        (None, Err(elf::plan::Refusal::Foreign.to_string()))
    };
    // A name without a slash would be looked for in PATH.
    let here = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let trace = elf::examine(here.as_os_str(), None).map(drop);
    let (length, mode) = (found.len(), found.mode());
    Ok(Inspected { path: path.to_owned(), length, mode, image, trace, rewrite, contents })
}

fn contents<'data, R: ReadRef<'data>>(layout: &Layout<'data, R>) -> Result<Contents, String> {
    let facts = Facts::read(layout)?;
    let functions = functions::find(layout);
    // indicatif draws on standard error, and only if that is a terminal.
    let style = ProgressStyle::with_template("{spinner} {wide_bar} {bytes}/{total_bytes} {eta}");
    let bar = ProgressBar::new(functions.executable_bytes);
    let bar = style.map(|style| bar.clone().with_style(style)).unwrap_or(bar);
    let mut done = 0;
    let code = code::read(layout, &functions, |bytes| {
        done += bytes;
        // Some thousand small functions at a time.
        if done >= 1 << 20 {
            bar.inc(std::mem::take(&mut done));
        }
    });
    bar.finish_and_clear();
    Ok(Contents { facts, functions, code })
}
