//! Finding and loading record files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use elf::regular_file;
use records::{
    Group, LeftOut, MAX_HEADER_BYTES, MAX_PIECE_TAIL_BYTES, RECORD_BYTES, ReadError, Segment,
    file_name,
};

/// A record file's bytes, as they were at the moment of loading.
///
/// They are copied, not mapped: the writer or somebody else may truncate the file at any time, and a
/// mapped page behind a file's end is SIGBUS.
#[derive(Debug)]
pub struct RecordFile {
    /// Where it was found.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl RecordFile {
    /// Loads a file.
    ///
    /// # Errors
    /// What the system says, with the path.
    pub fn load(path: &Path) -> Result<RecordFile, String> {
        match regular_file::read(path, MAX_LOADED_BYTES) {
            Ok(bytes) => Ok(RecordFile { path: path.to_owned(), bytes }),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Reads the header.
    ///
    /// # Errors
    /// Why it is not a readable segment, with the path.
    pub fn segment(&self) -> Result<Segment<'_>, String> {
        Segment::parse(&self.bytes).map_err(|error| explain(&self.path, error))
    }
}

/// A record file that is read in pieces: it may be of any size.
#[derive(Debug)]
pub struct RecordStream {
    path: PathBuf,
    file: File,
    head: Vec<u8>,
}

/// What was read of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Bytes of the file.
    pub bytes: u64,
    /// Sound groups.
    pub groups: u64,
    /// What was stepped over.
    pub left_out: LeftOut,
}

/// A file that is read as a whole has at most so many bytes.
const MAX_LOADED_BYTES: u64 = 1 << 30;
/// Size of the pieces, in bytes.
const PIECE_BYTES: usize = 1 << 20;
const _: () = assert!(PIECE_BYTES > 2 * MAX_PIECE_TAIL_BYTES);

