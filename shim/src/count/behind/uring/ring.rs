//! One ring of io_uring: requests in a submission ring, results in a completion ring (io_uring(7), `uapi/linux/io_uring.h`).

use crate::{
    count::{
        behind::{
            fields::{long, structure, u16_at, u32_at, u64_at, word},
            gap::Gap,
            results::returned,
        },
        descriptors,
        targets::{charge_behind, counted_behind},
    },
    record::counters::Shared,
};
use alloc::vec::Vec;
use guest::requests::{Asked, Counted, Request, Requests, asked};
use records::metric::Op;

/// Bytes of `struct io_uring_params`, an entry of the submission ring that are looked at, and one of the completion ring.
pub const PARAMETERS: usize = 120;
const ENTRY: usize = 64;
const RESULT: usize = 16;

pub const SETUP_SQPOLL: u32 = 1 << 1;
const SETUP_SQE128: u32 = 1 << 10;
const SETUP_CQE32: u32 = 1 << 11;
const SETUP_NO_SQARRAY: u32 = 1 << 16;

const FIXED_FILE: u8 = 1;
const SKIP_SUCCESS: u8 = 1 << 6;
const RECV_MULTISHOT: u16 = 1 << 1;
const SPLICE_FIXED_IN: u32 = 1 << 31;
/// The kernel chooses the slot.
const ANY_SLOT: u32 = u32::MAX;

const MORE: u32 = 1 << 1;
const NOTIFICATION: u32 = 1 << 3;
const SKIPPED: u32 = 1 << 5;

const OPCODE_RECVMSG: u8 = 10;
const OPCODE_FILES_UPDATE: u8 = 20;

/// Where the parts of a ring lie; 0 = not mapped.
#[derive(Clone, Copy, Default)]
pub struct Parts {
    pub submissions: u64,
    pub completions: u64,
    pub entries: u64,
}

/// A ring.
pub struct Ring {
    pub descriptor: u32,
    pub flags: u32,
    pub parameters: [u8; PARAMETERS],
    pub parts: Parts,
    /// Behind the last request and the last result that were looked at.
    seen_request: u32,
    seen_result: u32,
    /// Threads inside io_uring_enter.
    pub inside: u32,
    requests: Requests,
    /// Requests that the kernel has not taken yet: position, and key if a result is to come.
    waiting: Vec<(u32, Option<u64>, Request)>,
    /// What the registered files are, and whether that is known.
    pub files: Vec<Slot>,
}

#[derive(Clone, Copy)]
pub enum Slot {
    Unknown,
    /// What reading it counts for.
    Known(Option<Counted>),
}

impl Ring {
    /// A ring of which nothing was used yet.
    pub fn new(descriptor: u32, flags: u32, parameters: [u8; PARAMETERS], parts: Parts) -> Ring {
        Ring {
            descriptor,
            flags,
            parameters,
            parts,
            seen_request: 0,
            seen_result: 0,
            inside: 0,
            requests: Requests::new(),
            waiting: Vec::new(),
            files: Vec::new(),
        }
    }

    /// The address of a word of the submission ring whose offset stands here in the parameters.
    fn submission(&self, offset_at: usize) -> Option<u64> {
        let start = Some(self.parts.submissions).filter(|start| *start != 0)?;
        Some(start + u64::from(u32_at(&self.parameters, offset_at)))
    }

    /// The same of the completion ring.
    fn completion(&self, offset_at: usize) -> Option<u64> {
        let start = Some(self.parts.completions).filter(|start| *start != 0)?;
        Some(start + u64::from(u32_at(&self.parameters, offset_at)))
    }

    fn requests_in_ring(&self) -> u32 {
        u32_at(&self.parameters, 0)
    }

    fn results_in_ring(&self) -> u32 {
        u32_at(&self.parameters, 4)
    }

    /// Where the kernel will take the next request, and behind the last one that is there.
    fn head_and_tail(&self) -> Option<(u32, u32)> {
        Some((word(self.submission(40)?)?, word(self.submission(44)?)?))
    }

    /// Requests are about to be submitted, at most so many.
    pub fn submits(&mut self, most: u32) {
        let Some((head, tail)) = self.head_and_tail() else { return Gap::UnreadableRing.tell() };
        let there = tail.wrapping_sub(head).min(most).min(self.requests_in_ring());
        // Behind those that another thread is submitting.
        let ahead = self.seen_request.wrapping_sub(head);
        let first = if ahead <= self.requests_in_ring() { ahead } else { 0 };
        for step in first..there {
            let position = head.wrapping_add(step);
            match self.entry(position) {
                Some(Some(entry)) => self.note(position, &entry),
                // The kernel passes over it.
                Some(None) => {}
                None => return Gap::UnreadableRing.tell(),
            }
            self.seen_request = position.wrapping_add(1);
        }
    }

