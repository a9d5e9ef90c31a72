//! The record files of this process: opened, filled, rotated and given up by the ticker alone.
//!
//! # Design
//!
//! - A file is made with O_EXCL and O_NOFOLLOW, mode 0640, in a directory that is not writable by
//!   everybody unless it is sticky. A group is one `pwrite` at our own offset.
//! - Some space ahead of the offset is reserved with fallocate, so that on a full file system the notice
//!   and the process's end still fit: recording stops at the reserve, not at the last byte.
//! - Before each batch the file is looked at: if somebody deleted, truncated or replaced it, a new segment
//!   is begun, which repeats header and totals. A truncated file is not written to any more: a hole
//!   would take space for nothing.

use crate::{
    identity::Identity,
    log::{self, Level},
    recorder, sys,
};
use alloc::{ffi::CString, vec, vec::Vec};
use core::ffi::CStr;
use guest::budget::{Budget, Weight};
use records::{Event, Flags, MAX_GROUP_BYTES, MAX_HEADER_BYTES, encode_group, file_name, notice};

const O_WRONLY: u64 = 1;
const O_CREAT: u64 = 0o100;
const O_EXCL: u64 = 0o200;
const O_DIRECTORY: u64 = 0o200_000;
const O_NOFOLLOW: u64 = 0o400_000;
const O_CLOEXEC: u64 = 0o2_000_000;
const FALLOC_FL_KEEP_SIZE: u64 = 1;
/// Space that is reserved ahead; at least half of it stays free for the last groups.
const RESERVE: u64 = 16 * 1024;
const ENOENT: i64 = -2;
/// Between two looks at the directory's size.
const LOOK_NS: u64 = 60_000_000_000;

struct Open {
    fd: i32,
    device: u64,
    inode: u64,
    offset: u64,
    reserved: u64,
}

/// The writer's state.
pub struct Segments {
    file: Option<Open>,
    next: u32,
    stopped: bool,
    budget: Budget,
    looked_at: u64,
    told_process: bool,
    told_directory: bool,
    told_left_out: bool,
    disturbed: Option<u64>,
    queue: Vec<u8>,
}

impl Segments {
    /// Nothing is opened yet.
    pub fn new(identity: &Identity) -> Segments {
        let settings = &identity.settings;
        Segments {
            file: None,
            next: 0,
            stopped: false,
            budget: Budget {
                process_limit: settings.max_bytes_per_process.0,
                process_used: 0,
                directory_limit: settings.max_bytes_per_directory.0,
                directory_used: 0,
            },
            looked_at: 0,
            told_process: false,
            told_directory: false,
            told_left_out: false,
            disturbed: None,
            queue: Vec::new(),
        }
    }

    /// Writes what waits in the recorder's queue.
    pub fn write_queue(&mut self, identity: &Identity, tick: u64, now: u64) {
        if self.stopped {
            recorder::drain(&mut self.queue, false);
            return;
        }
        self.look_at_file();
        self.look_at_directory(identity, now);
        let full =
            self.file.as_ref().is_some_and(|file| file.offset >= identity.settings.segment_bytes.0);
        let begin = self.file.is_none() || full;
        let mut queue = core::mem::take(&mut self.queue);
        let middle = recorder::drain(&mut queue, begin);
        if begin && self.file.is_none() {
            // What waited comes after the segment's beginning: nothing was written before it.
            self.open_next(identity);
            self.write_entries(&queue[..middle], tick);
            self.write_entries(&queue[middle..], tick);
        } else {
            self.write_entries(&queue[..middle], tick);
            if begin {
                self.close();
                self.open_next(identity);
                self.write_entries(&queue[middle..], tick);
            }
        }
        self.queue = queue;
        self.tell_limits();
    }

    fn write_entries(&mut self, entries: &[u8], tick: u64) {
        for (weight, group) in recorder::entries(entries) {
            if self.stopped {
                return;
            }
            if self.budget.allows(weight, tick) {
                self.write_group(group, weight);
            } else if weight == Weight::Major && !self.told_left_out {
                self.told_left_out = true;
                self.tell_left_out();
            }
        }
    }

    /// What is left out from here on may be a child, or a notice that something is not counted.
    fn tell_left_out(&mut self) {
        let text = b"at twice a size limit: ends of threads, children, programs, notices";
        let event = Event::Notice { code: notice::TABLE_FULL, a: 0, b: 0, text };
        let mut group = vec![0; MAX_GROUP_BYTES];
        let stamp = crate::clock::stamp();
        if let Ok(length) = encode_group(&mut group, u32::MAX, stamp, 0, Flags::NONE, &event, None)
        {
            self.write_group(&group[..length], Weight::Last);
        }
    }

