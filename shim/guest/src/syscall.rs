//! What a system call is to the metrics: which family, which descriptor, where its bytes are told.
//!
//! Both the libc hooks and the engine describe a call by its number, arguments and the kernel's
//! result, so one table ([`shape`]) and one function ([`charge`]) count for both.

use crate::syscall_number as nr;
use records::metric::{Class, Op, Quantity, syscall_index};

/// Where a call's descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// In this argument.
    Argument(u8),
    /// In the result, if the call succeeds.
    Result,
    /// There is none: another process's memory, which is of the class `other`.
    Nowhere,
}

/// Where the number of bytes is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// The call moves none.
    None,
    /// In the result.
    Result,
    /// In the `msg_len` of as many `mmsghdr` as the result says, at this argument.
    Messages(u8),
}

/// One half of a call: most have one, sendfile and its kin read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half {
    /// The family.
    pub op: Op,
    /// The descriptor.
    pub descriptor: Descriptor,
}

/// A counted system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What it is counted as.
    pub first: Half,
    /// The writing half of sendfile, splice, copy_file_range. It has its calls and bytes; the
    /// call's time is charged once, to the half that counts first. Of vmsplice one half counts, by
    /// the end of the pipe.
    pub second: Option<Half>,
    /// Where the bytes are told.
    pub bytes: Bytes,
}

const fn one(op: Op, bytes: Bytes) -> Option<Shape> {
    let first = Half { op, descriptor: Descriptor::Argument(0) };
    Some(Shape { first, second: None, bytes })
}

const fn open() -> Option<Shape> {
    let first = Half { op: Op::Open, descriptor: Descriptor::Result };
    Some(Shape { first, second: None, bytes: Bytes::None })
}

const fn memory(op: Op) -> Option<Shape> {
    let first = Half { op, descriptor: Descriptor::Nowhere };
    Some(Shape { first, second: None, bytes: Bytes::Result })
}

const fn both(reads: u8, writes: u8) -> Option<Shape> {
    Some(Shape {
        first: Half { op: Op::Read, descriptor: Descriptor::Argument(reads) },
        second: Some(Half { op: Op::Write, descriptor: Descriptor::Argument(writes) }),
        bytes: Bytes::Result,
    })
}

/// The shape of a system call; `None` for calls that are not counted.
pub const fn shape(number: u64) -> Option<Shape> {
    match number {
        nr::OPEN | nr::OPENAT | nr::OPENAT2 | nr::CREAT => open(),
        nr::CLOSE => one(Op::Close, Bytes::None),
        nr::READ | nr::PREAD64 | nr::READV | nr::PREADV | nr::PREADV2 => {
            one(Op::Read, Bytes::Result)
        }
        nr::WRITE | nr::PWRITE64 | nr::WRITEV | nr::PWRITEV | nr::PWRITEV2 => {
            one(Op::Write, Bytes::Result)
        }
        nr::SENDTO | nr::SENDMSG => one(Op::Send, Bytes::Result),
        nr::SENDMMSG => one(Op::Send, Bytes::Messages(1)),
        nr::RECVFROM | nr::RECVMSG => one(Op::Recv, Bytes::Result),
        nr::RECVMMSG => one(Op::Recv, Bytes::Messages(1)),
        nr::SENDFILE => both(1, 0),
        nr::SPLICE | nr::COPY_FILE_RANGE => both(0, 2),
        nr::TEE => both(0, 1),
        nr::VMSPLICE => both(0, 0),
        nr::PROCESS_VM_READV => memory(Op::Read),
        nr::PROCESS_VM_WRITEV => memory(Op::Write),
        _ => None,
    }
}

/// The path argument of a call that opens, for calls that fail.
pub const fn path_argument(number: u64) -> usize {
    match number {
        nr::OPENAT | nr::OPENAT2 => 1,
        _ => 0,
    }
}

/// The class of a descriptor by its `st_mode` (inode(7)); `None` = not open.
///
/// eventfd, epoll, timerfd and their kin have no file type.
pub const fn class_of_mode(mode: Option<u32>) -> Class {
    const TYPE: u32 = 0o170_000;
    match mode {
        Some(mode) => match mode & TYPE {
            0o010_000 => Class::Pipe,
            0o140_000 => Class::Socket,
            0o100_000 | 0o040_000 | 0o020_000 | 0o060_000 | 0o120_000 => Class::File,
            _ => Class::Other,
        },
        None => Class::Other,
    }
}

/// A finished call, ready to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// The call.
    pub shape: Shape,
    /// Classes of the two halves' descriptors; `None` = this half does not count (switched off, or
    /// a file outside the chosen directories).
    pub classes: [Option<Class>; 2],
    /// The kernel's result: a value, or a negated errno.
    pub result: i64,
    /// Bytes moved, where the shape says they are not in the result.
    pub message_bytes: u64,
    /// Time between call and return.
    pub nanoseconds: u64,
}

