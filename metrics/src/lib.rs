//! The public table of metrics: names, units and their order in every record.
//!
//! Six engine metrics, then 22 system-call metrics for each of four classes of file descriptors. The
//! order and spelling are public: they appear in the record files, the store, JSON and CSV.

/// What a metric's values are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Unit {
    /// Events.
    Count = 0,
    /// Bytes.
    Bytes = 1,
    /// Nanoseconds.
    Nanoseconds = 2,
}

impl Unit {
    /// The unit's name as stored in JSON and shown in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Count => "count",
            Unit::Bytes => "bytes",
            Unit::Nanoseconds => "ns",
        }
    }

    /// The unit stored as this byte.
    pub const fn from_byte(byte: u8) -> Option<Unit> {
        match byte {
            0 => Some(Unit::Count),
            1 => Some(Unit::Bytes),
            2 => Some(Unit::Nanoseconds),
            _ => None,
        }
    }
}

/// What kind of object a file descriptor stands for.
///
/// Character devices, directories and regular files are `File`; eventfd, epoll, and descriptors that
/// are not open are `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Files of the file system, directories, devices.
    File = 0,
    /// Pipes and FIFOs.
    Pipe = 1,
    /// Sockets of every family.
    Socket = 2,
    /// Everything else, and descriptors that are not open.
    Other = 3,
}

impl Class {
    /// All classes in their order in the table.
    pub const ALL: [Class; 4] = [Class::File, Class::Pipe, Class::Socket, Class::Other];

    /// The name that prefixes the class's metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Class::File => "file",
            Class::Pipe => "pipe",
            Class::Socket => "socket",
            Class::Other => "other",
        }
    }

    /// Index of the class's first metric.
    pub const fn first(self) -> usize {
        ENGINE_COUNT + self as usize * PER_CLASS
    }
}

/// A family of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// open, openat, creat and what opens likewise.
    Open = 0,
    /// close.
    Close = 1,
    /// read, pread, readv, preadv, and the reading half of sendfile, splice, copy_file_range.
    Read = 2,
    /// write, pwrite, writev, pwritev, and the writing half of sendfile, splice, copy_file_range.
    Write = 3,
    /// send, sendto, sendmsg, sendmmsg.
    Send = 4,
    /// recv, recvfrom, recvmsg, recvmmsg.
    Recv = 5,
}

impl Op {
    /// All families in their order in the table.
    pub const ALL: [Op; 6] = [Op::Open, Op::Close, Op::Read, Op::Write, Op::Send, Op::Recv];

    /// The name in the metric's middle.
    pub const fn name(self) -> &'static str {
        match self {
            Op::Open => "open",
            Op::Close => "close",
            Op::Read => "read",
            Op::Write => "write",
            Op::Send => "send",
            Op::Recv => "recv",
        }
    }

    /// Whether the family moves bytes, and so has a `_bytes` metric.
    pub const fn moves_bytes(self) -> bool {
        !matches!(self, Op::Open | Op::Close)
    }
}

/// What is counted of a family of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Quantity {
    /// Calls that returned, failed ones included.
    Calls = 0,
    /// Bytes that successful calls moved.
    Bytes = 1,
    /// Calls that returned an error.
    Errors = 2,
    /// Time between call and return.
    Nanoseconds = 3,
}

impl Quantity {
    /// All quantities in their order in the table.
    pub const ALL: [Quantity; 4] =
        [Quantity::Calls, Quantity::Bytes, Quantity::Errors, Quantity::Nanoseconds];

    /// The name that ends the metric's name.
    pub const fn name(self) -> &'static str {
        match self {
            Quantity::Calls => "calls",
            Quantity::Bytes => "bytes",
            Quantity::Errors => "errors",
            Quantity::Nanoseconds => "ns",
        }
    }

    /// The unit of the quantity.
    pub const fn unit(self) -> Unit {
        match self {
            Quantity::Calls | Quantity::Errors => Unit::Count,
            Quantity::Bytes => Unit::Bytes,
            Quantity::Nanoseconds => Unit::Nanoseconds,
        }
    }
}

