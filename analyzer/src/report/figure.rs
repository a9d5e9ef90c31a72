//! Figures: what a report's columns show.

use records::METRICS;
use records::metric::{BARRIERS, Class, EngineMetric, INSTRUCTIONS, Op, Quantity, Unit};
use serde_json::{Value, json};

use crate::input::eventlog::SPARK_METRICS;
use crate::report::key::Dimension;
use crate::text::nearest::nearest;

/// Prefix of Spark's own figures, as against ours.
const SPARK_PREFIX: &str = "spark_";

/// Ratios are whole numbers of millionths.
pub const MILLION: u64 = 1_000_000;

/// How near its data a task ran: Spark's name, and the figure that counts such tasks.
pub const LOCALITIES: [(&str, &str); 5] = [
    ("PROCESS_LOCAL", "spark_process_local_tasks"),
    ("NODE_LOCAL", "spark_node_local_tasks"),
    ("RACK_LOCAL", "spark_rack_local_tasks"),
    ("ANY", "spark_any_tasks"),
    ("NO_PREF", "spark_no_pref_tasks"),
];

/// One figure divided by another.
pub struct Ratio {
    /// The public name.
    pub name: &'static str,
    /// What is divided.
    pub over: Figure,
    /// By what.
    pub under: Figure,
    /// Times this.
    pub factor: u64,
}

const fn spark(name: &str) -> usize {
    let mut at = 0;
    while at < SPARK_METRICS.len() {
        if same(SPARK_METRICS[at], name) {
            return at;
        }
        at += 1;
    }
    panic!("no such metric of Spark's")
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Whether a metric of Spark's is the most that there was at any time, of which the largest is told and no sum.
pub const fn is_peak(index: usize) -> bool {
    index == spark("peak_execution_memory_bytes")
}

const SHUFFLE_RECORDS: Figure =
    Figure::Shuffle(spark("shuffle_read_records"), spark("shuffle_write_records"));
const SHUFFLE_BYTES: Figure =
    Figure::Shuffle(spark("shuffle_read_bytes"), spark("shuffle_write_bytes"));

const fn per_instruction(name: &'static str, over: Figure, factor: u64) -> Ratio {
    Ratio { name, over, under: Figure::Metric(INSTRUCTIONS), factor }
}

const fn instructions_per(name: &'static str, under: Figure) -> Ratio {
    Ratio { name, over: Figure::Metric(INSTRUCTIONS), under, factor: 1 }
}

/// The ratios. Shuffle is what was read and what was written.
pub const RATIOS: [Ratio; 8] = [
    per_instruction("memory_bytes_per_instruction", Figure::MemoryBytes, 1),
    per_instruction("barriers_per_thousand_instructions", Figure::Metric(BARRIERS), 1000),
    instructions_per("instructions_per_input_record", Figure::Spark(spark("input_records"))),
    instructions_per("instructions_per_input_byte", Figure::Spark(spark("input_bytes"))),
    instructions_per("instructions_per_shuffle_record", SHUFFLE_RECORDS),
    instructions_per("instructions_per_shuffle_byte", SHUFFLE_BYTES),
    instructions_per("instructions_per_cpu_ns", Figure::Spark(spark("cpu_time_ns"))),
    Ratio {
        name: "memory_bytes_per_shuffle_byte",
        over: Figure::MemoryBytes,
        under: SHUFFLE_BYTES,
        factor: 1,
    },
];

/// A figure of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Task attempts.
    Tasks,
    /// Task attempts of which there is a record.
    RecordedTasks,
    /// Task attempts of which the engine counted all.
    ExactTasks,
    /// Task attempts that failed or were killed, by the event log.
    FailedTasks,
    /// When the first task was launched, by the event log.
    FirstLaunch,
    /// When the last task was finished.
    LastFinish,
    /// From the one to the other.
    Wall,
    /// Task attempts that ran so near their data, by index of [`LOCALITIES`].
    Locality(usize),
    /// A metric of the record format, by index.
    Metric(usize),
    /// Those of the tasks' instructions that Python workers have executed.
    PythonInstructions,
    /// Bytes of memory read and written.
    MemoryBytes,
    /// A system-call quantity summed over all classes of descriptors.
    OverClasses(Op, Quantity),
    /// A quantity summed over all system calls on a class of descriptors.
    OverOps(Class, Quantity),
    /// A quantity summed over all system calls that are counted.
    OverAll(Quantity),
    /// Bytes that came in through a class of descriptors: read and received.
    Incoming(Class),
    /// Bytes that went out through a class of descriptors: written and sent.
    Outgoing(Class),
    /// A metric that Spark measured, by index.
    Spark(usize),
    /// Two metrics of Spark's together: what was read of shuffles and what was written to them.
    Shuffle(usize, usize),
    /// One of [`RATIOS`], by index.
    Ratio(usize),
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Events.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
    /// Milliseconds.
    Milliseconds,
    /// Milliseconds since the epoch.
    Moment,
    /// Millionths of something without a unit.
    Millionths,
}