/// Says what a finished call adds to which metrics, as (half, index, amount); half 0 is the first.
pub fn charge(call: &Finished, mut add: impl FnMut(usize, usize, u64)) {
    let failed = call.result < 0;
    let bytes = match call.shape.bytes {
        _ if failed => 0,
        Bytes::None => 0,
        Bytes::Result => call.result as u64,
        Bytes::Messages(_) => call.message_bytes,
    };
    let halves = [Some(call.shape.first), call.shape.second];
    let mut nanoseconds = call.nanoseconds;
    for (position, (half, class)) in halves.into_iter().zip(call.classes).enumerate() {
        let (Some(half), Some(class)) = (half, class) else { continue };
        let mut to = |quantity, amount: u64| {
            if let Some(index) = syscall_index(class, half.op, quantity)
                && amount != 0
            {
                add(position, index, amount);
            }
        };
        to(Quantity::Calls, 1);
        to(Quantity::Bytes, bytes);
        to(Quantity::Errors, failed.into());
        to(Quantity::Nanoseconds, core::mem::take(&mut nanoseconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::metric::{METRICS, by_name};

    fn charged(number: u64, classes: [Option<Class>; 2], result: i64) -> Vec<(&'static str, u64)> {
        let call = Finished {
            shape: shape(number).unwrap(),
            classes,
            result,
            message_bytes: 77,
            nanoseconds: 5,
        };
        let mut all = Vec::new();
        charge(&call, |_, index, amount| all.push((METRICS[index].name, amount)));
        all
    }

    #[test]
    fn a_read_counts_call_bytes_and_time() {
        assert_eq!(
            charged(nr::PREAD64, [Some(Class::File), None], 10),
            [("file_read_calls", 1), ("file_read_bytes", 10), ("file_read_ns", 5)]
        );
    }

    #[test]
    fn an_error_moves_no_bytes() {
        assert_eq!(
            charged(nr::SENDTO, [Some(Class::Socket), None], -11),
            [("socket_send_calls", 1), ("socket_send_errors", 1), ("socket_send_ns", 5)]
        );
    }

    #[test]
    fn sendfile_reads_here_and_writes_there() {
        assert_eq!(
            charged(nr::SENDFILE, [Some(Class::File), Some(Class::Socket)], 100),
            [
                ("file_read_calls", 1),
                ("file_read_bytes", 100),
                ("file_read_ns", 5),
                ("socket_write_calls", 1),
                ("socket_write_bytes", 100)
            ]
        );
        assert_eq!(shape(nr::SENDFILE).unwrap().first.descriptor, Descriptor::Argument(1));
        assert_eq!(charged(nr::SPLICE, [None, None], 100), []);
    }

    #[test]
    fn vmsplice_is_one_of_its_halves() {
        let written = [("pipe_write_calls", 1), ("pipe_write_bytes", 9), ("pipe_write_ns", 5)];
        assert_eq!(charged(nr::VMSPLICE, [None, Some(Class::Pipe)], 9), written);
        let read = [("pipe_read_calls", 1), ("pipe_read_errors", 1), ("pipe_read_ns", 5)];
        assert_eq!(charged(nr::VMSPLICE, [Some(Class::Pipe), None], -9), read);
    }

    #[test]
    fn another_process_s_memory_has_no_descriptor() {
        let call = shape(nr::PROCESS_VM_WRITEV).unwrap();
        assert_eq!(call.first, Half { op: Op::Write, descriptor: Descriptor::Nowhere });
        let moved = [("other_write_calls", 1), ("other_write_bytes", 9), ("other_write_ns", 5)];
        assert_eq!(charged(nr::PROCESS_VM_WRITEV, [Some(Class::Other), None], 9), moved);
    }

    #[test]
    fn messages_tell_their_bytes_apart_from_the_result() {
        assert!(
            charged(nr::RECVMMSG, [Some(Class::Socket), None], 3)
                .contains(&("socket_recv_bytes", 77))
        );
    }

    #[test]
    fn opens_and_closes_have_no_bytes() {
        assert_eq!(
            charged(nr::OPENAT, [Some(Class::File), None], 3),
            [("file_open_calls", 1), ("file_open_ns", 5)]
        );
        assert!(by_name("file_open_bytes").is_none());
        assert_eq!(shape(nr::FUTEX), None);
    }

    #[test]
    fn classes() {
        for (mode, class) in [
            (Some(0o100_644), Class::File),
            (Some(0o040_755), Class::File),
            (Some(0o020_620), Class::File),
            (Some(0o010_600), Class::Pipe),
            (Some(0o140_777), Class::Socket),
            (Some(0o600), Class::Other),
            (None, Class::Other),
        ] {
            assert_eq!(class_of_mode(mode), class);
        }
    }
}
