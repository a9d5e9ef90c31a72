//! The rings of the process: which there are, and what calls about them do.

use crate::{
    count::behind::{
        fields::{structure, u32_at, u64_at},
        gap::Gap,
        uring::ring::{PARAMETERS, Parts, Ring, SETUP_SQPOLL},
    },
    record::counters::Shared,
};
use alloc::vec::Vec;

const SETUP_NO_MMAP: u32 = 1 << 14;
const SETUP_REGISTERED_FD_ONLY: u32 = 1 << 15;
/// Later flags may mean another layout.
const SETUP_KNOWN: u32 = (1 << 18) - 1;
const FEATURE_SINGLE_MMAP: u32 = 1;
const MAP_SUBMISSIONS: u64 = 0;
const MAP_COMPLETIONS: u64 = 0x800_0000;
const MAP_ENTRIES: u64 = 0x1000_0000;
const ENTER_REGISTERED_RING: u64 = 1 << 4;
const REGISTER_REGISTERED_RING: u32 = 1 << 31;
const REGISTER_FILES: u32 = 2;
const UNREGISTER_FILES: u32 = 3;
const REGISTER_FILES_UPDATE: u32 = 6;
const REGISTER_FILES2: u32 = 13;
const REGISTER_FILES_UPDATE2: u32 = 14;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
const REGISTER_RESIZE_RINGS: u32 = 33;

/// The rings of the process.
pub struct Rings {
    all: Vec<Ring>,
    /// Registered rings: thread, index, descriptor.
    registered: Vec<(u32, u32, u32)>,
}

impl Rings {
    pub const fn new() -> Rings {
        Rings { all: Vec::new(), registered: Vec::new() }
    }

    fn find(&mut self, thread: &Shared, number: u32, is_registered: bool) -> Option<&mut Ring> {
        let descriptor = match is_registered {
            false => number,
            true => {
                let is_it = |one: &&(u32, u32, u32)| one.0 == thread.tid && one.1 == number;
                self.registered.iter().find(is_it)?.2
            }
        };
        self.all.iter_mut().find(|ring| ring.descriptor == descriptor)
    }

    /// io_uring_setup(entries, parameters) has made one.
    pub fn made(&mut self, thread: &Shared, arguments: &[u64; 6], result: i64) {
        let Some(parameters) = structure::<PARAMETERS>(arguments[1]) else {
            return Gap::UnreadableRing.tell();
        };
        let flags = u32_at(&parameters, 8);
        let mut descriptor = result as u32;
        if flags & !SETUP_KNOWN != 0 {
            return Gap::UnknownKind.tell();
        }
        if flags & SETUP_REGISTERED_FD_ONLY != 0 {
            // A number that no descriptor has.
            descriptor |= 1 << 31;
            if self.registered.try_reserve(1).is_err() {
                return Gap::NoMemory.tell();
            }
            self.registered.push((thread.tid, result as u32, descriptor));
        }
        let mut parts = Parts::default();
        if flags & SETUP_NO_MMAP != 0 {
            let memory = u64_at(&parameters, 112);
            parts = Parts {
                submissions: memory,
                completions: memory,
                entries: u64_at(&parameters, 72),
            };
        }
        self.all.retain(|ring| ring.descriptor != descriptor);
        if self.all.try_reserve(1).is_err() {
            return Gap::NoMemory.tell();
        }
        self.all.push(Ring::new(descriptor, flags, parameters, parts));
    }

    /// mmap has mapped a part of a ring here, if it is one's.
    pub fn mapped(&mut self, thread: &Shared, arguments: &[u64; 6], at: u64) {
        const MAP_ANONYMOUS: u64 = 0x20;
        if arguments[3] & MAP_ANONYMOUS != 0 {
            return;
        }
        let Some(ring) = self.find(thread, arguments[4] as u32, false) else { return };
        let is_single = u32_at(&ring.parameters, 20) & FEATURE_SINGLE_MMAP != 0;
        match arguments[5] {
            MAP_ENTRIES => ring.parts.entries = at,
            MAP_SUBMISSIONS | MAP_COMPLETIONS if is_single => {
                (ring.parts.submissions, ring.parts.completions) = (at, at);
            }
            MAP_SUBMISSIONS => ring.parts.submissions = at,
            MAP_COMPLETIONS => ring.parts.completions = at,
            _ => {}
        }
    }

    /// Memory is about to be unmapped or moved.
    pub fn loses(&mut self, thread: &Shared, start: u64, len: u64) {
        for ring in &mut self.all {
            let Parts { submissions, completions, entries } = ring.parts;
            let is_in = |at: u64| at.wrapping_sub(start) < len;
            if [submissions, completions, entries].into_iter().any(is_in) {
                ring.look(thread);
                for place in [
                    &mut ring.parts.submissions,
                    &mut ring.parts.completions,
                    &mut ring.parts.entries,
                ] {
                    if is_in(*place) {
                        *place = 0;
                    }
                }
            }
        }
    }

