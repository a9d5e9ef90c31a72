//! The table of metrics: what is counted, and how it is called in record files, stores and reports.
//!
//! First the metrics of instructions, which the engine counts, then 22 metrics of system calls for each of four
//! classes of file descriptors. Engine, records, conf, the store's schema, reports and documents derive from this
//! table, and none of them has a list of its own. Names and units are public: they appear in record files, the store,
//! JSON and CSV.
//!
//! A new metric of instructions is one row in `engine_metrics!`, of the next edition, and one weight in
//! `engine/weights`. Record files name their metrics, and stores say which edition they know.
#![no_std]

#[cfg(test)]
extern crate std;

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

    /// What it stands for, in words that go on with a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Class::File => "files",
            Class::Pipe => "pipes",
            Class::Socket => "sockets",
            Class::Other => "other descriptors (terminals, devices, event descriptors)",
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

    /// The calls, in words that go on with a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Op::Open => "opening calls (open, pipe, socket, accept ...)",
            Op::Close => "closing calls",
            Op::Read => "reading calls (read, pread, readv, sendfile's source ...)",
            Op::Write => "writing calls (write, pwrite, writev ...)",
            Op::Send => "sending calls (send, sendto, sendmsg ...)",
            Op::Recv => "receiving calls (recv, recvfrom, recvmsg ...)",
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

    /// What it says of calls.
    pub const fn meaning(self) -> &'static str {
        match self {
            Quantity::Calls => "how many",
            Quantity::Bytes => "bytes that they moved",
            Quantity::Errors => "how many of them failed",
            Quantity::Nanoseconds => "time spent in them, waiting included",
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

/// Metrics that are switched on together: the words of the conf file's `metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// How many instructions, and of which kinds.
    Instructions,
    /// Accesses of instructions to memory, and their bytes.
    Memory,
    /// What orders accesses to memory.
    Barriers,
    /// System calls.
    Syscalls,
}

impl Group {
    /// All groups, in the order in which they are named.
    pub const ALL: [Group; 4] =
        [Group::Instructions, Group::Memory, Group::Barriers, Group::Syscalls];

    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Instructions => "instructions",
            Group::Memory => "memory",
            Group::Barriers => "barriers",
            Group::Syscalls => "syscalls",
        }
    }
}

/// What makes a metric advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Executed instructions, by the engine's weights.
    Instructions(EngineMetric),
    /// System calls.
    Syscalls(Class, Op, Quantity),
}

/// One row of the metric table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The public name.
    pub name: &'static str,
    /// What the values are counted in.
    pub unit: Unit,
    /// What switches it on.
    pub group: Group,
    /// What makes it advance.
    pub source: Source,
    /// The edition of the table that brought it: stores of an earlier one have no column for it.
    pub since: u32,
}

impl Metric {
    /// Whether the engine counts it (as against the system-call hooks).
    pub const fn is_engine(&self) -> bool {
        matches!(self.source, Source::Instructions(_))
    }

    /// Class, family and quantity of a metric of system calls.
    pub const fn syscall(&self) -> Option<(Class, Op, Quantity)> {
        match self.source {
            Source::Syscalls(class, op, quantity) => Some((class, op, quantity)),
            Source::Instructions(_) => None,
        }
    }
}

/// How a metric of instructions is told to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telling {
    /// What it counts, for the glossary of figures.
    pub meaning: &'static str,
    /// The head of a narrow column.
    pub head: &'static str,
    /// Beside its value stands how many there are per so many instructions.
    pub per_instructions: u32,
}