/// One row of the metric table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The public name.
    pub name: &'static str,
    /// What the values are counted in.
    pub unit: Unit,
    /// Class, family and quantity of a system-call metric; `None` for an engine metric.
    pub syscall: Option<(Class, Op, Quantity)>,
}

impl Metric {
    /// Whether the engine counts it (as against the system-call hooks).
    pub const fn is_engine(&self) -> bool {
        self.syscall.is_none()
    }
}

/// Number of metrics that the engine counts, at the front of the table.
pub const ENGINE_COUNT: usize = 6;
/// Number of system-call metrics of each [`Class`].
pub const PER_CLASS: usize = 22;
/// Number of metrics in all.
pub const METRIC_COUNT: usize = ENGINE_COUNT + Class::ALL.len() * PER_CLASS;

/// Index of `instructions`.
pub const INSTRUCTIONS: usize = 0;
/// Index of `memory_reads`.
pub const MEMORY_READS: usize = 1;
/// Index of `memory_writes`.
pub const MEMORY_WRITES: usize = 2;
/// Index of `memory_bytes_read`.
pub const MEMORY_BYTES_READ: usize = 3;
/// Index of `memory_bytes_written`.
pub const MEMORY_BYTES_WRITTEN: usize = 4;
/// Index of `barriers`.
pub const BARRIERS: usize = 5;

/// The chunks in which values are stored, as (first index, count): the engine's metrics, then one
/// chunk per class.
pub const CHUNKS: [(usize, usize); 5] = [
    (0, ENGINE_COUNT),
    (Class::File.first(), PER_CLASS),
    (Class::Pipe.first(), PER_CLASS),
    (Class::Socket.first(), PER_CLASS),
    (Class::Other.first(), PER_CLASS),
];

const fn engine(name: &'static str, unit: Unit) -> Metric {
    Metric { name, unit, syscall: None }
}

macro_rules! table {
    ($( $class:ident $prefix:literal ),*) => {
        [
            engine("instructions", Unit::Count),
            engine("memory_reads", Unit::Count),
            engine("memory_writes", Unit::Count),
            engine("memory_bytes_read", Unit::Bytes),
            engine("memory_bytes_written", Unit::Bytes),
            engine("barriers", Unit::Count),
            $(
                table!(@row $class $prefix Open "_open_" Calls "calls"),
                table!(@row $class $prefix Open "_open_" Errors "errors"),
                table!(@row $class $prefix Open "_open_" Nanoseconds "ns"),
                table!(@row $class $prefix Close "_close_" Calls "calls"),
                table!(@row $class $prefix Close "_close_" Errors "errors"),
                table!(@row $class $prefix Close "_close_" Nanoseconds "ns"),
                table!(@row $class $prefix Read "_read_" Calls "calls"),
                table!(@row $class $prefix Read "_read_" Bytes "bytes"),
                table!(@row $class $prefix Read "_read_" Errors "errors"),
                table!(@row $class $prefix Read "_read_" Nanoseconds "ns"),
                table!(@row $class $prefix Write "_write_" Calls "calls"),
                table!(@row $class $prefix Write "_write_" Bytes "bytes"),
                table!(@row $class $prefix Write "_write_" Errors "errors"),
                table!(@row $class $prefix Write "_write_" Nanoseconds "ns"),
                table!(@row $class $prefix Send "_send_" Calls "calls"),
                table!(@row $class $prefix Send "_send_" Bytes "bytes"),
                table!(@row $class $prefix Send "_send_" Errors "errors"),
                table!(@row $class $prefix Send "_send_" Nanoseconds "ns"),
                table!(@row $class $prefix Recv "_recv_" Calls "calls"),
                table!(@row $class $prefix Recv "_recv_" Bytes "bytes"),
                table!(@row $class $prefix Recv "_recv_" Errors "errors"),
                table!(@row $class $prefix Recv "_recv_" Nanoseconds "ns"),
            )*
        ]
    };
    (@row $class:ident $prefix:literal $op:ident $middle:literal $quantity:ident $end:literal) => {
        Metric {
            name: concat!($prefix, $middle, $end),
            unit: Quantity::$quantity.unit(),
            syscall: Some((Class::$class, Op::$op, Quantity::$quantity)),
        }
    };
}

