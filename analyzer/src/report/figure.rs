//! Figures: what a report's columns show.

use records::METRICS;
use records::metric::{Class, Op, Quantity, Unit};

use crate::eventlog::SPARK_METRICS;
use crate::metric_list::nearest;

/// Prefix of Spark's own figures, as against ours.
const SPARK_PREFIX: &str = "spark_";

/// A figure of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Task attempts.
    Tasks,
    /// Task attempts of which there is a record.
    RecordedTasks,
    /// Task attempts that failed or were killed, by the event log.
    FailedTasks,
    /// A metric of the record format, by index.
    Metric(usize),
    /// A system-call quantity summed over all classes of descriptors.
    OverClasses(Op, Quantity),
    /// A quantity summed over all system calls that are counted.
    OverAll(Quantity),
    /// Bytes that came in through a class of descriptors: read and received.
    Incoming(Class),
    /// Bytes that went out through a class of descriptors: written and sent.
    Outgoing(Class),
    /// A metric that Spark measured, by index.
    Spark(usize),
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
}

impl Figure {
    /// Every figure, in the order of JSON and CSV.
    pub fn all() -> Vec<Figure> {
        let mut all = vec![Figure::Tasks, Figure::RecordedTasks, Figure::FailedTasks];
        all.extend((0..METRICS.len()).map(Figure::Metric));
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
        all.extend((0..SPARK_METRICS.len()).map(Figure::Spark));
        all
    }

    /// The public name: the key in JSON, the head in CSV, the word for `--columns`.
    pub fn name(self) -> String {
        match self {
            Figure::Tasks => "tasks".into(),
            Figure::RecordedTasks => "recorded_tasks".into(),
            Figure::FailedTasks => "spark_failed_tasks".into(),
            Figure::Metric(index) => METRICS[index].name.into(),
            Figure::OverClasses(op, quantity) => format!("{}_{}", op.name(), quantity.name()),
            Figure::OverAll(quantity) => format!("syscall_{}", quantity.name()),
            Figure::Incoming(class) => format!("{}_bytes_in", class.name()),
            Figure::Outgoing(class) => format!("{}_bytes_out", class.name()),
            Figure::Spark(index) => format!("{SPARK_PREFIX}{}", SPARK_METRICS[index]),
        }
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
            None => format!("unknown column {word:?} (the keys of --format json are the names)"),
        })
    }

    /// Whether whole processes have it, as against tasks alone.
    pub fn is_of_processes(self) -> bool {
        match self {
            Figure::Metric(_)
            | Figure::OverClasses(..)
            | Figure::OverAll(_)
            | Figure::Incoming(_)
            | Figure::Outgoing(_) => true,
            Figure::Tasks | Figure::RecordedTasks | Figure::FailedTasks | Figure::Spark(_) => false,
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
            Figure::Tasks | Figure::RecordedTasks | Figure::FailedTasks => Scale::Count,
            Figure::Metric(index) => of_unit(METRICS[index].unit),
            Figure::OverClasses(_, quantity) | Figure::OverAll(quantity) => {
                of_unit(quantity.unit())
            }
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

/// The blocks of a table when the user does not choose columns.
pub fn default_blocks() -> [Block; 3] {
    let column = |name: &str, head: &str| {
        let figure = Figure::parse(name).expect("the names below are figures; a test proves it");
        (figure, head.to_owned())
    };
    let block = |title, columns: &[(&str, &str)]| Block {
        title,
        columns: columns.iter().map(|(name, head)| column(name, head)).collect(),
        is_default: true,
        is_of_tasks: columns.iter().all(|(name, _)| !column(name, "").0.is_of_processes()),
    };
    [
        block(
            "Counted: instructions and memory",
            &[
                ("tasks", "tasks"),
                ("instructions", "instrs"),
                ("memory_reads", "reads"),
                ("memory_writes", "writes"),
                ("memory_bytes_read", "bytes rd"),
                ("memory_bytes_written", "bytes wr"),
                ("barriers", "barriers"),
            ],
        ),
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
        assert!(default_blocks().iter().all(|block| !block.columns.is_empty()));
    }

    #[test]
    fn a_wrong_name_gets_its_neighbour() {
        assert_eq!(
            Figure::parse("spark_cpu_time"),
            Err(r#"unknown column "spark_cpu_time" (did you mean "spark_cpu_time_ns"?)"#.into())
        );
    }
}
