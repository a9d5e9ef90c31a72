//! The record files of this process: opened, filled, rotated and given up by the ticker alone.
//!
//! # Design
//!
//! - A file is made with O_EXCL and O_NOFOLLOW, mode 0640, in a folder that nobody else can change
//!   ([`crate::files::output_folder`]). A group is one `pwrite` at our own offset.
//! - Some space ahead of the offset is reserved with fallocate, so that on a full file system the notice
//!   and the process's end still fit: recording stops at the reserve, not at the last byte.
//! - Before each batch the file is looked at: if somebody deleted, truncated or replaced it, a new segment
//!   is begun, which repeats header and totals. A truncated file is not written to any more: a hole
//!   would take space for nothing.

use crate::{
    base::{
        file,
        sys::{self, nr},
    },
    files::{
        log::{self, Level},
        output_folder,
        trusted::{self, Refusal, make_file},
    },
    process::identity::Identity,
    record::{queue, recorder},
};
use alloc::{vec, vec::Vec};
use core::ffi::CStr;
use engine::sys::optional;
use guest::budget::{Budget, Weight};
use records::{Event, Flags, MAX_GROUP_BYTES, MAX_HEADER_BYTES, encode_group, file_name, notice};

const FALLOC_FL_KEEP_SIZE: u64 = 1;
/// Space that is reserved ahead; at least half of it stays free for the last groups.
const RESERVE: u64 = 16 * 1024;
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
    /// No other file can be begun.
    stays: bool,
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
            stays: false,
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
        let full = !self.stays
            && self
                .file
                .as_ref()
                .is_some_and(|file| file.offset >= identity.settings.segment_bytes.0);
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
                self.change_file(identity);
                self.write_entries(&queue[middle..], tick);
            }
        }
        self.queue = queue;
        self.tell_limits();
    }

    fn write_entries(&mut self, entries: &[u8], tick: u64) {
        for (weight, group) in queue::entries(entries) {
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
        let stamp = crate::base::clock::stamp();
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
            match reserve(file.fd, more) {
                result @ (sys::ENOSPC | sys::EDQUOT) => {
                    return self.stop(notice::DISK_FULL, result);
                }
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
        log::line(Level::Error, format_args!("recording stops: {}", file::error_text(error)));
        let Some(file) = &self.file else { return };
        let (fd, offset) = (file.fd, file.offset);
        truncate(fd, offset);
        let a = if code == notice::DISK_FULL { offset } else { error.unsigned_abs() };
        let event = Event::Notice { code, a, b: 0, text: b"" };
        let mut group = vec![0; MAX_GROUP_BYTES];
        let stamp = crate::base::clock::stamp();
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
            close(file.fd);
        }
    }

    /// Ends the files: the process ends or pauses its ticker.
    pub fn finish(&mut self) {
        self.close();
    }

    /// Whether the file is still the one that was opened, as long as we left it.
    fn look_at_file(&mut self) {
        let Some(file) = &self.file else { return };
        let Some(status) = status_of(file.fd) else { return };
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
            file::close(file.fd);
        }
    }

    fn look_at_directory(&mut self, identity: &Identity, now: u64) {
        if self.looked_at == 0 || now.saturating_sub(self.looked_at) > LOOK_NS {
            self.looked_at = now;
            if may(nr::OPENAT)
                && may(nr::GETDENTS64)
                && may(nr::NEWFSTATAT)
                && let Some(bytes) = identity.output_folder.bytes()
            {
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

    /// Goes on in a new segment; in the present one if the right to make files was given up meanwhile.
    fn change_file(&mut self, identity: &Identity) {
        let before = self.file.take();
        match self.try_open(identity) {
            Ok(()) => {
                let new = core::mem::replace(&mut self.file, before);
                self.close();
                self.file = new;
            }
            Err(refusal) => {
                self.file = before;
                self.stays = true;
                log::line(Level::Warn, format_args!("no next record file: {refusal}"));
            }
        }
    }

    fn open_next(&mut self, identity: &Identity) {
        match self.try_open(identity) {
            Ok(()) => {}
            // The trace has ended, and its folder with it: nobody waits for what goes on.
            Err(Refusal::Error(sys::ENOENT)) if identity.is_traced => self.stopped = true,
            Err(refusal) => {
                self.stopped = true;
                if self.next == 0 {
                    output_folder::tell(&identity.output_folder, &refusal);
                } else {
                    log::line(Level::Error, format_args!("recording stops: {refusal}"));
                }
            }
        }
    }

    fn try_open(&mut self, identity: &Identity) -> Result<(), Refusal> {
        const EPERM: i64 = -1;
        const EEXIST: i64 = -17;
        /// Segments that are looked for.
        const MAX_FOUND: u32 = 1000;
        if ![nr::OPENAT, nr::CLOSE, nr::FSTAT].into_iter().all(may) {
            return Err(Refusal::Error(EPERM));
        }
        trusted::look_at_user();
        let folder = identity.output_folder.open(!identity.is_traced)?;
        let mut made = make_segment(identity, folder, self.next);
        // A helper that was killed has left its files, and not how many.
        while matches!(made, Err(Refusal::Error(EEXIST))) && self.next < MAX_FOUND {
            self.next += 1;
            made = make_segment(identity, folder, self.next);
        }
        file::close(folder);
        let (fd, status) = made?;
        let mut buffer = vec![0; MAX_HEADER_BYTES];
        let header = identity.header(self.next);
        let Ok(length) = header.encode(&mut buffer) else {
            file::close(fd);
            return Err(Refusal::Header);
        };
        // A failure shows in the write.
        reserve(fd, length as u64 + RESERVE);
        if let Err(error) = write_at(fd, &buffer[..length], 0) {
            truncate(fd, 0);
            file::close(fd);
            return Err(Refusal::Error(error));
        }
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

/// Makes the file of a segment.
fn make_segment(
    identity: &Identity,
    folder: i32,
    segment: u32,
) -> Result<(i32, file::Status), Refusal> {
    const ENAMETOOLONG: i64 = -36;
    let mut name = [0u8; 256];
    let (prefix, id) = (&identity.file_prefix, &identity.process_id);
    let result = file_name::encode(&mut name[..255], prefix, id, segment);
    match (result, CStr::from_bytes_until_nul(&name)) {
        (Ok(_), Ok(name)) => make_file(folder as u64, name, 0),
        _ => Err(Refusal::Error(ENAMETOOLONG)),
    }
}

fn truncate(fd: i32, size: u64) {
    // SAFETY: our own descriptor and file.
    unsafe { optional(nr::FTRUNCATE, [fd as u64, size, 0, 0, 0, 0]) };
}

/// Reserves space up to an offset behind the file's end; the kernel's answer.
fn reserve(fd: i32, up_to: u64) -> i64 {
    // SAFETY: our own descriptor; changes only the file's reserved space.
    unsafe { optional(nr::FALLOCATE, [fd as u64, FALLOC_FL_KEEP_SIZE, 0, up_to, 0, 0]) }
}

/// Whether no filter of the process's, which is its helper's too, forbids a call.
fn may(number: u64) -> bool {
    engine::seccomp::allows(number, &[0; 6])
}

fn close(fd: i32) {
    if may(nr::CLOSE) {
        file::close(fd);
    }
}

/// What our own descriptor stands for; `None` where that cannot be asked.
fn status_of(fd: i32) -> Option<file::Status> {
    may(nr::FSTAT).then(|| file::fstat(fd as u64)).flatten()
}

/// ftruncate to the size that the file has frees the blocks reserved behind its end.
fn truncate_to_same_size(fd: i32, size: u64) {
    if status_of(fd).is_some_and(|status| status.size == size) {
        truncate(fd, size);
    }
}
