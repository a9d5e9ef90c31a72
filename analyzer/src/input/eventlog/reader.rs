//! Reading a log's lines.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use elf::regular_file;
use flate2::bufread::MultiGzDecoder;

use crate::input::eventlog::application::Application;
use crate::input::eventlog::event::{Event, Name};
use crate::input::eventlog::lenient::{self, MAX_ELEMENTS};
use crate::input::eventlog::source::Source;

/// The first bytes of a zstd frame (RFC 8878, 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// And of a skippable one (3.1.2), whose first byte is 0x50 to 0x5f: some writers begin with one.
const SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];
/// The first bytes of a gzip member (RFC 1952, 2.3.1) ...
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// ... and of a zip archive.
const ZIP_MAGIC: [u8; 4] = *b"PK\x03\x04";
/// Codecs of Spark that are not served, by their file name extensions.
const OTHER_CODECS: [&str; 3] = ["lz4", "snappy", "lzf"];
/// A line that is longer is passed over: plans are long, but not that long.
const MAX_LINE_BYTES: u64 = 32 << 20;
/// So much of it is looked at, for the name of its event.
const LONG_LINE_BYTES: usize = 4096;
/// Bytes of lines after which what they said is handed over ...
pub const PIECE_BYTES: usize = 64 << 20;
/// ... of which each counts so many more: what a short one says takes more memory than it does.
const ENTRY_BYTES: usize = 640;

/// Bytes of an id in a list, as it is held and as it is written.
const ID_BYTES: usize = 32;

/// What a log may hold: somebody else may have made it, and some kilobytes can be packed that unpack to as
/// many gigabytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of its lines (`--max-log-bytes`).
    pub bytes: u64,
    /// Jobs, stages, tasks, executors and queries, and ids in lists of them (`--max-log-entries`).
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 64 << 30, entries: 2_000_000 }
    }
}

/// What a log says of an application, or a part of that.
#[derive(Debug, PartialEq)]
pub struct Piece {
    /// What it says; to be merged with the pieces before it.
    pub application: Application,
    /// Whether nothing more of this application follows; then its id is known.
    pub is_last: bool,
}

enum Stream<'l> {
    File(PathBuf),
    Open(PathBuf, Box<dyn Read + 'l>),
}

