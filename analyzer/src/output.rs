//! Where a command's result goes: standard output, or a file that appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// Standard output or a file.
pub struct Output {
    to: Box<dyn Write>,
    /// The file's name while it is written, and in the end.
    file: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// To this file, else to standard output.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn new(path: Option<&Path>) -> Result<Output, Failure> {
        let Some(path) = path else {
            let to = anstream::AutoStream::auto(io::stdout()).lock();
            return Ok(Output { to: Box::new(BufWriter::new(to)), file: None });
        };
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".new-{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).map_err(|error| unwritable(path, &error))?;
        // A file is no terminal: it has no colours.
        let to = BufWriter::new(anstream::StripStream::new(file));
        Ok(Output { to: Box::new(to), file: Some((temporary, path.to_owned())) })
    }

    /// Bytes that are no text, as they are.
    ///
    /// # Errors
    /// As [`Output::new`].
    pub fn raw(path: Option<&Path>) -> Result<Output, Failure> {
        let mut output = Output::new(path)?;
        output.to = match &output.file {
            None => Box::new(BufWriter::new(io::stdout().lock())),
            Some((temporary, path)) => {
                let file = File::create(temporary).map_err(|error| unwritable(path, &error))?;
                Box::new(BufWriter::new(file))
            }
        };
        Ok(output)
    }

    /// Whether a person would see it.
    pub fn is_terminal(&self) -> bool {
        self.file.is_none() && io::stdout().is_terminal()
    }

    /// Ends what was printed, or tells why it failed. A pipe whose reader has seen enough is no failure.
    ///
    /// # Errors
    /// When the output could not be written.
    pub fn finish(mut self, printed: io::Result<()>) -> Result<(), Failure> {
        let written = printed.and_then(|()| self.to.flush());
        match (written, &self.file) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some((temporary, path))) => {
                fs::rename(temporary, path).map_err(|error| unwritable(path, &error))
            }
            (Err(error), None) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            (Err(error), None) => {
                Err(Failure::new(Exit::BadOutput, format!("standard output: {error}")))
            }
            (Err(error), Some((_, path))) => Err(unwritable(path, &error)),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((temporary, _)) = &self.file {
            // After a rename it is not there any more.
            let _ = fs::remove_file(temporary);
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let way_out = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space or name another file: what was there before is as it was"
        }
        _ => "",
    };
    Failure::new(Exit::BadOutput, format!("{}: {error}{way_out}", path.display()))
}
