//! libaio: requests by io_submit, results in the ring of a context, which lies at the context's number (fs/aio.c).

use crate::{
    count::{
        behind::{
            fields::{long, structure, u16_at, u32_at, u64_at, word},
            gap::Gap,
            results::returned,
        },
        targets::{charge_behind, counted_behind},
    },
    record::counters::Shared,
};
use alloc::vec::Vec;
use guest::requests::{Request, Requests};
use records::metric::Op;

/// `struct aio_ring`: number of places, where the kernel writes next, a magic number; then the places.
const PLACES_AT: u64 = 4;
const TAIL_AT: u64 = 12;
const MAGIC_AT: u64 = 16;
const MAGIC: u32 = 0xa10a_10a1;
const FIRST_AT: u64 = 32;
/// Bytes of `struct io_event`, with the request's address at 8 and the result at 16, and of `struct iocb`.
const EVENT_BYTES: u64 = 32;
const REQUEST_BYTES: usize = 64;

/// A context.
struct Context {
    number: u64,
    places: u32,
    /// Where the next result will be.
    next: u32,
    requests: Requests,
    /// Requests that a thread is submitting, in order.
    submitting: Vec<(u32, u64, Request)>,
}

/// The contexts of the process.
pub(super) struct Contexts(Vec<Context>);

impl Contexts {
    pub(super) const fn new() -> Contexts {
        Contexts(Vec::new())
    }

    fn find(&mut self, number: u64) -> Option<&mut Context> {
        self.0.iter_mut().find(|context| context.number == number)
    }

    /// io_setup has written a context's number here.
    pub(super) fn made(&mut self, at: u64) {
        let context = long(at).and_then(|number| {
            let places = word(number + PLACES_AT)?;
            let next = word(number + TAIL_AT)?;
            let is_ring = word(number + MAGIC_AT)? == MAGIC && next < places;
            let (requests, submitting) = (Requests::new(), Vec::new());
            is_ring.then_some(Context { number, places, next, requests, submitting })
        });
        if let Some(context) = context.filter(|_| self.0.try_reserve(1).is_ok()) {
            self.0.retain(|other| other.number != context.number);
            self.0.push(context);
        }
    }

    /// io_submit(number, count, addresses) is about to be made.
    pub(super) fn submits(&mut self, thread: &Shared, arguments: &[u64; 6]) {
        let [number, count, addresses, ..] = *arguments;
        let Some(context) = self.find(number) else {
            if count > 0 {
                Gap::ForeignContext.tell();
            }
            return;
        };
        context.look(thread);
        // The kernel takes no more than there are places.
        for index in 0..count.min(context.places.into()) {
            let Some(key) = long(addresses.wrapping_add(8 * index)) else { break };
            let Some(request) = structure::<REQUEST_BYTES>(key).map(|bytes| read(&bytes)) else {
                break;
            };
            let has_room = context.submitting.try_reserve(1).is_ok();
            if !has_room || !context.requests.add(key, request) {
                return Gap::NoMemory.tell();
            }
            context.submitting.push((thread.tid, key, request));
        }
    }

    /// It has taken so many of them.
    pub(super) fn submitted(&mut self, thread: &Shared, number: u64, result: i64) {
        let Some(context) = self.find(number) else { return };
        let Context { submitting, requests, .. } = context;
        let mut taken = result;
        submitting.retain(|(tid, key, request)| {
            if *tid != thread.tid {
                return true;
            }
            if taken > 0 {
                for half in request.halves.iter().flatten() {
                    charge_behind(thread, half, 1, 0, 0);
                }
            } else {
                requests.take_back(*key);
            }
            taken -= 1;
            false
        });
        context.look(thread);
    }

    /// Takes what has come back in a context.
    pub(super) fn look(&mut self, thread: &Shared, number: u64) {
        if let Some(context) = self.find(number) {
            context.look(thread);
        }
    }

    pub(super) fn look_at_all(&mut self, thread: &Shared) {
        self.0.iter_mut().for_each(|context| context.look(thread));
    }

    /// io_destroy is about to be made.
    pub(super) fn destroys(&mut self, thread: &Shared, number: u64) {
        if let Some(context) = self.find(number) {
            context.look(thread);
            if !context.requests.is_empty() {
                Gap::Destroyed.tell();
            }
        }
    }

    pub(super) fn destroyed(&mut self, number: u64) {
        self.0.retain(|context| context.number != number);
    }
}

impl Context {
    fn look(&mut self, thread: &Shared) {
        let Some(tail) = word(self.number + TAIL_AT).filter(|tail| *tail < self.places) else {
            return;
        };
        while self.next != tail {
            let at = self.number + FIRST_AT + u64::from(self.next) * EVENT_BYTES;
            let Some(event) = structure::<{ EVENT_BYTES as usize }>(at) else { return };
            let (key, result) = (u64_at(&event, 8), u64_at(&event, 16) as i64);
            returned(thread, &mut self.requests, key, result, false);
            self.next = (self.next + 1) % self.places;
        }
    }
}

/// `struct iocb`: opcode at 16, descriptor at 20.
fn read(bytes: &[u8; REQUEST_BYTES]) -> Request {
    let descriptor = u64::from(u32_at(bytes, 20));
    // IOCB_CMD_PREAD, PWRITE, PREADV and PWRITEV; others move no bytes.
    let op = match u16_at(bytes, 16) {
        0 | 7 => Some(Op::Read),
        1 | 8 => Some(Op::Write),
        _ => None,
    };
    let half = op.and_then(|op| counted_behind(op, descriptor));
    Request {
        halves: [half, None],
        is_multiple: false,
        moves_bytes: true,
        opens: false,
        overhead: 0,
    }
}