    /// The entry at a position of the submission ring; inside, `None` if its index is none.
    fn entry(&self, position: u32) -> Option<Option<[u8; ENTRY]>> {
        let entries = self.requests_in_ring();
        let mut index = position & (entries.max(1) - 1);
        if self.flags & SETUP_NO_SQARRAY == 0 {
            index = word(self.submission(64)? + 4 * u64::from(index))?;
            if index >= entries {
                return Some(None);
            }
        }
        let bytes = if self.flags & SETUP_SQE128 != 0 { 2 * ENTRY } else { ENTRY } as u64;
        let start = Some(self.parts.entries).filter(|start| *start != 0)?;
        structure::<ENTRY>(start + u64::from(index) * bytes).map(Some)
    }

    /// Notes a request that the kernel is about to take.
    fn note(&mut self, position: u32, entry: &[u8; ENTRY]) {
        let Some(request) = self.request(entry) else { return };
        let key = u64_at(entry, 32);
        if entry[1] & SKIP_SUCCESS != 0 && request.moves_bytes {
            Gap::NoResult.tell();
        }
        let key = (entry[1] & SKIP_SUCCESS == 0).then_some(key);
        let has_room = self.waiting.try_reserve(1).is_ok();
        if !has_room || key.is_some_and(|key| !self.requests.add(key, request)) {
            return Gap::NoMemory.tell();
        }
        self.waiting.push((position, key, request));
    }

    /// What an entry asks for, if it counts: opcode at 0, flags at 1, ioprio at 2, descriptor at 4, address at 16, length at
    /// 24, flags of the operation at 28, user_data at 32, another descriptor or a slot at 44.
    fn request(&mut self, entry: &[u8; ENTRY]) -> Option<Request> {
        let (opcode, descriptor, other) = (entry[0], u32_at(entry, 4), u32_at(entry, 44));
        let is_fixed = entry[1] & FIXED_FILE != 0;
        let mut request = Request {
            halves: [None; 2],
            is_multiple: false,
            moves_bytes: true,
            opens: false,
            overhead: 0,
        };
        match asked(opcode) {
            Asked::One { op, is_multiple } => {
                let wants_more = op == Op::Recv && u16_at(entry, 2) & RECV_MULTISHOT != 0;
                request.is_multiple = is_multiple || wants_more;
                request.halves[0] = self.half(op, descriptor, is_fixed);
                if wants_more && opcode == OPCODE_RECVMSG {
                    request.overhead = overhead(u64_at(entry, 16));
                }
            }
            Asked::Both => {
                let in_is_fixed = u32_at(entry, 28) & SPLICE_FIXED_IN != 0;
                request.halves = [
                    self.half(Op::Read, other, in_is_fixed),
                    self.half(Op::Write, descriptor, is_fixed),
                ];
            }
            Asked::Open => {
                descriptors::give_up();
                request.opens = true;
                request.moves_bytes = false;
                if other != 0 {
                    // Into a slot: no descriptor is made, and nobody can be asked what it is.
                    self.forget_slot(other);
                }
            }
            Asked::Close => {
                descriptors::give_up();
                request.moves_bytes = false;
                request.halves[0] = match other {
                    0 => self.half(Op::Close, descriptor, false),
                    slot => self.half(Op::Close, slot - 1, true),
                };
            }
            Asked::Makes => {
                descriptors::give_up();
                self.forget_slot(other);
                return None;
            }
            Asked::Renames => {
                descriptors::give_up();
                return None;
            }
            Asked::Unknown => {
                Gap::Command.tell();
                return None;
            }
            Asked::Nothing => {
                if opcode == OPCODE_FILES_UPDATE {
                    let (at, count) = (u64_at(entry, 16), u32_at(entry, 24));
                    match u64_at(entry, 8) {
                        offset if offset < u64::from(ANY_SLOT) => {
                            self.registered_files(offset as u32, at, count.into());
                        }
                        _ => self.files.fill(Slot::Unknown),
                    }
                }
                return None;
            }
        }
        (request.opens || request.halves.iter().any(Option::is_some)).then_some(request)
    }

