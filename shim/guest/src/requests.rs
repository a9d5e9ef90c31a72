//! Requests that the kernel carries out behind a call (io_uring, libaio): what each is to the
//! metrics, and the table of those that are on their way, found again by the word that comes back
//! with the result.

use crate::directory_table::DirectoryNumber;
use alloc::vec::Vec;
use records::metric::{Class, Op};

/// What one half of a request counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The family.
    pub op: Op,
    /// The descriptor's class.
    pub class: Class,
    /// The directory of its file.
    pub directory: DirectoryNumber,
}

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its halves; `None` = does not count.
    pub halves: [Option<Counted>; 2],
    /// It is finished by the first result that does not say that more come; each is a call of its
    /// own.
    pub is_multiple: bool,
    /// Its result is a number of bytes.
    pub moves_bytes: bool,
    /// What was opened is known with the result: class and directory are not, before.
    pub opens: bool,
    /// Bytes in the result that are none of the message.
    pub overhead: u32,
}

impl Request {
    /// The bytes that a result says.
    pub fn bytes(&self, result: i64) -> u64 {
        let bytes = u64::try_from(result).unwrap_or(0);
        if self.moves_bytes { bytes.saturating_sub(self.overhead.into()) } else { 0 }
    }
}

/// Ends a chain.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    next: u32,
    request: Request,
}

/// The requests on their way, by key. Several may have the same: they come back in the order in
/// which they went.
#[derive(Debug, Default)]
pub struct Requests {
    /// First and last entry of each chain; their number is a power of two, or 0.
    chains: Vec<[u32; 2]>,
    entries: Vec<Entry>,
    free: u32,
    used: usize,
}

/// A request that has come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// What it is.
    pub request: Request,
    /// Another one with the same key is something else, and may be meant.
    pub is_ambiguous: bool,
}