impl Figure {
    /// Every figure, in the order of JSON and CSV.
    pub fn all() -> Vec<Figure> {
        let mut all =
            vec![Figure::Tasks, Figure::RecordedTasks, Figure::ExactTasks, Figure::FailedTasks];
        all.extend((0..METRICS.len()).map(Figure::Metric));
        all.extend([Figure::PythonInstructions, Figure::MemoryBytes]);
        for op in Op::ALL {
            for quantity in Quantity::ALL {
                if op.moves_bytes() || quantity != Quantity::Bytes {
                    all.push(Figure::OverClasses(op, quantity));
                }
            }
        }
        let over_all = [Quantity::Calls, Quantity::Errors, Quantity::Nanoseconds];
        all.extend(over_all.map(Figure::OverAll));
        all.extend(
            Class::ALL.iter().flat_map(|&class| [Figure::Incoming(class), Figure::Outgoing(class)]),
        );
        let by_class = |&class| Quantity::ALL.map(|quantity| Figure::OverOps(class, quantity));
        all.extend(Class::ALL.iter().flat_map(by_class));
        all.extend((0..SPARK_METRICS.len()).map(Figure::Spark));
        all.extend([SHUFFLE_RECORDS, SHUFFLE_BYTES]);
        all.extend((0..LOCALITIES.len()).map(Figure::Locality));
        all.extend([Figure::FirstLaunch, Figure::LastFinish, Figure::Wall]);
        all.extend((0..RATIOS.len()).map(Figure::Ratio));
        all
    }

    /// The public name: the key in JSON, the head in CSV, the word for `--columns`.
    pub fn name(self) -> String {
        match self {
            Figure::Tasks => "tasks".into(),
            Figure::RecordedTasks => "recorded_tasks".into(),
            Figure::ExactTasks => "exact_tasks".into(),
            Figure::FailedTasks => "spark_failed_tasks".into(),
            Figure::Locality(index) => LOCALITIES[index].1.into(),
            Figure::FirstLaunch => "spark_first_launch_ms".into(),
            Figure::LastFinish => "spark_last_finish_ms".into(),
            Figure::Wall => "spark_wall_ms".into(),
            Figure::PythonInstructions => "python_instructions".into(),
            Figure::MemoryBytes => "memory_bytes".into(),
            Figure::OverOps(class, quantity) => {
                format!("{}_{}", class.name(), quantity.name())
            }
            Figure::Shuffle(read, _) if SPARK_METRICS[read].ends_with("records") => {
                "spark_shuffle_records".into()
            }
            Figure::Shuffle(..) => "spark_shuffle_bytes".into(),
            Figure::Ratio(index) => RATIOS[index].name.into(),
            Figure::Metric(index) => METRICS[index].name.into(),
            Figure::OverClasses(op, quantity) => format!("{}_{}", op.name(), quantity.name()),
            Figure::OverAll(quantity) => format!("syscall_{}", quantity.name()),
            Figure::Incoming(class) => format!("{}_bytes_in", class.name()),
            Figure::Outgoing(class) => format!("{}_bytes_out", class.name()),
            Figure::Spark(index) => format!("{SPARK_PREFIX}{}", SPARK_METRICS[index]),
        }
    }

    /// Those that the engine counts, in their order.
    pub fn of_engine() -> impl Iterator<Item = Figure> {
        EngineMetric::ALL.into_iter().map(|metric| Figure::Metric(metric as usize))
    }

    /// The figure with this name.
    ///
    /// # Errors
    /// A text that names the word and the nearest right one.
    pub fn parse(word: &str) -> Result<Figure, String> {
        let all = Figure::all();
        if let Some(figure) = all.iter().find(|figure| figure.name() == word) {
            return Ok(*figure);
        }
        let names: Vec<_> = all.iter().map(|figure| figure.name()).collect();
        Err(match nearest(word, names.iter().map(String::as_str)) {
            Some(near) => format!("unknown column {word:?} (did you mean {near:?}?)"),
            None => format!("unknown column {word:?} (analyzer figures lists them)"),
        })
    }