/// A log that is being read: one application, unless somebody put several logs together.
pub struct Log<'l> {
    name: PathBuf,
    /// Its first file.
    first: Option<PathBuf>,
    /// What is still to be read, the next one last.
    streams: Vec<Stream<'l>>,
    /// What is being read.
    lines: Option<(PathBuf, Box<dyn BufRead + 'l>)>,
    progress: &'l dyn Fn(u64),
    line: Vec<u8>,
    /// The application that the next line is about.
    building: Application,
    /// Bytes of the lines that it was made of.
    bytes: usize,
    /// An event of the next application.
    next: Option<Box<Event>>,
    has_pieces: bool,
    has_ended: bool,
    limits: Limits,
    /// Bytes of lines that were read.
    plain_bytes: u64,
    /// Entries that were read.
    entries: u64,
    /// Lines read.
    pub lines_read: u64,
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

/// How a file is packed, by its first bytes.
enum Packing {
    None,
    Zstd,
    Gzip,
    Zip,
}

impl Packing {
    fn of(head: &[u8]) -> Packing {
        match head {
            _ if head.starts_with(&ZSTD_MAGIC) => Packing::Zstd,
            [0x50..=0x5f, rest @ ..] if rest.starts_with(&SKIPPABLE_MAGIC) => Packing::Zstd,
            _ if head.starts_with(&GZIP_MAGIC) => Packing::Gzip,
            _ if head.starts_with(&ZIP_MAGIC) => Packing::Zip,
            _ => Packing::None,
        }
    }
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
            "{}: event logs packed with {extension} are not served (zstd, gzip and plain ones are; set \
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

impl<'l> Log<'l> {
    /// Opens a log. `progress` is told the number of (compressed) bytes of every step.
    pub fn open(source: &Source, progress: &'l dyn Fn(u64)) -> Log<'l> {
        if source.is_standard_input() {
            return Log::of(Path::new("standard input"), Box::new(io::stdin().lock()), progress);
        }
        let mut log = Log::new(&source.name, progress);
        log.first = source.files.first().cloned();
        log.streams = source.files.iter().rev().cloned().map(Stream::File).collect();
        log
    }

    /// The same log, held to these limits.
    pub fn within(mut self, limits: Limits) -> Log<'l> {
        self.limits = limits;
        self
    }

    /// One stream as a log, plain or packed.
    pub fn of(name: &Path, from: Box<dyn Read + 'l>, progress: &'l dyn Fn(u64)) -> Log<'l> {
        let mut log = Log::new(name, progress);
        log.streams.push(Stream::Open(name.to_owned(), from));
        log
    }

    fn new(name: &Path, progress: &'l dyn Fn(u64)) -> Log<'l> {
        Log {
            name: name.to_owned(),
            first: None,
            streams: Vec::new(),
            lines: None,
            progress,
            line: Vec::new(),
            building: Application::default(),
            bytes: 0,
            next: None,
            has_pieces: false,
            has_ended: false,
            limits: Limits::default(),
            plain_bytes: 0,
            entries: 0,
            lines_read: 0,
            bad_lines: 0,
            is_cut: false,
        }
    }

    /// What it says next, in some more than so many bytes of lines; `None` at its end.
    ///
    /// # Errors
    /// When it cannot be read, is packed with a codec that is not served, or is no event log; with its name.
    pub fn next_piece(&mut self, bytes: usize) -> Result<Option<Piece>, ReadError> {
        if let Some(event) = self.next.take() {
            let taken = self.building.take(*event);
            debug_assert!(taken.is_ok(), "a new application takes any start");
        }
        while let Some(event) = self.next_event()? {
            if let Err(next) = self.building.take(event) {
                self.next = Some(next);
                let application = std::mem::take(&mut self.building);
                return self.piece(application, true).map(Some);
            }
            if self.bytes >= bytes {
                let next = self.building.next_piece();
                let application = std::mem::replace(&mut self.building, next);
                return self.piece(application, false).map(Some);
            }
        }
        if std::mem::replace(&mut self.has_ended, true) {
            return Ok(None);
        }
        let application = std::mem::take(&mut self.building);
        if application == Application::default() && !self.has_pieces {
            let name = self.name.display();
            return Err(ReadError::NoLog(match (self.lines_read, self.is_cut) {
                (0, false) => format!("{name}: the event log is empty"),
                (_, true) => format!("{name}: the event log ends before its first event"),
                _ => format!("{name}: not a Spark event log"),
            }));
        }
        self.piece(application, true).map(Some)
    }

    /// A later rolling file alone has its application's id in its name only.
    fn piece(&mut self, mut application: Application, is_last: bool) -> Result<Piece, ReadError> {
        self.bytes = 0;
        self.has_pieces = true;
        if is_last && application.id.is_none() {
            application.id = self.first.as_deref().and_then(id_in_name);
            if application.id.is_none() {
                return Err(ReadError::NoLog(format!(
                    "{}: no application id (the line SparkListenerApplicationStart is missing)",
                    self.name.display()
                )));
            }
        }
        Ok(Piece { application, is_last })
    }

    /// The next event that says something.
    fn next_event(&mut self) -> Result<Option<Event>, ReadError> {
        loop {
            if self.lines.is_none() {
                let Some(stream) = self.streams.pop() else { return Ok(None) };
                self.lines = Some(self.unpacked(stream)?);
            }
            if !self.read_line()? {
                self.lines = None;
                continue;
            }
            let understood = understand(&self.line);
            if lenient::has_too_many_elements() {
                let line = self.lines_read;
                let message =
                    format!("line {line}: more than {MAX_ELEMENTS} elements in its lists");
                return Err(at(&self.name, &message));
            }
            match understood {
                Some(Event::Other) => {}
                Some(event) => {
                    self.bytes += self.line.len() + ENTRY_BYTES + ID_BYTES * event.ids();
                    self.count(&event)?;
                    return Ok(Some(event));
                }
                None if self.line.ends_with(b"\n") => self.bad_lines += 1,
                None => {
                    self.is_cut = true;
                    self.lines = None;
                }
            }
            let nothing = self.building == Application::default() && !self.has_pieces;
            if self.bad_lines > 100 && nothing {
                self.lines = None;
            }
        }
    }

    /// Counts what an event says, and refuses the log if it is too much.
    fn count(&mut self, event: &Event) -> Result<(), ReadError> {
        let ids = event.ids();
        self.entries += 1 + ids as u64;
        // Most have a start and an end.
        if self.entries > 2 * self.limits.entries {
            let most = self.limits.entries;
            let what = "jobs, stages, tasks, executors, queries and ids in their lists";
            return Err(at(
                &self.name,
                &format!(
                    "more than {most} {what}; if that is right: --max-log-entries with a larger number"
                ),
            ));
        }
        Ok(())
    }

    /// Lines of a stream, plain or packed.
    fn unpacked(&self, stream: Stream<'l>) -> Result<(PathBuf, Box<dyn BufRead + 'l>), ReadError> {
        let (path, from): (PathBuf, Box<dyn Read + 'l>) = match stream {
            Stream::Open(path, from) => (path, from),
            Stream::File(path) => {
                refuse_other_codecs(&path)?;
                let file = regular_file::open(&path).map_err(|error| at(&path, &error))?;
                (path, Box::new(file))
            }
        };
        let counted = Counted { inner: from, progress: self.progress };
        let mut raw = BufReader::with_capacity(1 << 16, counted);
        let head = raw.fill_buf().map_err(|error| at(&path, &error))?;
        let packed: Box<dyn Read + 'l> = match Packing::of(head) {
            Packing::None => return Ok((path, Box::new(raw))),
            Packing::Zip => {
                return Err(ReadError::Unreadable(format!(
                    "{}: a zip archive: unpack it and give the files in it",
                    path.display()
                )));
            }
            Packing::Gzip => Box::new(MultiGzDecoder::new(raw)),
            Packing::Zstd => {
                Box::new(zstd::Decoder::with_buffer(raw).map_err(|error| at(&path, &error))?)
            }
        };
        Ok((path, Box::new(BufReader::with_capacity(1 << 16, packed))))
    }

    /// Reads a line; `false` at the end of the stream. Of a line that is too long its beginning is read.
    fn read_line(&mut self) -> Result<bool, ReadError> {
        self.line.clear();
        let Some((path, lines)) = &mut self.lines else { return Ok(false) };
        let left = self.limits.bytes.saturating_sub(self.plain_bytes) + 1;
        let mut lines = lines.take(left);
        let mut read = lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line);
        if read.is_ok() && self.line.len() as u64 == MAX_LINE_BYTES && !self.line.ends_with(b"\n") {
            read = lines.skip_until(b'\n');
            self.line.truncate(LONG_LINE_BYTES);
            self.line.extend(b"}\n");
        }
        self.plain_bytes += left - lines.limit();
        if self.plain_bytes > self.limits.bytes {
            let most = self.limits.bytes;
            return Err(at(
                path,
                &format!(
                    "more than {most} bytes of lines; if that is right: --max-log-bytes with a larger number"
                ),
            ));
        }
        match read {
            Ok(_) => {}
            // A zstd frame that is still being written, or whose writer was killed.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.is_cut = true,
            Err(error)
                if self.lines_read > 0
                    && matches!(
                        error.kind(),
                        io::ErrorKind::Other | io::ErrorKind::InvalidData
                    ) =>
            {
                self.is_cut = true;
            }
            Err(error) => return Err(at(path, &error)),
        }
        self.lines_read += u64::from(!self.line.is_empty());
        Ok(!self.line.is_empty())
    }
}