impl Requests {
    /// None, and no memory.
    pub const fn new() -> Requests {
        Requests { chains: Vec::new(), entries: Vec::new(), free: NONE, used: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn chain(&self, key: u64) -> Option<usize> {
        // Fibonacci hashing (Knuth, The Art of Computer Programming, vol. 3, 6.4): keys are mostly
        // addresses.
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (!self.chains.is_empty()).then(|| hash as usize & (self.chains.len() - 1))
    }

    /// Adds a request; false = there is no memory for it.
    pub fn add(&mut self, key: u64, request: Request) -> bool {
        if self.used >= self.chains.len() && !self.grow() {
            return false;
        }
        let entry = Entry { key, next: NONE, request };
        let index = match self.free {
            NONE => {
                if self.entries.try_reserve(1).is_err() {
                    return false;
                }
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
            free => {
                self.free = self.entries[free as usize].next;
                self.entries[free as usize] = entry;
                free
            }
        };
        self.used += 1;
        self.append(index);
        true
    }

    /// Puts an entry behind the others of its chain.
    fn append(&mut self, index: u32) {
        let Some(chain) = self.chain(self.entries[index as usize].key) else { return };
        self.entries[index as usize].next = NONE;
        match self.chains[chain] {
            [NONE, _] => self.chains[chain] = [index, index],
            [first, last] => {
                self.entries[last as usize].next = index;
                self.chains[chain] = [first, index];
            }
        }
    }

    fn grow(&mut self) -> bool {
        const LEAST: usize = 16;
        let wanted = (self.chains.len() * 2).max(LEAST);
        let mut chains = Vec::new();
        if chains.try_reserve_exact(wanted).is_err() {
            return false;
        }
        chains.resize(wanted, [NONE; 2]);
        let old = core::mem::replace(&mut self.chains, chains);
        for [first, _] in old {
            let mut at = first;
            while at != NONE {
                let next = self.entries[at as usize].next;
                self.append(at);
                at = next;
            }
        }
        true
    }

    /// The place of a request in its chain, as (before it, it): the first one with the key, or the
    /// last.
    fn find(&self, key: u64, wants_last: bool) -> Option<(u32, u32)> {
        let (mut before, mut at) = (NONE, self.chains[self.chain(key)?][0]);
        let mut found = None;
        while at != NONE {
            let entry = &self.entries[at as usize];
            if entry.key == key {
                found = Some((before, at));
                if !wants_last {
                    break;
                }
            }
            (before, at) = (at, entry.next);
        }
        found
    }

    fn remove(&mut self, (before, at): (u32, u32)) {
        let Entry { key, next, .. } = self.entries[at as usize];
        let Some(chain) = self.chain(key) else { return };
        match before {
            NONE => self.chains[chain][0] = next,
            before => self.entries[before as usize].next = next,
        }
        if self.chains[chain][1] == at {
            self.chains[chain][1] = before;
        }
        self.entries[at as usize].next = self.free;
        self.free = at;
        self.used -= 1;
    }

    /// A result has come for this key; with `more`, others will for the same request.
    pub fn returned(&mut self, key: u64, more: bool) -> Option<Returned> {
        let found = self.find(key, false)?;
        let request = self.entries[found.1 as usize].request;
        let mut at = self.entries[found.1 as usize].next;
        let mut is_ambiguous = false;
        while at != NONE {
            let entry = &self.entries[at as usize];
            is_ambiguous |= entry.key == key && entry.request != request;
            at = entry.next;
        }
        if !(more && request.is_multiple) {
            self.remove(found);
        }
        Some(Returned { request, is_ambiguous })
    }

    /// The kernel has not taken the last request with this key.
    pub fn take_back(&mut self, key: u64) {
        if let Some(found) = self.find(key, true) {
            self.remove(found);
        }
    }
}

/// What an entry of a submission ring asks for (`enum io_uring_op` of `uapi/linux/io_uring.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// One operation on the entry's descriptor, with results of bytes.
    One {
        /// The family.
        op: Op,
        /// Whether it always has several results.
        is_multiple: bool,
    },
    /// A file is opened.
    Open,
    /// A descriptor is closed.
    Close,
    /// From one descriptor to the other.
    Both,
    /// A descriptor is made.
    Makes,
    /// Names change, and with them the directories of files.
    Renames,
    /// Nothing that counts.
    Nothing,
    /// Nobody knows what it does.
    Unknown,
}

/// What an opcode asks for.
pub const fn asked(opcode: u8) -> Asked {
    match opcode {
        1 | 4 | 22 | 60 => one_of(Op::Read, false),
        2 | 5 | 23 | 61 => one_of(Op::Write, false),
        9 | 26 | 47 | 48 => one_of(Op::Send, false),
        10 | 27 => one_of(Op::Recv, false),
        58 => one_of(Op::Recv, true),
        49 => one_of(Op::Read, true),
        18 | 28 => Asked::Open,
        19 => Asked::Close,
        30 | 33 => Asked::Both,
        // accept, socket, fixed_fd_install, pipe
        13 | 45 | 54 | 62 => Asked::Makes,
        35 => Asked::Renames,
        // Commands of drivers may move anything.
        46 | 64.. => Asked::Unknown,
        _ => Asked::Nothing,
    }
}

const fn one_of(op: Op, is_multiple: bool) -> Asked {
    Asked::One { op, is_multiple }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(op: Op) -> Request {
        let half = Counted { op, class: Class::File, directory: DirectoryNumber::NONE };
        Request {
            halves: [Some(half), None],
            is_multiple: false,
            moves_bytes: true,
            opens: false,
            overhead: 0,
        }
    }

    #[test]
    fn requests_are_found_once_each() {
        let mut all = Requests::new();
        for key in 0..1000u64 {
            assert!(all.add(key * 64, request(if key % 2 == 0 { Op::Read } else { Op::Write })));
        }
        assert_eq!(all.len(), 1000);
        for key in (0..1000u64).rev() {
            let op = if key % 2 == 0 { Op::Read } else { Op::Write };
            let returned = Returned { request: request(op), is_ambiguous: false };
            assert_eq!(all.returned(key * 64, false), Some(returned));
            assert_eq!(all.returned(key * 64, false), None);
        }
        assert!(all.is_empty());
        assert_eq!(all.entries.len(), 1000);
        assert!(
            all.add(7, request(Op::Read)) && all.entries.len() == 1000,
            "places are used again"
        );
    }

    #[test]
    fn equal_keys_come_back_in_order_and_say_so_where_they_differ() {
        let mut all = Requests::new();
        for op in [Op::Read, Op::Read, Op::Write] {
            all.add(0, request(op));
        }
        let mut next = || all.returned(0, false).map(|one| (one.request, one.is_ambiguous));
        assert_eq!(next(), Some((request(Op::Read), true)));
        assert_eq!(next(), Some((request(Op::Read), true)));
        assert_eq!(next(), Some((request(Op::Write), false)));
        assert_eq!(next(), None);
    }

    #[test]
    fn what_was_not_taken_is_the_last_one() {
        let mut all = Requests::new();
        all.add(5, request(Op::Read));
        all.add(21, request(Op::Send));
        all.add(5, request(Op::Write));
        all.take_back(5);
        all.take_back(99);
        assert_eq!(all.returned(5, false).map(|one| one.request), Some(request(Op::Read)));
        assert_eq!(all.returned(5, false), None);
        all.add(5, request(Op::Recv));
        assert_eq!(all.returned(5, false).map(|one| one.request), Some(request(Op::Recv)));
    }

    #[test]
    fn several_results_of_one_request() {
        let mut all = Requests::new();
        let multiple = Request { is_multiple: true, overhead: 16, ..request(Op::Recv) };
        all.add(1, multiple);
        assert!(all.returned(1, true).is_some() && all.returned(1, true).is_some());
        assert!(all.returned(1, false).is_some() && all.is_empty());
        assert_eq!([116, 3, -11].map(|result| multiple.bytes(result)), [100, 0, 0]);
        // Of sending without a copy the second one tells that the memory is free.
        all.add(1, request(Op::Send));
        assert!(all.returned(1, true).is_some() && all.returned(1, false).is_none());
    }

    #[test]
    fn opcodes() {
        assert_eq!(asked(22), Asked::One { op: Op::Read, is_multiple: false });
        assert_eq!(asked(58), Asked::One { op: Op::Recv, is_multiple: true });
        assert_eq!(
            [0, 18, 19, 30, 33, 46, 63, 64, 200].map(asked),
            [
                Asked::Nothing,
                Asked::Open,
                Asked::Close,
                Asked::Both,
                Asked::Both,
                Asked::Unknown,
                Asked::Nothing,
                Asked::Unknown,
                Asked::Unknown
            ]
        );
    }
}
