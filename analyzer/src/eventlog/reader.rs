//! Reading a log's lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::application::Application;
use super::event::{Event, NEEDED};
use super::source::Source;

/// The first bytes of a zstd frame (RFC 8878, 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Codecs of Spark that are not served, by their file name extensions.
const OTHER_CODECS: [&str; 3] = ["lz4", "snappy", "lzf"];
/// A line that is longer is not looked at: plans are long, but not that long.
const MAX_LINE_BYTES: u64 = 256 << 20;

/// What was read from one log.
#[derive(Debug, Default)]
pub struct Log {
    /// The applications in it: one, unless somebody put several logs together.
    pub applications: Vec<Application>,
    /// Lines read.
    pub lines: u64,
    /// Lines that are no event at all.
    pub bad_lines: u64,
    /// Whether the end was cut, in a line or in a compressed frame.
    pub is_cut: bool,
}

/// Why a log was not read.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadError {
    /// It is something else, or nothing.
    NoLog(String),
    /// It cannot be read or unpacked.
    Unreadable(String),
}

impl ReadError {
    /// What is wrong, with the log's name.
    pub fn message(&self) -> &str {
        match self {
            ReadError::NoLog(message) | ReadError::Unreadable(message) => message,
        }
    }
}

/// Reads a log. `progress` is told the number of (compressed) bytes of every step.
///
/// # Errors
/// When it cannot be read, is packed with a codec that is not served, or is no event log; with its name.
pub fn read(source: &Source, progress: &dyn Fn(u64)) -> Result<Log, ReadError> {
    if source.is_standard_input() {
        let name = Path::new("standard input");
        return read_from(name, &mut io::stdin().lock(), progress);
    }
    let mut reading = Reading::default();
    for path in &source.files {
        refuse_other_codecs(path)?;
        let mut file = File::open(path).map_err(|error| at(path, &error))?;
        reading.take_stream(path, &mut file, progress)?;
    }
    reading.finish(&source.name, source.files.first())
}

/// Reads one stream as a log, plain or packed.
///
/// # Errors
/// As [`read`]; `name` stands in the message.
pub fn read_from(
    name: &Path,
    from: &mut dyn Read,
    progress: &dyn Fn(u64),
) -> Result<Log, ReadError> {
    let mut reading = Reading::default();
    reading.take_stream(name, from, progress)?;
    reading.finish(name, None)
}

fn at(path: &Path, error: &dyn std::fmt::Display) -> ReadError {
    ReadError::Unreadable(format!("{}: {error}", path.display()))
}

fn refuse_other_codecs(path: &Path) -> Result<(), ReadError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(".inprogress").trim_end_matches(".compact");
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    if OTHER_CODECS.contains(&extension) {
        return Err(ReadError::Unreadable(format!(
            "{}: event logs packed with {extension} are not served (zstd and plain ones are; set \
             spark.eventLog.compression.codec=zstd)",
            path.display()
        )));
    }
    Ok(())
}

/// `app-1` of `events_2_app-1.zstd`.
fn id_in_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (_, id) = name.strip_prefix("events_")?.split_once('_')?;
    Some(id.split('.').next()?.to_owned())
}

/// Counts what is read from below.
struct Counted<'r, R> {
    inner: R,
    progress: &'r dyn Fn(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buf)?;
        (self.progress)(bytes as u64);
        Ok(bytes)
    }
}

/// A log of which more may come.
#[derive(Default)]
struct Reading {
    log: Log,
    /// The application that the next line is about.
    building: Application,
}

impl Reading {
    fn take_stream(
        &mut self,
        path: &Path,
        from: &mut dyn Read,
        progress: &dyn Fn(u64),
    ) -> Result<(), ReadError> {
        let mut raw = BufReader::with_capacity(1 << 16, Counted { inner: from, progress });
        let head = raw.fill_buf().map_err(|error| at(path, &error))?;
        if head.starts_with(&ZSTD_MAGIC) {
            let decoder = zstd::Decoder::with_buffer(raw).map_err(|error| at(path, &error))?;
            self.take_lines(path, &mut BufReader::with_capacity(1 << 16, decoder))
        } else {
            self.take_lines(path, &mut raw)
        }
    }

    fn take_lines(&mut self, path: &Path, from: &mut dyn BufRead) -> Result<(), ReadError> {
        let mut line = Vec::new();
        loop {
            line.clear();
            match from.take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(_) => {}
                // A zstd frame that is still being written, or whose writer was killed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.log.is_cut = true
                }
                Err(error) if self.log.lines > 0 && error.kind() == io::ErrorKind::Other => {
                    self.log.is_cut = true;
                }
                Err(error) => return Err(at(path, &error)),
            }
            if line.is_empty() {
                return Ok(());
            }
            self.log.lines += 1;
            let is_whole = line.ends_with(b"\n");
            match understand(&line) {
                Some(event) => {
                    if let Err(next) = self.building.take(event) {
                        self.log.applications.push(std::mem::take(&mut self.building));
                        let taken = self.building.take(*next);
                        debug_assert!(taken.is_ok(), "a new application takes any start");
                    }
                }
                None if is_whole => self.log.bad_lines += 1,
                None => self.log.is_cut = true,
            }
            let is_foreign = self.log.bad_lines > 100 && self.building == Application::default();
            if self.log.is_cut || is_foreign {
                return Ok(());
            }
        }
    }

    /// The log, if it is one. A later rolling file alone has its application's id in its name only.
    fn finish(self, name: &Path, file: Option<&PathBuf>) -> Result<Log, ReadError> {
        let Reading { mut log, building } = self;
        let name = name.display();
        log.applications.push(building);
        log.applications.retain(|application| *application != Application::default());
        if log.applications.is_empty() {
            return Err(ReadError::NoLog(match (log.lines, log.is_cut) {
                (0, false) => format!("{name}: the event log is empty"),
                (_, true) => format!("{name}: the event log ends before its first event"),
                _ => format!("{name}: not a Spark event log"),
            }));
        }
        if let Some(nameless) = log.applications.iter_mut().find(|one| one.id.is_none()) {
            nameless.id = file.and_then(|path| id_in_name(path));
            if nameless.id.is_none() {
                return Err(ReadError::NoLog(format!(
                    "{name}: no application id (the line SparkListenerApplicationStart is missing)"
                )));
            }
        }
        Ok(log)
    }
}

/// The event on a line; `None` if the line is none. Events that are not needed are `Other`.
fn understand(line: &[u8]) -> Option<Event> {
    // Spark writes the key first: most lines can be skipped without parsing them.
    if let Some(rest) = line.strip_prefix(b"{\"Event\":\"")
        && let Some(end) = rest.iter().position(|&byte| byte == b'"')
        && !NEEDED.iter().any(|name| name.as_bytes() == &rest[..end])
        && line.trim_ascii_end().ends_with(b"}")
    {
        return Some(Event::Other);
    }
    match serde_json::from_slice(line) {
        Ok(event) => Some(event),
        // Names may hold bytes that are no UTF-8.
        Err(_) => serde_json::from_str(&String::from_utf8_lossy(line)).ok(),
    }
}