/// The rows of the metrics of instructions.
macro_rules! engine_metrics {
    ($( $metric:ident {
        name: $name:literal,
        unit: $unit:ident,
        group: $group:ident,
        head: $head:literal,
        per_instructions: $per:literal,
        since: $since:literal,
        meaning: $meaning:literal,
    } )*) => {
        /// A metric of instructions: a dot product of block counts with the weights of blocks.
        ///
        /// Its number is its index in [`METRICS`] too.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum EngineMetric { $( #[doc = $meaning] $metric, )* }

        impl EngineMetric {
            /// All of them, in their order in the table.
            pub const ALL: [EngineMetric; ENGINE_COUNT] = [ $( EngineMetric::$metric, )* ];

            /// The public name.
            pub const fn name(self) -> &'static str {
                ENGINE_METRICS[self as usize].name
            }

            /// How it is told to people.
            pub const fn telling(self) -> Telling {
                match self {
                    $( EngineMetric::$metric => Telling {
                        meaning: $meaning,
                        head: $head,
                        per_instructions: $per,
                    }, )*
                }
            }
        }

        const ENGINE_METRICS: &[Metric] = &[ $( Metric {
            name: $name,
            unit: Unit::$unit,
            group: Group::$group,
            source: Source::Instructions(EngineMetric::$metric),
            since: $since,
        }, )* ];
    };
}

engine_metrics! {
    Instructions {
        name: "instructions",
        unit: Count,
        group: Instructions,
        head: "instrs",
        per_instructions: 1,
        since: 1,
        meaning: "instructions retired at user level; a repeated string instruction is one",
    }
    MemoryReads {
        name: "memory_reads",
        unit: Count,
        group: Memory,
        head: "reads",
        per_instructions: 1,
        since: 1,
        meaning: "memory reads of instructions",
    }
    MemoryWrites {
        name: "memory_writes",
        unit: Count,
        group: Memory,
        head: "writes",
        per_instructions: 1,
        since: 1,
        meaning: "memory writes of instructions",
    }
    MemoryBytesRead {
        name: "memory_bytes_read",
        unit: Bytes,
        group: Memory,
        head: "bytes rd",
        per_instructions: 1,
        since: 1,
        meaning: "bytes that instructions read from memory",
    }
    MemoryBytesWritten {
        name: "memory_bytes_written",
        unit: Bytes,
        group: Memory,
        head: "bytes wr",
        per_instructions: 1,
        since: 1,
        meaning: "bytes that instructions wrote to memory",
    }
    Barriers {
        name: "barriers",
        unit: Count,
        group: Barriers,
        head: "barriers",
        per_instructions: 1000,
        since: 1,
        meaning: "fences, locked instructions and exchanges with memory",
    }
}

/// Number of metrics that the engine counts, at the front of the table.
pub const ENGINE_COUNT: usize = ENGINE_METRICS.len();
/// Number of system-call metrics of each [`Class`].
pub const PER_CLASS: usize = 22;
/// Number of metrics in all.
pub const METRIC_COUNT: usize = ENGINE_COUNT + Class::ALL.len() * PER_CLASS;

/// Index of `instructions`.
pub const INSTRUCTIONS: usize = EngineMetric::Instructions as usize;
/// Index of `memory_bytes_read`.
pub const MEMORY_BYTES_READ: usize = EngineMetric::MemoryBytesRead as usize;
/// Index of `memory_bytes_written`.
pub const MEMORY_BYTES_WRITTEN: usize = EngineMetric::MemoryBytesWritten as usize;
/// Index of `barriers`.
pub const BARRIERS: usize = EngineMetric::Barriers as usize;

/// The chunks in which values are stored, as (first index, count): the engine's metrics, then one
/// chunk per class.
pub const CHUNKS: [(usize, usize); 5] = [
    (0, ENGINE_COUNT),
    (Class::File.first(), PER_CLASS),
    (Class::Pipe.first(), PER_CLASS),
    (Class::Socket.first(), PER_CLASS),
    (Class::Other.first(), PER_CLASS),
];