    /// Whether whole processes have it, as against tasks alone.
    pub fn is_of_processes(self) -> bool {
        match self {
            Figure::Metric(_)
            | Figure::MemoryBytes
            | Figure::OverOps(..)
            | Figure::OverClasses(..)
            | Figure::OverAll(_)
            | Figure::Incoming(_)
            | Figure::Outgoing(_) => true,
            Figure::Ratio(index) => RATIOS[index].under.is_of_processes(),
            _ => false,
        }
    }

    /// Whether rows by these dimensions have it: directories are of whole processes.
    pub fn is_of(self, by: &[Dimension]) -> bool {
        self.is_of_processes() || !by.contains(&Dimension::Directory)
    }

    /// A value as JSON: ratios with their decimals, all else as it is.
    pub fn json(self, value: u64) -> Value {
        match self.scale() {
            Scale::Millionths => json!(value as f64 / MILLION as f64),
            _ => json!(value),
        }
    }

    /// What it is counted in.
    pub fn scale(self) -> Scale {
        let of_unit = |unit| match unit {
            Unit::Count => Scale::Count,
            Unit::Bytes => Scale::Bytes,
            Unit::Nanoseconds => Scale::Nanoseconds,
        };
        match self {
            Figure::Tasks
            | Figure::RecordedTasks
            | Figure::ExactTasks
            | Figure::FailedTasks
            | Figure::PythonInstructions
            | Figure::Locality(_) => Scale::Count,
            Figure::FirstLaunch | Figure::LastFinish => Scale::Moment,
            Figure::Wall => Scale::Milliseconds,
            Figure::Ratio(_) => Scale::Millionths,
            Figure::MemoryBytes => Scale::Bytes,
            Figure::Shuffle(read, _) => Figure::Spark(read).scale(),
            Figure::Metric(index) => of_unit(METRICS[index].unit),
            Figure::OverClasses(_, quantity)
            | Figure::OverOps(_, quantity)
            | Figure::OverAll(quantity) => of_unit(quantity.unit()),
            Figure::Incoming(_) | Figure::Outgoing(_) => Scale::Bytes,
            Figure::Spark(index) => match SPARK_METRICS[index] {
                name if name.ends_with("_ms") => Scale::Milliseconds,
                name if name.ends_with("_ns") => Scale::Nanoseconds,
                name if name.ends_with("_bytes") => Scale::Bytes,
                _ => Scale::Count,
            },
        }
    }
}

/// The names of the figures that a table per directory shows when the user does not choose, and their heads.
const FILE_FIGURES: [(&str, &str); 8] = [
    ("file_read_calls", "reads"),
    ("file_read_bytes", "read"),
    ("file_write_calls", "writes"),
    ("file_write_bytes", "written"),
    ("file_open_calls", "opens"),
    ("file_close_calls", "closes"),
    ("file_errors", "errors"),
    ("file_ns", "time"),
];

/// Columns of a table that belong together.
pub struct Block {
    /// What they have in common.
    pub title: &'static str,
    /// Figures and their short heads.
    pub columns: Vec<(Figure, String)>,
    /// Whether the user did not choose the columns.
    pub is_default: bool,
    /// Whether its figures are of tasks alone, and not of the rest of their processes.
    pub is_of_tasks: bool,
}

/// A block of the figures of these names.
fn block(title: &'static str, columns: &[(&str, &str)]) -> Block {
    let figure = |name| Figure::parse(name).expect("the names below are figures; a test proves it");
    Block {
        title,
        columns: columns.iter().map(|(name, head)| (figure(name), (*head).to_owned())).collect(),
        is_default: true,
        is_of_tasks: columns.iter().all(|(name, _)| !figure(name).is_of_processes()),
    }
}

/// Groups of figures that a table can show, the values of `--figures`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// What matters most, in one table
    Main,
    /// Instructions and memory
    Memory,
    /// System calls, by kind of descriptor
    Io,
    /// Ratios of counts, with Spark's figures too
    Ratios,
    /// Spark's own figures
    Spark,
    /// All of these; every figure in CSV, Parquet and Markdown
    All,
}

