//! The verdict: can this program be preloaded, and if not, why?

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::image::{Image, Kind};
use super::{find_program, privilege, regular_file, script};

/// How often the kernel lets one interpreter lead to the next (Linux `fs/exec.c`, `exec_binprm`).
const MAX_INTERPRETERS: usize = 5;

/// A program that the dynamic loader will give a preloaded library to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The file to execute.
    pub path: PathBuf,
    /// The dynamic program behind it: the same file, or the interpreter of a script.
    pub image: PathBuf,
}

/// Why a program cannot be preloaded. The texts are whole clauses about the program: "... is
/// statically linked, ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    /// No such file, or not in any folder of `PATH`.
    #[error("{}: not found{}", name.display(), if has_slash(name) { "" } else { " in PATH" })]
    NotFound {
        /// The name as given.
        name: OsString,
    },
    /// There is such a file, but the kernel would not execute it.
    #[error("{}: cannot be executed: {why}", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// It may be executed but not read, so nothing can be said about it beforehand.
    #[error("{}: cannot be read, so nobody can say beforehand whether it can be counted: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's message.
        why: String,
    },
    /// A program without a dynamic loader, at a fixed address.
    #[error("{}: is statically linked: no dynamic loader that would preload a library", path.display())]
    Static {
        /// The file.
        path: PathBuf,
    },
    /// A program without a dynamic loader, position independent.
    #[error("{}: is statically linked (static PIE): no dynamic loader that would preload a library", path.display())]
    StaticPie {
        /// The file.
        path: PathBuf,
    },
    /// Code for 32-bit x86, or the 32-bit ABI of x86-64 (x32).
    #[error("{}: is a 32-bit program ({architecture}); libshim.so is for 64-bit x86-64", path.display())]
    ThirtyTwoBit {
        /// The file.
        path: PathBuf,
        /// Its architecture's name.
        architecture: String,
    },
    /// Code for another processor.
    #[error("{}: is a program for {architecture}; libshim.so is for x86-64", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its architecture's name.
        architecture: String,
    },
    /// It runs as another user.
    #[error("{}: is set-uid (runs as user {user}): the dynamic loader ignores LD_PRELOAD for it", path.display())]
    SetUid {
        /// The file.
        path: PathBuf,
        /// The user that it runs as.
        user: u32,
    },
    /// It runs as another group.
    #[error("{}: is set-gid (runs as group {group}): the dynamic loader ignores LD_PRELOAD for it", path.display())]
    SetGid {
        /// The file.
        path: PathBuf,
        /// The group that it runs as.
        group: u32,
    },
    /// It carries file capabilities.
    #[error("{}: has file capabilities: the dynamic loader ignores LD_PRELOAD for it", path.display())]
    Capabilities {
        /// The file.
        path: PathBuf,
    },
    /// Its dynamic loader is not installed.
    #[error("{}: cannot be executed: its dynamic loader {} is not installed", path.display(), interpreter.display())]
    NoLoader {
        /// The file.
        path: PathBuf,
        /// The loader that it asks for.
        interpreter: PathBuf,
    },
    /// Neither ELF nor a script.
    #[error("{}: is neither an ELF program nor a script: {why}", path.display())]
    NotAProgram {
        /// The file.
        path: PathBuf,
        /// What it is, or what is wrong with its headers.
        why: String,
    },
    /// Scripts that lead to scripts, too many of them.
    #[error("{}: more than {MAX_INTERPRETERS} interpreters, one behind the other", path.display())]
    TooManyInterpreters {
        /// The script that was started.
        path: PathBuf,
    },
    /// A script whose interpreter is out of reach.
    #[error("{}: its interpreter is out of reach: {reason}", script.display())]
    Interpreter {
        /// The script.
        script: PathBuf,
        /// What is wrong with the interpreter.
        reason: Box<OutOfReach>,
    },
}

impl OutOfReach {
    /// True when the program cannot even run uncounted.
    pub fn cannot_run(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::NotExecutable { .. } | Self::NoLoader { .. } => true,
            Self::TooManyInterpreters { .. } => true,
            Self::Interpreter { reason, .. } => reason.cannot_run(),
            _ => false,
        }
    }
}

/// Looks for `name` as `execvp` would, with `path` as the value of `PATH`, and examines what it
/// finds.
///
/// # Errors
/// The reason why the program cannot be preloaded.
pub fn examine(name: &OsStr, path: Option<&OsStr>) -> Result<Program, OutOfReach> {
    let file = find_program(name, path)?;
    let image = follow(&file, path, MAX_INTERPRETERS)?;
    Ok(Program { path: file, image })
}

