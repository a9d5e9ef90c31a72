//! Carrying out a plan: one file becomes another.
//!
//! The input is opened for reading only. The output is written under a temporary name in its own folder and
//! takes its own name when it is complete and on the disk.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use object::read::ReadCache;

use crate::image::Image;
use crate::layout::Layout;
use crate::plan::{self, Plan, Refusal};
use crate::regular_file::{self, data_end, next_data};

/// How much is copied at a time.
const CHUNK: usize = 1 << 20;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not one to rewrite.
    #[error("{}: {why}", path.display())]
    Refused {
        /// The input.
        path: PathBuf,
        /// The reason.
        why: Refusal,
    },
    /// The input cannot be read.
    #[error("{}: {why}", path.display())]
    Input {
        /// The input.
        path: PathBuf,
        /// The system's message.
        why: String,
    },
    /// The output cannot be written.
    #[error("{}: {why}", path.display())]
    Output {
        /// The output.
        path: PathBuf,
        /// The system's message.
        why: String,
    },
}

/// What is to be done with a file.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Make it need a library of this name before all others.
    AddNeeded {
        /// The name, as the dynamic loader will look for it.
        name: &'a [u8],
        /// Also if it runs with other rights than its caller's.
        allow_setuid: bool,
    },
    /// Give back the original.
    Undo,
}

/// A file and the plan for changing it.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    file: File,
    /// What is going to change.
    pub plan: Plan,
    /// The length of the input.
    pub length: u64,
}

/// Reads `path` and plans the change; nothing is written.
///
/// # Errors
/// When the file cannot be read, or is not one to change in this way.
pub fn prepare(path: &Path, change: Change<'_>) -> Result<Prepared, Error> {
    let unreadable =
        |error: io::Error| Error::Input { path: path.to_owned(), why: error.to_string() };
    let refused = |why| Error::Refused { path: path.to_owned(), why };
    let file = regular_file::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    let image = Image::read(&file).map_err(|why| refused(Refusal::Malformed(why)))?;
    if !image.is_x86_64() {
        return Err(refused(Refusal::Foreign));
    }
    let cache = ReadCache::new(&file);
    let layout = Layout::read(&cache).map_err(|why| refused(Refusal::Malformed(why)))?;
    let plan = match change {
        Change::Undo => plan::undo(&layout).map_err(refused)?,
        Change::AddNeeded { name, allow_setuid } => {
            let plan = plan::add_needed(&layout, name).map_err(refused)?;
            if let Some(rights) = privilege(&file, found.mode()).filter(|_| !allow_setuid) {
                return Err(refused(Refusal::Privileged(rights)));
            }
            if extended_attribute(&file, c"security.ima").is_ok() {
                return Err(refused(Refusal::Signed("attribute security.ima".to_owned())));
            }
            let end = layout.contents_end();
            if has_data_after(&file, end).map_err(unreadable)? {
                return Err(refused(Refusal::Trailing(layout.length - end)));
            }
            plan
        }
    };
    let length = layout.length;
    drop(cache);
    Ok(Prepared { path: path.to_owned(), file, plan, length })
}

/// The library that a rewritten program needs, by the name that it has there; `None` for any other file.
pub fn needed_shim(path: &Path) -> Option<PathBuf> {
    let cache = ReadCache::new(regular_file::open(path).ok()?);
    let dynamic = Layout::read(&cache).ok()?.dynamic().ok()??;
    let names =
        dynamic.strings_of(object::elf::DT_NEEDED).map(OsStr::from_bytes).map(PathBuf::from);
    names.into_iter().find(|name| name.file_name() == Some(OsStr::from_bytes(plan::SHIM_NAME)))
}

impl Prepared {
    /// Writes the changed file with the input's mode, owner and extended attributes. Returns what of these
    /// could not be kept.
    ///
    /// # Errors
    /// When it cannot be written; nothing of it is left then.
    pub fn write(&self, output: &Path) -> Result<Vec<String>, Error> {
        let unwritable =
            |error: io::Error| Error::Output { path: output.to_owned(), why: error.to_string() };
        let unreadable =
            |error: io::Error| Error::Input { path: self.path.clone(), why: error.to_string() };
        let before = self.file.metadata().map_err(unreadable)?;
        if output
            .metadata()
            .is_ok_and(|there| (there.dev(), there.ino()) == (before.dev(), before.ino()))
        {
            let why = "is the input, which is never changed; name another file".to_owned();
            return Err(Error::Output { path: output.to_owned(), why });
        }
        if output.is_dir() {
            return Err(Error::Output { path: output.to_owned(), why: "is a folder".to_owned() });
        }
        let folder =
            output.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let new = tempfile::Builder::new()
            .prefix(".analyzer-rewrite-")
            .tempfile_in(folder)
            .map_err(unwritable)?;
        copy(&self.file, new.as_file(), self.plan.kept).map_err(|error| match error {
            Copying::Read(error) => unreadable(error),
            Copying::Write(error) => unwritable(error),
        })?;
        let write = || {
            new.as_file().set_len(self.plan.length())?;
            for patch in &self.plan.patches {
                new.as_file().write_all_at(&patch.new, patch.offset)?;
            }
            new.as_file().write_all_at(&self.plan.appended, self.plan.offset)
        };
        write().map_err(unwritable)?;
        let after = self.file.metadata().map_err(unreadable)?;
        let state = |found: &std::fs::Metadata| (found.len(), found.mtime(), found.mtime_nsec());
        if state(&before) != state(&after) {
            let why = "was changed by someone else meanwhile; try again".to_owned();
            return Err(Error::Input { path: self.path.clone(), why });
        }
        let lost = keep_rights(&self.file, &before, new.as_file()).map_err(unwritable)?;
        new.as_file().sync_all().map_err(unwritable)?;
        new.persist(output).map_err(|error| unwritable(error.error))?;
        Ok(lost)
    }
}