    fn write_group(&mut self, group: &[u8], weight: Weight) {
        let Some(file) = &mut self.file else { return };
        let needed = file.offset + group.len() as u64;
        if weight != Weight::Last && needed + RESERVE / 2 > file.reserved {
            let more = needed + RESERVE;
            // SAFETY: our own descriptor; changes only the file's reserved space.
            let result =
                unsafe { sys::call4(nr::FALLOCATE, file.fd as u64, FALLOC_FL_KEEP_SIZE, 0, more) };
            match result {
                sys::ENOSPC | sys::EDQUOT => return self.stop(notice::DISK_FULL, result),
                // A file system without fallocate: the write itself tells when it is full.
                _ => file.reserved = more,
            }
        }
        match write_at(file.fd, group, file.offset) {
            Ok(()) => {
                file.offset = needed;
                self.budget.spend(group.len() as u64);
            }
            Err(error @ (sys::ENOSPC | sys::EDQUOT)) => self.stop(notice::DISK_FULL, error),
            Err(error) => self.stop(notice::WRITE_FAILED, error),
        }
    }

    /// Recording stops: the reason and the process's last totals go into the reserve.
    fn stop(&mut self, code: u16, error: i64) {
        self.stopped = true;
        log::line(Level::Error, format_args!("recording stops: {}", errno_text(error)));
        let Some(file) = &self.file else { return };
        let (fd, offset) = (file.fd, file.offset);
        truncate(fd, offset);
        let a = if code == notice::DISK_FULL { offset } else { error.unsigned_abs() };
        let event = Event::Notice { code, a, b: 0, text: b"" };
        let mut group = vec![0; MAX_GROUP_BYTES];
        let stamp = crate::clock::stamp();
        if let Ok(length) = encode_group(&mut group, u32::MAX, stamp, 0, Flags::NONE, &event, None)
            && write_at(fd, &group[..length], offset).is_err()
        {
            truncate(fd, offset);
        }
        self.close();
    }

    fn close(&mut self) {
        if let Some(file) = self.file.take() {
            // Gives back what was reserved and not used.
            if file.reserved > file.offset {
                truncate_to_same_size(file.fd, file.offset);
            }
            sys::close(file.fd);
        }
    }

    /// Ends the files: the process ends or pauses its ticker.
    pub fn finish(&mut self) {
        self.close();
    }

    /// Whether the file is still the one that was opened, as long as we left it.
    fn look_at_file(&mut self) {
        let Some(file) = &self.file else { return };
        let status = sys::fstat(file.fd as u64).unwrap_or_default();
        let same = status.device == file.device && status.inode == file.inode;
        if same && status.links > 0 && status.size == file.offset {
            return;
        }
        log::line(
            Level::Warn,
            format_args!("the record file was deleted or changed by somebody else"),
        );
        self.disturbed = Some(status.size);
        if let Some(file) = self.file.take() {
            sys::close(file.fd);
        }
    }

    fn look_at_directory(&mut self, identity: &Identity, now: u64) {
        if self.looked_at == 0 || now.saturating_sub(self.looked_at) > LOOK_NS {
            self.looked_at = now;
            if let Some(bytes) = directory_bytes(&identity.output_dir) {
                self.budget.directory_used = bytes;
            }
        }
    }

    fn tell_limits(&mut self) {
        let budget = &self.budget;
        if budget.process_thinned() && !self.told_process {
            self.told_process = true;
            tell_limit(notice::PROCESS_SIZE_LIMIT, budget.process_limit);
        }
        if budget.directory_thinned() && !self.told_directory {
            self.told_directory = true;
            tell_limit(notice::DIRECTORY_SIZE_LIMIT, budget.directory_limit);
        }
    }

    fn open_next(&mut self, identity: &Identity) {
        match self.try_open(identity) {
            Ok(()) => {}
            // The trace has ended, and its folder with it: nobody waits for what goes on.
            Err(ENOENT) if identity.is_traced => self.stopped = true,
            Err(error) => {
                self.stopped = true;
                log::line(
                    Level::Error,
                    format_args!(
                        "cannot write records to {}: {}; nothing is recorded",
                        identity.output_dir.to_string_lossy(),
                        errno_text(error)
                    ),
                );
            }
        }
    }

    fn try_open(&mut self, identity: &Identity) -> Result<(), i64> {
        let directory = open_directory(&identity.output_dir, !identity.is_traced)?;
        let mut name = [0u8; 256];
        let result = file_name::encode(
            &mut name[..255],
            &identity.file_prefix,
            &identity.process_id,
            self.next,
        );
        let fd = match result {
            Ok(_) => {
                let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
                // SAFETY: the name is NUL-terminated: the array was zero and its last byte was kept.
                unsafe {
                    sys::call4(nr::OPENAT, directory as u64, name.as_ptr() as u64, flags, 0o640)
                }
            }
            Err(_) => -36, // ENAMETOOLONG
        };
        sys::close(directory);
        if sys::failed(fd) {
            return Err(fd);
        }
        let fd = fd as i32;
        let mut buffer = vec![0; MAX_HEADER_BYTES];
        let header = identity.header(self.next);
        let length = header.encode(&mut buffer).unwrap_or_default();
        // SAFETY: our own descriptor; reserves space only. A failure shows in the write.
        unsafe {
            sys::call4(nr::FALLOCATE, fd as u64, FALLOC_FL_KEEP_SIZE, 0, length as u64 + RESERVE)
        };
        if let Err(error) = write_at(fd, &buffer[..length], 0) {
            truncate(fd, 0);
            sys::close(fd);
            return Err(error);
        }
        let status = sys::fstat(fd as u64).unwrap_or_default();
        self.next += 1;
        self.file = Some(Open {
            fd,
            device: status.device,
            inode: status.inode,
            offset: length as u64,
            reserved: length as u64 + RESERVE,
        });
        self.budget.spend(length as u64);
        if let Some(size) = self.disturbed.take() {
            recorder::notice(
                0,
                notice::FILE_DISTURBED,
                size,
                0,
                format_args!("the segment before was deleted or changed by somebody else"),
            );
        }
        log::line(Level::Debug, format_args!("segment {} begun", self.next - 1));
        Ok(())
    }
}