    /// What an operation on a descriptor, or a registered file, counts for.
    fn half(&self, op: Op, number: u32, is_fixed: bool) -> Option<Counted> {
        if !is_fixed {
            return counted_behind(op, number.into());
        }
        match self.files.get(number as usize) {
            Some(Slot::Known(read)) => read.map(|half| Counted { op, ..half }),
            _ => {
                Gap::RegisteredFile.tell();
                None
            }
        }
    }

    /// A slot plus one, as requests give it, is filled in a way that says nothing.
    fn forget_slot(&mut self, slot: u32) {
        match slot {
            0 => {}
            ANY_SLOT => self.files.fill(Slot::Unknown),
            slot => {
                if let Some(file) = self.files.get_mut(slot as usize - 1) {
                    *file = Slot::Unknown;
                }
            }
        }
    }

    /// Descriptors that lie here were registered, from this slot on; without an address there are none yet.
    pub fn registered_files(&mut self, first: u32, at: u64, count: u64) {
        const SKIP: u32 = -2i32 as u32;
        let end = u64::from(first) + count;
        let missing = (end as usize).saturating_sub(self.files.len());
        if end > 1 << 20 || self.files.try_reserve(missing).is_err() {
            return;
        }
        if missing > 0 {
            self.files.resize(end as usize, Slot::Unknown);
        }
        for index in 0..count {
            let number = if at == 0 { None } else { word(at.wrapping_add(4 * index)) };
            if number == Some(SKIP) {
                continue;
            }
            self.files[first as usize + index as usize] = match number {
                Some(number) if number as i32 >= 0 => {
                    Slot::Known(counted_behind(Op::Read, number.into()))
                }
                _ => Slot::Unknown,
            };
        }
    }

    /// The kernel has taken what it took: those requests are calls.
    pub fn submitted(&mut self, thread: &Shared) {
        if self.waiting.is_empty() {
            return;
        }
        let Some((head, _)) = self.head_and_tail() else { return };
        let is_taken = |position: u32| (head.wrapping_sub(position) as i32) > 0;
        let is_over = self.inside == 0;
        let (requests, mut back) = (&mut self.requests, None);
        self.waiting.retain(|(position, key, request)| {
            if is_taken(*position) {
                // Others are told of with their results.
                if !request.opens && !request.is_multiple {
                    for half in request.halves.iter().flatten() {
                        charge_behind(thread, half, 1, 0, 0);
                    }
                }
                return false;
            }
            if is_over {
                // It is looked at again when it is submitted again: it may be another one by then.
                if let Some(key) = key {
                    requests.take_back(*key);
                }
                back = Some(back.map_or(*position, |first: u32| first.min(*position)));
            }
            !is_over
        });
        if let Some(first) = back {
            self.seen_request = first;
        }
    }

    /// Takes what has come back.
    pub fn look(&mut self, thread: &Shared) {
        if self.flags & SETUP_SQPOLL != 0 {
            if self.head_and_tail().is_some_and(|(_, tail)| tail != 0) {
                Gap::Polled.tell();
            }
            return;
        }
        let tail = |ring: &Ring| word(ring.completion(84)?);
        let Some(mut behind) = tail(self) else { return };
        let room = self.results_in_ring().max(1);
        let bytes = if self.flags & SETUP_CQE32 != 0 { 2 * RESULT } else { RESULT } as u64;
        while self.seen_result != behind {
            if behind.wrapping_sub(self.seen_result) > room {
                Gap::Overwritten.tell();
                self.seen_result = behind.wrapping_sub(room);
            }
            let Some(start) = self.completion(100) else { return };
            let index = self.seen_result & (room - 1);
            let Some(result) = structure::<RESULT>(start + u64::from(index) * bytes) else {
                return;
            };
            // Was it overwritten meanwhile?
            let Some(now) = tail(self) else { return };
            behind = now;
            if behind.wrapping_sub(self.seen_result) > room {
                continue;
            }
            self.seen_result = self.seen_result.wrapping_add(1);
            let (key, value, flags) =
                (u64_at(&result, 0), u32_at(&result, 8) as i32, u32_at(&result, 12));
            if flags & (NOTIFICATION | SKIPPED) == 0 {
                returned(thread, &mut self.requests, key, value.into(), flags & MORE != 0);
            }
        }
    }
}

/// Bytes before a message that several results bring: `struct io_uring_recvmsg_out` and the room for a name and for control
/// data, whose lengths stand at 8 and 40 of `struct msghdr`.
fn overhead(header: u64) -> u32 {
    const OUT: u32 = 16;
    let name = word(header.wrapping_add(8)).unwrap_or(0);
    let control = long(header.wrapping_add(40)).unwrap_or(0);
    OUT.saturating_add(name).saturating_add(control as u32)
}