enum Copying {
    Read(io::Error),
    Write(io::Error),
}

/// Copies the first `length` bytes; holes stay holes.
fn copy(from: &File, to: &File, length: u64) -> Result<(), Copying> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while let Some(start) =
        next_data(from, at).map_err(Copying::Read)?.filter(|start| *start < length)
    {
        at = start;
        let end = data_end(from, at).map_err(Copying::Read)?.min(length);
        while at < end {
            let part = ((end - at) as usize).min(CHUNK);
            from.read_exact_at(&mut buffer[..part], at).map_err(Copying::Read)?;
            to.write_all_at(&buffer[..part], at).map_err(Copying::Write)?;
            at += part as u64;
        }
    }
    Ok(())
}

/// Whether there is anything but zeros from `start` to the end.
fn has_data_after(file: &File, start: u64) -> io::Result<bool> {
    let mut at = start;
    let mut buffer = vec![0; CHUNK];
    while let Some(start) = next_data(file, at)? {
        let end = data_end(file, start)?;
        let mut part = file;
        part.seek(SeekFrom::Start(start))?;
        let mut part = part.take(end - start);
        loop {
            let count = part.read(&mut buffer)?;
            if buffer[..count].iter().any(|&byte| byte != 0) {
                return Ok(true);
            }
            if count == 0 {
                break;
            }
        }
        at = end;
    }
    Ok(false)
}

/// What makes a program run with other rights than its caller's.
fn privilege(file: &File, mode: u32) -> Option<&'static str> {
    let group_bits = libc::S_ISGID | libc::S_IXGRP;
    if mode & libc::S_ISUID != 0 {
        Some("set-uid")
    } else if mode & group_bits == group_bits {
        Some("set-gid")
    } else if extended_attribute(file, c"security.capability").is_ok() {
        Some("a program with file capabilities")
    } else {
        None
    }
}

/// Gives `new` the owner, extended attributes and mode of the original; returns what could not be kept.
fn keep_rights(original: &File, found: &std::fs::Metadata, new: &File) -> io::Result<Vec<String>> {
    let mut lost = Vec::new();
    let own = new.metadata()?;
    let mut mode = found.mode() & 0o7777;
    let is_owners = (own.uid(), own.gid()) == (found.uid(), found.gid());
    if !is_owners && let Err(error) = fchown(new, Some(found.uid()), Some(found.gid())) {
        lost.push(format!("its owner {}:{} ({error})", found.uid(), found.gid()));
        // Set-uid would now mean another user.
        mode &= 0o777;
    }
    for name in attribute_names(original)? {
        let value = extended_attribute(original, &name)?;
        if let Err(error) = set_attribute(new, &name, &value) {
            lost.push(format!("its attribute {} ({error})", name.to_string_lossy()));
        }
    }
    // Last: a change of the owner takes set-uid away.
    new.set_permissions(std::fs::Permissions::from_mode(mode))?;
    Ok(lost)
}

fn attribute_names(file: &File) -> io::Result<Vec<CString>> {
    let list = |buffer: &mut [u8]| {
        // SAFETY: the kernel writes at most as many bytes as the buffer has.
        unsafe { libc::flistxattr(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
    };
    let names = match fill(list) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

fn extended_attribute(file: &File, name: &CStr) -> io::Result<Vec<u8>> {
    fill(|buffer| {
        // SAFETY: the name is NUL-terminated; the kernel writes at most as many bytes as the buffer has.
        unsafe {
            libc::fgetxattr(
                file.as_raw_fd(),
                name.as_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        }
    })
}

/// Asks for a size, then for as many bytes.
fn fill(ask: impl Fn(&mut [u8]) -> isize) -> io::Result<Vec<u8>> {
    let size = usize::try_from(ask(&mut [])).map_err(|_| io::Error::last_os_error())?;
    let mut buffer = vec![0; size];
    if size > 0 {
        let size = usize::try_from(ask(&mut buffer)).map_err(|_| io::Error::last_os_error())?;
        buffer.truncate(size);
    }
    Ok(buffer)
}

fn set_attribute(file: &File, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated, and the value has as many bytes as said.
    let result = unsafe {
        libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