/// The event on a line; `None` if the line is none. Events that are not needed are `Other`.
fn understand(line: &[u8]) -> Option<Event> {
    lenient::begin_line();
    // Spark writes the key first: most lines can be skipped without parsing them.
    if let Some(rest) = line.strip_prefix(b"{\"Event\":\"")
        && let Some(end) = rest.iter().position(|&byte| byte == b'"' || byte == b'\\')
        && rest[end] == b'"'
        && let Ok(name) = std::str::from_utf8(&rest[..end])
        && line.trim_ascii_end().ends_with(b"}")
        && let Ok(event) = Event::parse(name, line)
    {
        return Some(event);
    }
    if lenient::has_too_many_elements() {
        return None;
    }
    let read = |line: &[u8]| {
        let Name { event } = serde_json::from_slice(line)?;
        Event::parse(&event, line)
    };
    match read(line) {
        Ok(event) => Some(event),
        // Names may hold bytes that are no UTF-8.
        Err(_) => read(String::from_utf8_lossy(line).as_bytes()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "{\"Event\":\"SparkListenerApplicationStart\",\"App ID\":\"app-1\"}\n";

    fn job(id: i64) -> String {
        format!("{{\"Event\":\"SparkListenerJobEnd\",\"Job ID\":{id},\"Completion Time\":1}}\n")
    }

    fn read(mut log: Log<'_>) -> (Vec<i64>, u64, bool) {
        let piece = log.next_piece(PIECE_BYTES).unwrap().unwrap();
        assert!(piece.is_last && log.next_piece(PIECE_BYTES) == Ok(None));
        (piece.application.jobs.into_keys().collect(), log.bad_lines, log.is_cut)
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        for (event, bad_lines) in [("SparkListenerJobStart", 1), ("SparkListenerPlan", 0)] {
            let begin = format!("{START}{}{{\"Event\":\"{event}\",\"x\":\"", job(1));
            let end = format!("\"}}\n{}", job(2));
            let long = io::repeat(b'x').take(MAX_LINE_BYTES + 10);
            let lines = begin.as_bytes().chain(long).chain(end.as_bytes());
            let log = Log::of(Path::new("log"), Box::new(lines), &|_| {});
            assert_eq!(read(log), (vec![1, 2], bad_lines, false), "{event}");
        }
    }

    /// A driver that was killed while it wrote: what it wrote after the cut, started again, counts.
    #[test]
    fn a_rolling_file_that_is_cut_does_not_hide_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let files = [format!("{START}{}{{\"Event\":\"Spark", job(1)), job(2)];
        let mut source = Source { name: folder.path().into(), is_named: true, ..Source::default() };
        for (number, text) in files.iter().enumerate() {
            let path = folder.path().join(format!("events_{number}_app-1"));
            std::fs::write(&path, text).unwrap();
            source.files.push(path);
        }
        assert_eq!(read(Log::open(&source, &|_| {})), (vec![1, 2], 0, true));
    }

    #[test]
    fn packed_logs_are_known_by_their_first_bytes() {
        let text = format!("{START}{}", job(1));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
        // A frame that says nothing: magic, length 3, three bytes.
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd].concat();
        // Two members, as of logs that were put together.
        let members = [&gzip[..], &gzip].concat();
        for (what, bytes) in
            [("gzip", &gzip), ("zstd", &zstd), ("skippable", &skippable), ("members", &members)]
        {
            let log = Log::of(Path::new("log"), Box::new(bytes.as_slice()), &|_| {});
            assert_eq!(read(log), (vec![1], 0, false), "{what}");
        }
        let cut = &gzip[..gzip.len() - 4];
        let log = Log::of(Path::new("log"), Box::new(cut), &|_| {});
        assert_eq!(read(log), (vec![1], 0, true), "cut");
        let zip = b"PK\x03\x04and so on".as_slice();
        let error = Log::of(Path::new("a.zip"), Box::new(zip), &|_| {}).next_piece(1).unwrap_err();
        assert!(error.message().contains("a.zip: a zip archive: unpack it"), "{error:?}");
    }
}