/// The names of the figures that matter most, and their heads.
pub const MAIN_FIGURES: [(&str, &str); 10] = [
    ("tasks", "tasks"),
    ("spark_failed_tasks", "failed"),
    ("instructions", "instrs"),
    ("memory_bytes", "memory"),
    ("syscall_calls", "calls"),
    ("file_bytes_in", "file in"),
    ("file_bytes_out", "file out"),
    ("socket_bytes_in", "sock in"),
    ("socket_bytes_out", "sock out"),
    ("spark_run_time_ms", "run"),
];

/// The blocks of a table of these groups.
pub fn blocks(by: &[Dimension], groups: &[Group]) -> Vec<Block> {
    if by.contains(&Dimension::Directory) {
        return vec![block("Counted: files", &FILE_FIGURES)];
    }
    let mut blocks = Vec::new();
    if groups.contains(&Group::Main) {
        blocks.push(block("Figures", &MAIN_FIGURES));
    }
    let is_wanted = |group: Group| groups.contains(&Group::All) || groups.contains(&group);
    blocks.extend(
        default_blocks().into_iter().filter(|(group, _)| is_wanted(*group)).map(|(_, block)| block),
    );
    blocks
}

/// The blocks of all groups but the main one.
fn default_blocks() -> Vec<(Group, Block)> {
    let groups = [Group::Memory, Group::Io, Group::Io, Group::Ratios, Group::Spark];
    groups.into_iter().zip(all_blocks()).collect()
}

fn all_blocks() -> Vec<Block> {
    let mut counted = vec![("tasks", "tasks")];
    counted.extend(EngineMetric::ALL.map(|one| (one.name(), one.telling().head)));
    vec![
        block("Counted: instructions and memory", &counted),
        block(
            "Counted: system calls",
            &[
                ("syscall_calls", "calls"),
                ("syscall_errors", "errors"),
                ("syscall_ns", "time"),
                ("file_read_bytes", "file rd"),
                ("file_write_bytes", "file wr"),
                ("socket_bytes_in", "sock in"),
                ("socket_bytes_out", "sock out"),
            ],
        ),
        block(
            "Counted: time and bytes by kind of descriptor",
            &[
                ("file_calls", "file calls"),
                ("file_ns", "file time"),
                ("file_bytes_in", "file in"),
                ("file_bytes_out", "file out"),
                ("pipe_calls", "pipe calls"),
                ("pipe_bytes_in", "pipe in"),
                ("pipe_bytes_out", "pipe out"),
                ("socket_calls", "sock calls"),
                ("socket_ns", "sock time"),
                ("other_calls", "other calls"),
            ],
        ),
        block(
            "Ratios",
            &[
                ("memory_bytes_per_instruction", "mem B/instr"),
                ("barriers_per_thousand_instructions", "barr/1k"),
                ("instructions_per_input_record", "instr/in rec"),
                ("instructions_per_input_byte", "instr/in B"),
                ("instructions_per_shuffle_record", "instr/sh rec"),
                ("instructions_per_shuffle_byte", "instr/sh B"),
            ],
        ),
        block(
            "Spark's own figures (event log)",
            &[
                ("tasks", "tasks"),
                ("spark_run_time_ms", "run"),
                ("spark_cpu_time_ns", "cpu"),
                ("spark_gc_time_ms", "gc"),
                ("spark_shuffle_read_bytes", "shuf rd"),
                ("spark_shuffle_write_bytes", "shuf wr"),
                ("spark_input_bytes", "input"),
                ("spark_output_bytes", "output"),
                ("spark_disk_spilled_bytes", "spill"),
                ("spark_process_local_tasks", "proc-local"),
                ("spark_node_local_tasks", "node-local"),
                ("spark_any_tasks", "elsewhere"),
            ],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let all = Figure::all();
        for figure in &all {
            assert_eq!(Figure::parse(&figure.name()), Ok(*figure));
        }
        assert_eq!(all.iter().filter(|figure| figure.name() == "read_calls").count(), 1);
    }

    #[test]
    fn default_blocks_name_figures() {
        for by in [Dimension::Stage, Dimension::Directory] {
            for group in [Group::Main, Group::Io, Group::All] {
                assert!(blocks(&[by], &[group]).iter().all(|block| !block.columns.is_empty()));
            }
        }
    }

    #[test]
    fn a_wrong_name_gets_its_neighbour() {
        assert_eq!(
            Figure::parse("spark_cpu_time"),
            Err(r#"unknown column "spark_cpu_time" (did you mean "spark_cpu_time_ns"?)"#.into())
        );
    }
}
