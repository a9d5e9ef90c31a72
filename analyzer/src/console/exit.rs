//! Exit codes, and the failure that carries one to `main`.

use std::fmt::Display;
use std::process::ExitCode;

/// What `analyzer` tells its caller by its exit code. `trace` passes the traced program's own code
/// through (128 + signal number when a signal ended it) once that program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All was done.
    Success = 0,
    /// Done in part: something was left out, and it was said what.
    Partial = 1,
    /// The command line is wrong. clap uses the same number.
    Usage = 2,
    /// An input cannot be read or is not what it should be.
    BadInput = 3,
    /// An output cannot be written.
    BadOutput = 4,
    /// The program cannot be traced: static, set-uid, foreign, missing ...
    OutOfReach = 5,
    /// Something that must be there is not, `libshim.so` for example.
    Environment = 6,
}

/// The exit codes as `--help` and the man page show them, one per line.
const EXIT_CODES: [&str; 8] = [
    "0  success",
    "1  done in part: something was left out, standard error says what",
    "2  wrong usage",
    "3  an input cannot be read, or is of another kind",
    "4  an output cannot be written",
    "5  the program cannot be traced or rewritten (static, set-uid, 32-bit, foreign ...)",
    "6  the environment lacks something (libshim.so not found ...)",
    "trace: once the program runs, its own exit code; 128 + n if signal n ended it",
];

/// The end of a command's long help: these examples, and the exit codes.
pub fn after_help(examples: &[&str]) -> String {
    let list = |lines: &[&str]| lines.iter().map(|line| format!("\n  {line}")).collect::<String>();
    format!("Examples:{}\n\nExit codes:{}", list(examples), list(&EXIT_CODES))
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A command that could not do its work: the message for standard error and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong, where, and the way out if there is one. The first line stands behind
    /// `error: `.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code and message.
    pub fn new(exit: Exit, message: impl Display) -> Failure {
        Failure { exit, message: message.to_string() }
    }
}
