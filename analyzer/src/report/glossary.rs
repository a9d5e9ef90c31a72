//! What every figure means, its unit, where it comes from and where it stands.

use records::METRICS;
use records::metric::{Class, INSTRUCTIONS, Source};

use crate::input::eventlog::SPARK_METRICS;
use crate::report::figure::{Figure, LOCALITIES, RATIOS, Scale};

fn spark_text(name: &str) -> &'static str {
    match name {
        "run_time_ms" => "time that the executor ran the task",
        "cpu_time_ns" => "CPU time that the executor's thread used for the task",
        "gc_time_ms" => "time that the executor's JVM collected garbage while the task ran",
        "deserialize_time_ms" => "time to deserialise the task",
        "deserialize_cpu_time_ns" => "CPU time to deserialise the task",
        "result_serialization_time_ms" => "time to serialise the task's result",
        "result_bytes" => "bytes of the task's result that went to the driver",
        "peak_execution_memory_bytes" => {
            "most memory of shuffles, aggregations and joins at any time; of several tasks the largest"
        }
        "memory_spilled_bytes" => "bytes in memory of what was spilled",
        "disk_spilled_bytes" => "bytes on disk of what was spilled",
        "shuffle_read_bytes" => "bytes read from shuffles, local and remote",
        "shuffle_read_remote_bytes" => "bytes read from shuffles on other executors",
        "shuffle_read_records" => "records read from shuffles",
        "shuffle_fetch_wait_ms" => "time that the task waited for blocks of shuffles",
        "shuffle_write_bytes" => "bytes written to shuffles",
        "shuffle_write_records" => "records written to shuffles",
        "shuffle_write_time_ns" => "time to write to shuffles",
        "input_bytes" => "bytes read from files, tables and cached blocks",
        "input_records" => "records read from files, tables and cached blocks",
        "output_bytes" => "bytes written to files and tables",
        "output_records" => "records written to files and tables",
        _ => "a metric of Spark's",
    }
}

/// What a figure means.
pub fn meaning(figure: Figure) -> String {
    match figure {
        Figure::Tasks => "task attempts, of records and event logs".into(),
        Figure::RecordedTasks => "task attempts of which there is a record".into(),
        Figure::ExactTasks => "task attempts of which the engine counted everything".into(),
        Figure::FailedTasks => "task attempts that failed or were killed".into(),
        Figure::Locality(index) => {
            format!("task attempts at locality {}", LOCALITIES[index].0)
        }
        Figure::FirstLaunch => "when the first task was launched, ms since the epoch".into(),
        Figure::LastFinish => "when the last task was finished, ms since the epoch".into(),
        Figure::Wall => "from the first task's launch to the last one's finish".into(),
        Figure::PythonInstructions => {
            "those of the tasks' instructions that Python workers executed".into()
        }
        Figure::MemoryBytes => "bytes of memory read and written by instructions".into(),
        Figure::OverOps(class, quantity) => {
            format!("calls on {}: {}", class.meaning(), quantity.meaning())
        }
        Figure::OverClasses(op, quantity) => {
            format!("{}: {}", op.meaning(), quantity.meaning())
        }
        Figure::OverAll(quantity) => {
            format!("all counted system calls: {}", quantity.meaning())
        }
        Figure::Incoming(class) => format!("bytes read and received through {}", class.meaning()),
        Figure::Outgoing(class) => format!("bytes written and sent through {}", class.meaning()),
        Figure::Spark(index) => spark_text(SPARK_METRICS[index]).into(),
        Figure::Shuffle(read, _) => match SPARK_METRICS[read].ends_with("records") {
            true => "records read from and written to shuffles".into(),
            false => "bytes read from and written to shuffles".into(),
        },
        Figure::Ratio(index) => {
            let ratio = &RATIOS[index];
            let factor =
                if ratio.factor == 1 { String::new() } else { format!(" times {}", ratio.factor) };
            format!("{} divided by {}{factor}", ratio.over.name(), ratio.under.name())
        }
        Figure::Metric(index) => match METRICS[index].source {
            Source::Instructions(metric) => metric.telling().meaning.into(),
            Source::Syscalls(class, op, quantity) => {
                format!("{} on {}: {}", op.meaning(), class.meaning(), quantity.meaning())
            }
        },
    }
}

/// What a figure is counted in.
pub fn unit(figure: Figure) -> &'static str {
    match figure.scale() {
        Scale::Count => "count",
        Scale::Bytes => "bytes",
        Scale::Nanoseconds => "ns",
        Scale::Milliseconds => "ms",
        Scale::Moment => "ms since 1970",
        Scale::Millionths => "ratio",
    }
}

/// Where a figure comes from.
pub fn source(figure: Figure) -> &'static str {
    match figure {
        Figure::Ratio(_) => "computed",
        Figure::Metric(index) if index == INSTRUCTIONS => "counted",
        Figure::Tasks => "records and event log",
        Figure::RecordedTasks | Figure::ExactTasks | Figure::PythonInstructions => "counted",
        _ if figure.is_of_processes() => "counted",
        _ => "event log",
    }
}

/// The tables of a store that have it as a column.
pub fn tables(figure: Figure) -> &'static str {
    match figure {
        Figure::Metric(index) => match METRICS[index].syscall() {
            Some((Class::File, ..)) => "processes, threads, tasks, snapshots, directories",
            _ => "processes, threads, tasks, snapshots",
        },
        Figure::Spark(_) => "spark_tasks (without spark_)",
        _ => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_meaning_of_its_own() {
        let all = Figure::all();
        let mut meanings: Vec<_> = all.iter().map(|figure| meaning(*figure)).collect();
        assert!(meanings.iter().all(|text| text.len() > 8));
        let before = meanings.len();
        meanings.sort();
        meanings.dedup();
        assert_eq!(meanings.len(), before, "no two mean the same");
    }
}