/// Every metric, in the order of a record's values.
pub const METRICS: [Metric; METRIC_COUNT] =
    table!(File "file", Pipe "pipe", Socket "socket", Other "other");

/// Index of a system-call metric; `None` for the bytes of a family that moves none.
pub const fn syscall_index(class: Class, op: Op, quantity: Quantity) -> Option<usize> {
    let first = class.first();
    let (start, quantity) = match op {
        Op::Open | Op::Close => {
            let quantity = match quantity {
                Quantity::Calls => 0,
                Quantity::Bytes => return None,
                Quantity::Errors => 1,
                Quantity::Nanoseconds => 2,
            };
            (op as usize * 3, quantity)
        }
        _ => (6 + (op as usize - 2) * 4, quantity as usize),
    };
    Some(first + start + quantity)
}

/// Index of the metric with this public name.
pub fn by_name(name: &str) -> Option<usize> {
    METRICS.iter().position(|metric| metric.name == name)
}

/// A set of metrics, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricSet(u128);

impl MetricSet {
    /// No metric.
    pub const EMPTY: MetricSet = MetricSet(0);
    /// Every metric.
    pub const ALL: MetricSet = MetricSet((1 << METRIC_COUNT) - 1);
    /// The engine's six.
    pub const ENGINE: MetricSet = MetricSet((1 << ENGINE_COUNT) - 1);

    /// The 22 metrics of a class.
    pub const fn class(class: Class) -> MetricSet {
        MetricSet(((1 << PER_CLASS) - 1) << class.first())
    }

    /// Both sets together.
    pub const fn union(self, other: MetricSet) -> MetricSet {
        MetricSet(self.0 | other.0)
    }

    /// What is in both.
    pub const fn intersection(self, other: MetricSet) -> MetricSet {
        MetricSet(self.0 & other.0)
    }

    /// What is in this set and not in the other.
    pub const fn difference(self, other: MetricSet) -> MetricSet {
        MetricSet(self.0 & !other.0)
    }

    /// The set with one metric more; an index out of range changes nothing.
    pub const fn with(self, index: usize) -> MetricSet {
        if index < METRIC_COUNT { MetricSet(self.0 | 1 << index) } else { self }
    }

    /// Whether the metric is in the set.
    pub const fn contains(self, index: usize) -> bool {
        index < METRIC_COUNT && self.0 >> index & 1 == 1
    }

    /// Whether no metric is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_function_agrees_with_the_table() {
        let mut seen = MetricSet::EMPTY;
        for class in Class::ALL {
            for op in Op::ALL {
                for quantity in Quantity::ALL {
                    match syscall_index(class, op, quantity) {
                        Some(index) => {
                            assert_eq!(METRICS[index].syscall, Some((class, op, quantity)));
                            assert_eq!(
                                METRICS[index].name,
                                std::format!("{}_{}_{}", class.name(), op.name(), quantity.name())
                            );
                            assert_eq!(METRICS[index].unit, quantity.unit());
                            seen = seen.with(index);
                        }
                        None => assert!(!op.moves_bytes() && quantity == Quantity::Bytes),
                    }
                }
            }
        }
        assert_eq!(seen.union(MetricSet::ENGINE), MetricSet::ALL);
    }

    #[test]
    fn names_are_found_and_unique() {
        for (index, metric) in METRICS.iter().enumerate() {
            assert_eq!(by_name(metric.name), Some(index));
        }
        assert_eq!(by_name("memory_reed"), None);
        assert_eq!(METRIC_COUNT, 94);
    }

    #[test]
    fn chunks_cover_the_table_once() {
        let mut next = 0;
        for (first, count) in CHUNKS {
            assert_eq!(first, next);
            next += count;
        }
        assert_eq!(next, METRIC_COUNT);
    }

    #[test]
    fn sets() {
        let pipes = MetricSet::class(Class::Pipe);
        assert!(pipes.contains(Class::Pipe.first()) && !pipes.contains(Class::Socket.first()));
        assert!(MetricSet::ALL.difference(MetricSet::ALL).is_empty());
        assert_eq!(MetricSet::EMPTY.with(METRIC_COUNT), MetricSet::EMPTY);
    }
}