use crate::sys::nr;

fn tell_limit(code: u16, limit: u64) {
    log::line(
        Level::Warn,
        format_args!("near a size limit of {limit} bytes: snapshots become rare"),
    );
    recorder::last_notice(code, limit, format_args!("periodic snapshots become rare, then stop"));
}

/// One `pwrite` per group; a short write (a full disk) is finished or undone by the caller.
fn write_at(fd: i32, bytes: &[u8], offset: u64) -> Result<(), i64> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        // SAFETY: the slice is readable for its length.
        let result = unsafe {
            sys::call4(
                nr::PWRITE64,
                fd as u64,
                rest.as_ptr() as u64,
                rest.len() as u64,
                offset + done as u64,
            )
        };
        match result {
            sys::EINTR => {}
            0 => return Err(sys::ENOSPC),
            error if error < 0 => return Err(error),
            written => done += written as usize,
        }
    }
    Ok(())
}

fn truncate(fd: i32, size: u64) {
    // SAFETY: our own descriptor and file.
    unsafe { sys::call2(nr::FTRUNCATE, fd as u64, size) };
}

/// ftruncate to the size that the file has frees the blocks reserved behind its end.
fn truncate_to_same_size(fd: i32, size: u64) {
    if sys::fstat(fd as u64).is_some_and(|status| status.size == size) {
        truncate(fd, size);
    }
}

/// Opens the output directory, made if it is missing and may be made; refuses one where anybody could replace our files.
fn open_directory(path: &CStr, may_make: bool) -> Result<i32, i64> {
    const EPERM: i64 = -1;
    const WORLD_WRITABLE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let mut fd = sys::open(path, O_DIRECTORY | O_CLOEXEC, 0);
    if fd == ENOENT && may_make {
        // SAFETY: the path is NUL-terminated and only read.
        unsafe { sys::call2(nr::MKDIR, path.as_ptr() as u64, 0o750) };
        fd = sys::open(path, O_DIRECTORY | O_CLOEXEC, 0);
    }
    if sys::failed(fd) {
        return Err(fd);
    }
    let mode = sys::fstat(fd as u64).unwrap_or_default().mode;
    if mode & WORLD_WRITABLE != 0 && mode & STICKY == 0 {
        sys::close(fd as i32);
        log::line(Level::Error, format_args!("output_dir is writable by everybody and not sticky"));
        return Err(EPERM);
    }
    Ok(fd as i32)
}

/// The sizes of the record files in a directory, added up.
fn directory_bytes(path: &CStr) -> Option<u64> {
    let fd = sys::open(path, O_DIRECTORY | O_CLOEXEC, 0);
    if sys::failed(fd) {
        return None;
    }
    let mut total = 0;
    let mut buffer = vec![0u8; 16 * 1024];
    loop {
        // SAFETY: the kernel writes within the buffer only.
        let count = unsafe {
            sys::call3(nr::GETDENTS64, fd as u64, buffer.as_mut_ptr() as u64, buffer.len() as u64)
        };
        if count <= 0 {
            break;
        }
        let mut rest = &buffer[..count as usize];
        // struct linux_dirent64: inode 8, offset 8, length 2, type 1, name.
        while rest.len() > 19 {
            let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
            if let Some(name) =
                rest.get(19..length).and_then(|name| CStr::from_bytes_until_nul(name).ok())
                && name.to_bytes().ends_with(b".sar")
            {
                total += size_at(fd as u64, name);
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    sys::close(fd as i32);
    Some(total)
}

fn size_at(directory: u64, name: &CStr) -> u64 {
    sys::stat_at(directory, name).map_or(0, |status| status.size)
}

/// The words for the errors that a user can do something about.
fn errno_text(error: i64) -> &'static str {
    match -error {
        1 => "not permitted",
        2 => "no such directory",
        5 => "input/output error",
        13 => "permission denied",
        20 => "not a directory",
        24 => "too many open files",
        27 => "file too large",
        28 => "no space left on device",
        30 => "read-only file system",
        36 => "file name too long",
        40 => "too many symbolic links",
        122 => "disk quota exceeded",
        _ => "the system refused",
    }
}

/// A path as a C string; what follows a NUL is left away.
pub fn c_path(mut path: Vec<u8>) -> CString {
    if let Some(end) = path.iter().position(|&byte| byte == 0) {
        path.truncate(end);
    }
    CString::new(path).unwrap_or_default()
}
