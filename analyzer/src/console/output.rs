//! Where a command's result goes: standard output, or a file that appears whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::console::exit::{Exit, Failure};
use crate::console::new_file::{self, NewFile};
use crate::text::shown::Harmless;

/// Standard output or a file.
pub struct Output {
    to: Box<dyn Write>,
    /// The file while it is written, and its path.
    file: Option<(NewFile, PathBuf)>,
    is_standard: bool,
}

/// Data for standard output, harmless where that is a terminal.
pub fn standard_data() -> Box<dyn Write> {
    let standard = io::stdout();
    match standard.is_terminal() {
        true => Box::new(Harmless::new(BufWriter::new(standard.lock()))),
        false => Box::new(BufWriter::new(standard.lock())),
    }
}

impl Output {
    /// Text with colours, of which everything that others wrote was made printable: to this file, else to
    /// standard output.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn new(path: Option<&Path>) -> Result<Output, Failure> {
        let standard = || {
            let to = anstream::AutoStream::auto(io::stdout()).lock();
            Box::new(BufWriter::new(to)) as Box<dyn Write>
        };
        // A file is no terminal: it has no colours.
        Output::to(path, standard, |file| {
            Box::new(BufWriter::new(anstream::StripStream::new(file)))
        })
    }

    /// Text without colours, as it is; only a terminal gets no control characters.
    ///
    /// # Errors
    /// As [`Output::new`].
    pub fn data(path: Option<&Path>) -> Result<Output, Failure> {
        Output::to(path, standard_data, |file| Box::new(BufWriter::new(file)))
    }

    /// Bytes that are no text, as they are.
    ///
    /// # Errors
    /// As [`Output::new`].
    pub fn raw(path: Option<&Path>) -> Result<Output, Failure> {
        let standard = || Box::new(BufWriter::new(io::stdout().lock())) as Box<dyn Write>;
        Output::to(path, standard, |file| Box::new(BufWriter::new(file)))
    }

    fn to(
        path: Option<&Path>,
        standard: impl FnOnce() -> Box<dyn Write>,
        in_file: impl FnOnce(File) -> Box<dyn Write>,
    ) -> Result<Output, Failure> {
        let Some(path) = path else {
            return Ok(Output { to: standard(), file: None, is_standard: true });
        };
        let failed = |error: io::Error| unwritable(path, &error);
        if let Some(open) = new_file::descriptor(path) {
            let to = in_file(open.map_err(failed)?);
            return Ok(Output { to, file: None, is_standard: false });
        }
        let new = NewFile::begin(path).map_err(failed)?;
        let to = in_file(new.file().try_clone().map_err(failed)?);
        Ok(Output { to, file: Some((new, path.to_owned())), is_standard: false })
    }

    /// Whether a person would see it.
    pub fn is_terminal(&self) -> bool {
        self.is_standard && io::stdout().is_terminal()
    }

    /// Ends what was printed, or tells why it failed. A pipe whose reader has seen enough is no failure.
    ///
    /// # Errors
    /// When the output could not be written.
    pub fn finish(mut self, printed: io::Result<()>) -> Result<(), Failure> {
        let written = printed.and_then(|()| self.to.flush());
        match (written, self.file) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some((new, path))) => new.finish().map_err(|error| unwritable(&path, &error)),
            (Err(error), None) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            (Err(error), None) => {
                Err(Failure::new(Exit::BadOutput, format!("standard output: {error}")))
            }
            (Err(error), Some((_, path))) => Err(unwritable(&path, &error)),
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