macro_rules! syscall_metrics {
    ($( $class:ident $prefix:literal ),*) => {
        [ $(
            syscall_metrics!(@row $class $prefix Open "_open_" Calls "calls"),
            syscall_metrics!(@row $class $prefix Open "_open_" Errors "errors"),
            syscall_metrics!(@row $class $prefix Open "_open_" Nanoseconds "ns"),
            syscall_metrics!(@row $class $prefix Close "_close_" Calls "calls"),
            syscall_metrics!(@row $class $prefix Close "_close_" Errors "errors"),
            syscall_metrics!(@row $class $prefix Close "_close_" Nanoseconds "ns"),
            syscall_metrics!(@row $class $prefix Read "_read_" Calls "calls"),
            syscall_metrics!(@row $class $prefix Read "_read_" Bytes "bytes"),
            syscall_metrics!(@row $class $prefix Read "_read_" Errors "errors"),
            syscall_metrics!(@row $class $prefix Read "_read_" Nanoseconds "ns"),
            syscall_metrics!(@row $class $prefix Write "_write_" Calls "calls"),
            syscall_metrics!(@row $class $prefix Write "_write_" Bytes "bytes"),
            syscall_metrics!(@row $class $prefix Write "_write_" Errors "errors"),
            syscall_metrics!(@row $class $prefix Write "_write_" Nanoseconds "ns"),
            syscall_metrics!(@row $class $prefix Send "_send_" Calls "calls"),
            syscall_metrics!(@row $class $prefix Send "_send_" Bytes "bytes"),
            syscall_metrics!(@row $class $prefix Send "_send_" Errors "errors"),
            syscall_metrics!(@row $class $prefix Send "_send_" Nanoseconds "ns"),
            syscall_metrics!(@row $class $prefix Recv "_recv_" Calls "calls"),
            syscall_metrics!(@row $class $prefix Recv "_recv_" Bytes "bytes"),
            syscall_metrics!(@row $class $prefix Recv "_recv_" Errors "errors"),
            syscall_metrics!(@row $class $prefix Recv "_recv_" Nanoseconds "ns"),
        )* ]
    };
    (@row $class:ident $prefix:literal $op:ident $middle:literal $quantity:ident $end:literal) => {
        Metric {
            name: concat!($prefix, $middle, $end),
            unit: Quantity::$quantity.unit(),
            group: Group::Syscalls,
            source: Source::Syscalls(Class::$class, Op::$op, Quantity::$quantity),
            since: 1,
        }
    };
}

const SYSCALL_METRICS: [Metric; METRIC_COUNT - ENGINE_COUNT] =
    syscall_metrics!(File "file", Pipe "pipe", Socket "socket", Other "other");

/// Every metric, in the order of a record's values.
pub const METRICS: [Metric; METRIC_COUNT] = {
    let mut all = [SYSCALL_METRICS[0]; METRIC_COUNT];
    let mut at = 0;
    while at < METRIC_COUNT {
        all[at] = match at < ENGINE_COUNT {
            true => ENGINE_METRICS[at],
            false => SYSCALL_METRICS[at - ENGINE_COUNT],
        };
        at += 1;
    }
    all
};

/// The edition of the table: what is released never loses a row, and each set of new ones is a new edition.
pub const EDITION: u32 = {
    let (mut edition, mut at) = (1, 0);
    while at < METRIC_COUNT {
        if METRICS[at].since > edition {
            edition = METRICS[at].since;
        }
        at += 1;
    }
    edition
};

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
    /// Those that the engine counts.
    pub const ENGINE: MetricSet = MetricSet((1 << ENGINE_COUNT) - 1);

    /// The 22 metrics of a class.
    pub const fn class(class: Class) -> MetricSet {
        MetricSet(((1 << PER_CLASS) - 1) << class.first())
    }

    /// The metrics that a group switches on.
    pub const fn group(group: Group) -> MetricSet {
        let (mut set, mut at) = (MetricSet::EMPTY, 0);
        while at < METRIC_COUNT {
            if METRICS[at].group as u8 == group as u8 {
                set = set.with(at);
            }
            at += 1;
        }
        set
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
                            assert_eq!(METRICS[index].syscall(), Some((class, op, quantity)));
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
    }

    #[test]
    fn an_engine_metric_is_its_index() {
        for metric in EngineMetric::ALL {
            assert_eq!(METRICS[metric as usize].source, Source::Instructions(metric));
        }
        assert!(METRICS[ENGINE_COUNT..].iter().all(|metric| !metric.is_engine()));
    }

    #[test]
    fn groups_share_the_table_out() {
        let groups = Group::ALL.map(MetricSet::group);
        assert_eq!(groups.into_iter().fold(MetricSet::EMPTY, MetricSet::union), MetricSet::ALL);
        for (at, one) in groups.iter().enumerate() {
            assert!(!one.is_empty());
            assert!(groups[..at].iter().all(|other| one.intersection(*other).is_empty()));
        }
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