    /// A descriptor is about to be closed.
    pub fn closes(&mut self, thread: &Shared, descriptor: u64) {
        if let Some(ring) = self.find(thread, descriptor as u32, false) {
            ring.look(thread);
        }
    }

    /// It is closed.
    pub fn closed(&mut self, descriptor: u64) {
        // It goes on where it is registered, or has another descriptor.
        let is_registered = |ring: &Ring| {
            self.registered.iter().any(|(_, _, registered)| *registered == ring.descriptor)
        };
        let (mut kept, mut renamed) = (Vec::new(), None);
        core::mem::swap(&mut kept, &mut self.all);
        kept.retain_mut(|ring| {
            if ring.descriptor != descriptor as u32 {
                return true;
            }
            if !is_registered(ring) {
                return false;
            }
            renamed = Some(ring.descriptor);
            ring.descriptor |= 1 << 31;
            true
        });
        self.all = kept;
        if let Some(old) = renamed {
            for (_, _, registered) in &mut self.registered {
                if *registered == old {
                    *registered |= 1 << 31;
                }
            }
        }
    }

    pub fn look_at_all(&mut self, thread: &Shared) {
        self.all.iter_mut().for_each(|ring| ring.look(thread));
    }

    /// io_uring_enter(ring, count, ..., flags) is about to be made.
    pub fn enters(&mut self, thread: &Shared, arguments: &[u64; 6]) {
        let is_registered = arguments[3] & ENTER_REGISTERED_RING != 0;
        match self.find(thread, arguments[0] as u32, is_registered) {
            Some(ring) => {
                ring.inside += 1;
                ring.look(thread);
                if arguments[1] as u32 > 0 && ring.flags & SETUP_SQPOLL == 0 {
                    ring.submits(arguments[1] as u32);
                }
            }
            None => Gap::ForeignRing.tell(),
        }
    }

    /// It has returned.
    pub fn entered(&mut self, thread: &Shared, arguments: &[u64; 6]) {
        let is_registered = arguments[3] & ENTER_REGISTERED_RING != 0;
        let Some(ring) = self.find(thread, arguments[0] as u32, is_registered) else { return };
        ring.inside = ring.inside.saturating_sub(1);
        ring.submitted(thread);
        ring.look(thread);
    }

    /// io_uring_register(ring, operation, argument, count) is about to be made.
    pub fn registers(&mut self, thread: &Shared, arguments: &[u64; 6]) {
        let operation = arguments[1] as u32 & !REGISTER_REGISTERED_RING;
        if operation == REGISTER_RESIZE_RINGS {
            Gap::UnknownKind.tell();
            let is_registered = arguments[1] as u32 & REGISTER_REGISTERED_RING != 0;
            if let Some(ring) = self.find(thread, arguments[0] as u32, is_registered) {
                ring.look(thread);
                ring.parts = Parts::default();
            }
        }
    }

    /// It has succeeded.
    pub fn registered(&mut self, thread: &Shared, arguments: &[u64; 6], result: i64) {
        let [number, operation, argument, count, ..] = *arguments;
        let is_registered = operation as u32 & REGISTER_REGISTERED_RING != 0;
        let operation = operation as u32 & !REGISTER_REGISTERED_RING;
        if let REGISTER_RING_FDS | UNREGISTER_RING_FDS = operation {
            return self.registered_rings(thread, operation, argument, result as u64);
        }
        let Some(ring) = self.find(thread, number as u32, is_registered) else { return };
        match operation {
            REGISTER_FILES => ring.registered_files(0, argument, count),
            UNREGISTER_FILES => ring.files.clear(),
            REGISTER_FILES_UPDATE => {
                if let Some(update) = structure::<16>(argument) {
                    ring.registered_files(u32_at(&update, 0), u64_at(&update, 8), result as u64);
                }
            }
            REGISTER_FILES2 => {
                const SPARSE: u32 = 1;
                if let Some(files) = structure::<32>(argument) {
                    let is_sparse = u32_at(&files, 4) & SPARSE != 0;
                    let from = if is_sparse { 0 } else { u64_at(&files, 16) };
                    ring.registered_files(0, from, u32_at(&files, 0).into());
                }
            }
            REGISTER_FILES_UPDATE2 => {
                if let Some(update) = structure::<32>(argument) {
                    ring.registered_files(u32_at(&update, 0), u64_at(&update, 8), result as u64);
                }
            }
            _ => {}
        }
    }

    /// `struct io_uring_rsrc_update`: index at 0, which the kernel has filled in, descriptor at 8.
    fn registered_rings(&mut self, thread: &Shared, operation: u32, at: u64, count: u64) {
        for index in 0..count {
            let Some(update) = structure::<16>(at.wrapping_add(16 * index)) else { return };
            let (place, descriptor) = (u32_at(&update, 0), u32_at(&update, 8));
            self.registered.retain(|one| one.0 != thread.tid || one.1 != place);
            if operation == REGISTER_RING_FDS && self.registered.try_reserve(1).is_ok() {
                self.registered.push((thread.tid, place, descriptor));
            }
        }
    }
}
