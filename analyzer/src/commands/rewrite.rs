//! `analyzer rewrite`: makes a program load libshim.so by itself, and undoes that.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use elf::rewrite::{Change, Error, Prepared, prepare};

use crate::commands::shim;
use crate::console::exit::{Exit, Failure};
use crate::console::terminal::WARNING;
use crate::text::shown;

/// Make a program or shared library load libshim.so by itself
///
/// For launchers that scrub the environment, services whose unit files cannot be touched and containers whose
/// environment is fixed: the rewritten program needs libshim.so as the first of its libraries and is counted with no
/// environment variable set. It is counted in the role that it has (executor, driver, python worker), any other
/// as a program; settings come from /etc/sparkanalyzer/sparkanalyzer.toml, `roles` among them.
///
/// The input is never changed, and the output appears when it is complete, with the input's mode and owner. A
/// rewritten program does not start where the library is not found.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Add libshim.so to the needed libraries
    #[arg(long, required_unless_present = "undo", conflicts_with = "undo")]
    preload: bool,

    /// Give back the original of a rewritten file, byte by byte
    #[arg(long)]
    undo: bool,

    /// Only say what would be done
    #[arg(long)]
    check: bool,

    /// Where the result goes; an existing file is replaced
    #[arg(short, long, value_name = "OUT", required_unless_present = "check")]
    output: Option<PathBuf>,

    /// How the program names the library: an absolute path, or one that begins with $ORIGIN
    ///
    /// The library must be there where the program runs. By default the path of the library that this machine
    /// has.
    #[arg(long, value_name = "NAME", conflicts_with = "undo")]
    needed: Option<OsString>,

    /// The library, if --needed is not given
    ///
    /// Else SPARKANALYZER_SHIM, else libshim.so next to this executable, else in
    /// ../lib/sparkanalyzer/ from there.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["undo", "needed"])]
    shim: Option<PathBuf>,

    /// Also rewrite a program that runs with other rights than its caller's; it is not counted
    #[arg(long, conflicts_with = "undo")]
    allow_setuid: bool,

    /// The program or library
    #[arg(value_name = "PROG")]
    program: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When the file is not one to rewrite, or something cannot be read or written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let name = match args.needed {
        Some(name) => name,
        None if args.undo => OsString::new(),
        None => shim::find(args.shim.as_deref(), crate::commands::tracer::Tracer::Engine)?
            .into_os_string(),
    };
    let change = if args.undo {
        Change::Undo
    } else {
        Change::AddNeeded { name: name.as_bytes(), allow_setuid: args.allow_setuid }
    };
    let prepared = prepare(&args.program, change).map_err(failure)?;
    if args.check {
        describe(&prepared, &name);
        return Ok(Exit::Success.into());
    }
    // clap asks for it.
    let output = args.output.unwrap_or_default();
    let lost = prepared.write(&output).map_err(failure)?;
    for thing in &lost {
        anstream::eprintln!(
            "{WARNING}warning:{WARNING:#} {}: {thing} could not be kept",
            shown::message(&output.display().to_string())
        );
    }
    if prepared.plan.needs_linux_5_18 {
        let why = "starts on Linux 5.18 and newer only: it has more than 256 MiB of zeroed memory";
        anstream::eprintln!(
            "{WARNING}warning:{WARNING:#} {}: {why}",
            shown::message(&output.display().to_string())
        );
    }
    Ok(if lost.is_empty() { Exit::Success } else { Exit::Partial }.into())
}

/// Says what would be done.
fn describe(prepared: &Prepared, name: &OsString) {
    let plan = &prepared.plan;
    if plan.appended.is_empty() {
        anstream::println!(
            "undo: {} places get their old bytes back, {} bytes are cut off behind {}",
            plan.patches.len(),
            prepared.length - plan.kept,
            plan.kept
        );
        return;
    }
    anstream::println!("needs, before all other libraries: {}", name.display());
    anstream::println!(
        "a new segment: {} bytes at file offset {:#x}, address {:#x}",
        plan.appended.len(),
        plan.offset,
        plan.address
    );
    for patch in &plan.patches {
        anstream::println!(
            "changed in place: {} bytes at file offset {:#x}",
            patch.new.len(),
            patch.offset
        );
    }
    if plan.moves_dynamic {
        anstream::println!(
            "the dynamic section has no free entry and is copied to the new segment"
        );
    }
    if plan.needs_linux_5_18 {
        anstream::println!("the result starts on Linux 5.18 and newer only");
    }
}

fn failure(error: Error) -> Failure {
    let exit = match error {
        Error::Refused { .. } => Exit::OutOfReach,
        Error::Input { .. } => Exit::BadInput,
        Error::Output { .. } => Exit::BadOutput,
    };
    Failure::new(exit, error)
}