/// The dynamic program that runs in the end when `file` is executed.
fn follow(file: &Path, path: Option<&OsStr>, left: usize) -> Result<PathBuf, OutOfReach> {
    let unreadable = |error: std::io::Error| OutOfReach::Unreadable {
        path: file.to_owned(),
        why: error.to_string(),
    };
    let mut opened = regular_file::open(file).map_err(unreadable)?;
    let mut head = Vec::with_capacity(script::HEAD);
    opened.by_ref().take(script::HEAD as u64).read_to_end(&mut head).map_err(unreadable)?;
    if head.starts_with(b"\x7fELF") {
        return judge(file, opened);
    }
    let next = if head.starts_with(b"#!") {
        script::interpreter(&head)
    } else if is_text(&head) {
        // execvp hands a file of no known format to the shell.
        Some(script::Interpreter { path: "/bin/sh".into(), argument: None })
    } else {
        None
    };
    let Some(next) = next else {
        let why = if head.is_empty() { "it is empty" } else { "its format is unknown" };
        return Err(OutOfReach::NotAProgram { path: file.to_owned(), why: why.to_owned() });
    };
    if left == 0 {
        return Err(OutOfReach::TooManyInterpreters { path: file.to_owned() });
    }
    follow_script(&next, path, left - 1).map_err(|reason| match reason {
        too_many @ OutOfReach::TooManyInterpreters { .. } => too_many,
        reason => OutOfReach::Interpreter { script: file.to_owned(), reason: Box::new(reason) },
    })
}

fn follow_script(
    next: &script::Interpreter,
    path: Option<&OsStr>,
    left: usize,
) -> Result<PathBuf, OutOfReach> {
    // The kernel does not search: a name without a slash is relative to the working directory.
    let has_folder = next.path.parent().is_some_and(|folder| folder != Path::new(""));
    let written = if has_folder { next.path.clone() } else { Path::new(".").join(&next.path) };
    let found = find_program(written.as_os_str(), None)?;
    let image = follow(&found, path, left)?;
    let is_env = next.path.file_name() == Some(OsStr::new("env"));
    match next.argument.as_deref().filter(|_| is_env).and_then(script::program_of_env) {
        Some(program) => follow(&find_program(&program, path)?, path, left),
        None => Ok(image),
    }
}

/// A format that only a shell can make sense of; binary data would make it stumble.
fn is_text(head: &[u8]) -> bool {
    let first = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    !head.is_empty() && !first.contains(&0)
}

fn judge(file: &Path, opened: File) -> Result<PathBuf, OutOfReach> {
    let path = || file.to_owned();
    let image = Image::read(opened).map_err(|why| OutOfReach::NotAProgram {
        path: path(),
        why: format!("bad ELF headers: {why}"),
    })?;
    if !image.is_x86_64() {
        let architecture = image.architecture();
        return Err(if image.machine == 3 || image.machine == 62 {
            OutOfReach::ThirtyTwoBit { path: path(), architecture }
        } else {
            OutOfReach::Foreign { path: path(), architecture }
        });
    }
    if let Some(reason) = privilege::raised_by(file) {
        return Err(reason);
    }
    match image.kind {
        Kind::Dynamic { interpreter } if interpreter.exists() => Ok(path()),
        Kind::Dynamic { interpreter } => Err(OutOfReach::NoLoader { path: path(), interpreter }),
        Kind::Static => Err(OutOfReach::Static { path: path() }),
        // The dynamic loader itself, started as a program, preloads for the program that it is
        // given.
        Kind::StaticPie | Kind::SharedObject if is_loader(file) => Ok(path()),
        Kind::StaticPie => Err(OutOfReach::StaticPie { path: path() }),
        Kind::SharedObject => Err(OutOfReach::NotAProgram {
            path: path(),
            why: "it is a shared library without a program's entry".to_owned(),
        }),
        Kind::NotAProgram => Err(OutOfReach::NotAProgram {
            path: path(),
            why: "it is an object file or a core dump".to_owned(),
        }),
    }
}

fn is_loader(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    ["ld-linux", "ld-musl", "ld-2."].iter().any(|start| name.starts_with(start))
}

fn has_slash(name: &OsStr) -> bool {
    name.as_encoded_bytes().contains(&b'/')
}
