//! The first line of a script, read as the kernel reads it.
//!
//! Source: Linux `fs/binfmt_script.c` (`load_script`): `#!`, blanks, the interpreter's path, and
//! the rest of the line as one argument. `env` then looks for the program that this argument names.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// As much of the file as the kernel looks at (`BINPRM_BUF_SIZE`).
pub const HEAD: usize = 256;

/// Who runs a script.
#[derive(Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The interpreter's path as written.
    pub path: PathBuf,
    /// The rest of the line, if any.
    pub argument: Option<OsString>,
}

/// Reads the interpreter from the first bytes of a file; `None` when it does not begin with `#!` or
/// names nobody.
pub fn interpreter(head: &[u8]) -> Option<Interpreter> {
    let head = &head[..head.len().min(HEAD)];
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|&byte| byte == b'\n' || byte == 0).next()?;
    let line = line.trim_ascii();
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let end = line.iter().position(blank).unwrap_or(line.len());
    let (path, argument) = line.split_at(end);
    if path.is_empty() {
        return None;
    }
    let argument = argument.trim_ascii();
    Some(Interpreter {
        path: PathBuf::from(OsStr::from_bytes(path)),
        argument: (!argument.is_empty()).then(|| OsStr::from_bytes(argument).to_owned()),
    })
}

/// The program that `env ARGUMENT` starts: the first word that is neither an option nor an
/// assignment. Without `-S`, the kernel's one argument is one word.
pub fn program_of_env(argument: &OsStr) -> Option<OsString> {
    let bytes = argument.as_bytes();
    let split = [&b"-S"[..], b"-vS", b"--split-string="]
        .iter()
        .find_map(|option| bytes.strip_prefix(*option));
    let words: Vec<&[u8]> = match split {
        Some(rest) => rest.split(|byte| byte.is_ascii_whitespace()).collect(),
        None => vec![bytes],
    };
    words
        .into_iter()
        .find(|word| !word.is_empty() && !word.starts_with(b"-") && !word.contains(&b'='))
        .map(|word| OsStr::from_bytes(word).to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(head: &str) -> Option<(String, Option<String>)> {
        let found = interpreter(head.as_bytes())?;
        let text = |value: OsString| value.into_string().expect("ASCII");
        Some((text(found.path.into_os_string()), found.argument.map(text)))
    }

    #[test]
    fn lines_that_the_kernel_takes() {
        let plain = |path: &str| Some((path.to_owned(), None));
        assert_eq!(parts("#!/bin/sh\nexit"), plain("/bin/sh"));
        assert_eq!(parts("#! \t/bin/sh \n"), plain("/bin/sh"));
        assert_eq!(parts("#!/bin/sh"), plain("/bin/sh"));
        let with = |path: &str, rest: &str| Some((path.to_owned(), Some(rest.to_owned())));
        assert_eq!(parts("#!/usr/bin/env python3\n"), with("/usr/bin/env", "python3"));
        assert_eq!(parts("#!/bin/awk -f  -v\n"), with("/bin/awk", "-f  -v"));
        assert_eq!(parts("#!\n"), None);
        assert_eq!(parts("echo\n"), None);
        assert_eq!(parts(""), None);
    }

    #[test]
    fn env_names_its_program() {
        let program = |argument: &str| program_of_env(OsStr::new(argument));
        assert_eq!(program("python3"), Some("python3".into()));
        assert_eq!(program("-S python3 -u"), Some("python3".into()));
        assert_eq!(program("-S -i A=1 python3 -u"), Some("python3".into()));
        assert_eq!(program("--split-string=perl -w"), Some("perl".into()));
        assert_eq!(program("-"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_heads_never_panic(head in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(found) = interpreter(&head)
                && let Some(argument) = found.argument
            {
                let _ = program_of_env(&argument);
            }
        }
    }
}