impl RecordStream {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// Why it cannot be read or is no readable segment, with the path.
    pub fn open(path: &Path) -> Result<RecordStream, String> {
        let at = |error: io::Error| format!("{}: {error}", path.display());
        let file = regular_file::open(path).map_err(at)?;
        let mut head = vec![0; MAX_HEADER_BYTES];
        let mut length = fill(&file, &mut head, 0).map_err(at)?;
        loop {
            head.truncate(length);
            match Segment::parse(&head) {
                Ok(segment) => {
                    let records_at = segment.records_at();
                    head.truncate(records_at);
                    return Ok(RecordStream { path: path.to_owned(), file, head });
                }
                Err(ReadError::TooShort { needed, .. }) if needed > length => {
                    head.resize(needed, 0);
                    let longer = fill(&file, &mut head, 0).map_err(at)?;
                    if longer < needed {
                        // The file ends there.
                        head.truncate(longer);
                        let error = Segment::parse(&head).err();
                        return Err(error.map_or_else(String::new, |error| explain(path, error)));
                    }
                    length = longer;
                }
                Err(error) => return Err(explain(path, error)),
            }
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the system knows of the file, as of now.
    ///
    /// # Errors
    /// What the system says, with the path.
    pub fn metadata(&self) -> Result<fs::Metadata, String> {
        self.file.metadata().map_err(|error| format!("{}: {error}", self.path.display()))
    }

    /// The header's bytes.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The header.
    ///
    /// # Errors
    /// None: it was read when the file was opened.
    pub fn segment(&self) -> Result<Segment<'_>, String> {
        Segment::parse(&self.head).map_err(|error| explain(&self.path, error))
    }

    /// Reads all groups, each with its bytes, up to what is the end of the file by then.
    ///
    /// # Errors
    /// What the system says, with the path.
    pub fn read(
        &self,
        segment: &Segment<'_>,
        each: &mut dyn FnMut(&Group<'_>, &[u8]),
    ) -> Result<Read, String> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = self.head.len();
        let (mut rest, mut count) = (0, 0);
        let mut left_out = LeftOut::default();
        loop {
            let hole = hole_at(&self.file, at)
                .map_err(|error| format!("{}: {error}", self.path.display()))?;
            if hole > 0 {
                // Zeros are empty records, and what was carried over is a part of them.
                left_out = left_out.and(&LeftOut { empty: hole, ..LeftOut::default() });
                (at, rest) = (at + hole, 0);
            }
            let read = fill(&self.file, &mut piece[rest..], (at + rest) as u64)
                .map_err(|error| format!("{}: {error}", self.path.display()))?;
            let length = rest + read;
            let is_last = length < piece.len();
            let mut groups = segment.groups_in(&piece[..length], at, is_last);
            for group in groups.by_ref() {
                let from = group.offset - at;
                let more = usize::from(piece[from + 5]);
                each(&group, &piece[from..from + (1 + more) * RECORD_BYTES]);
                count += 1;
            }
            left_out = left_out.and(&groups.left_out());
            let next = groups.position();
            if is_last {
                return Ok(Read { bytes: (at + length) as u64, groups: count, left_out });
            }
            piece.copy_within(next - at..length, 0);
            rest = length - (next - at);
            at = next;
        }
    }
}

/// Bytes of whole records from here on that were never written, if they are more than some pieces: a file of a
/// terabyte may take no room. Those at the end of the file too, but for less than a piece.
///
/// # Errors
/// What the system says.
pub fn hole_at(file: &File, at: usize) -> io::Result<usize> {
    let end = file.metadata()?.len();
    let data = match regular_file::next_data(file, at as u64) {
        Ok(data) => data.unwrap_or(end),
        // Some file systems do not know.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(0),
        Err(error) => return Err(error),
    };
    let hole = data.saturating_sub(at as u64) as usize;
    Ok(if hole > 2 * PIECE_BYTES { hole / RECORD_BYTES * RECORD_BYTES - PIECE_BYTES } else { 0 })
}

/// Reads until the buffer is full or the file ends; the number of bytes.
fn fill(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn explain(path: &Path, error: ReadError) -> String {
    format!("{}: {error}", path.display())
}

/// Record files below paths that somebody has named.
#[derive(Debug, Default)]
pub struct Listing {
    /// The files, sorted, without doubles.
    pub files: Vec<PathBuf>,
    /// What was not looked at, and why: everybody may put something into a folder that all write to, and it must not keep
    /// the others' files from being read.
    pub left_out: Vec<String>,
}

/// Folders in folders that are looked at; collectors make two or three.
const MAX_DEPTH: usize = 16;

/// All files below the paths: a path that is a file itself is always one of them, in a folder only names of record files
/// count.
///
/// # Errors
/// The first path that does not exist or cannot be listed, and why.
pub fn find(paths: &[PathBuf]) -> Result<Listing, String> {
    let mut found = Listing::default();
    for path in paths {
        let at = |error: io::Error| format!("{}: {error}", path.display());
        if fs::metadata(path).map_err(at)?.is_dir() {
            find_below(path, MAX_DEPTH, &mut found).map_err(at)?;
        } else {
            found.files.push(path.clone());
        }
    }
    found.files.sort();
    found.files.dedup();
    Ok(found)
}

fn find_below(folder: &Path, depth: usize, found: &mut Listing) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let mut leave_out =
            |why: &dyn std::fmt::Display| found.left_out.push(format!("{}: {why}", path.display()));
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            // Gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                leave_out(&error);
                continue;
            }
        };
        if kind.is_dir() {
            if depth == 0 {
                leave_out(&format_args!("more than {MAX_DEPTH} folders in each other"));
            } else if let Err(error) = find_below(&path, depth - 1, found) {
                found.left_out.push(format!("{}: {error}", path.display()));
            }
        } else if entry.file_name().to_str().is_some_and(|name| file_name::parse(name).is_some()) {
            // A link leads to a file that whoever made it may not be able to read, and we are.
            if kind.is_symlink() {
                leave_out(&"a symbolic link; name the file that it leads to");
            } else {
                found.files.push(path);
            }
        }
    }
    Ok(())
}

/// Says how many bytes were left out, and why.
pub fn describe(left_out: &LeftOut) -> String {
    let reasons = reasons(left_out).into_iter().filter(|(_, bytes)| *bytes > 0);
    let list: Vec<_> = reasons.map(|(reason, bytes)| format!("{bytes} {reason}")).collect();
    format!("{} bytes ({})", left_out.total(), list.join(", "))
}

fn reasons(left_out: &LeftOut) -> [(&'static str, usize); 5] {
    [
        ("damaged", left_out.damaged),
        ("never written", left_out.empty),
        ("of incomplete groups", left_out.incomplete),
        ("of unknown kinds", left_out.unknown),
        ("torn off at the end", left_out.torn_tail),
    ]
}
