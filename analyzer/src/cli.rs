//! The command line: every flag is defined once, and help, man pages and completions are made from
//! it.

use std::io::Write;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    apps, diff, doctor, dump, export, figures, ingest, inspect, purge, report, rewrite, schema,
    spark_conf, top, trace,
};
use crate::console::exit::{Exit, Failure, after_help};
use crate::console::terminal::Color;

/// Exact instruction, memory and system-call counts of programs and of Spark tasks
///
/// `trace` runs any dynamically linked x86-64 program and counts what it executes. On a Spark
/// cluster the same library, preloaded into the workers, writes record files; `ingest` loads them
/// together with Spark's event log, and `report` says per node, stage, task, executor and
/// application where the work went.
#[derive(Debug, Parser)]
#[command(
    name = "analyzer",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_long_help = after_help(&EXAMPLES)
)]
pub struct Cli {
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t = Color::Auto,
        display_order = 100
    )]
    pub color: Color,

    /// No progress bars and no summaries: results, warnings and errors only
    #[arg(long, short, global = true, display_order = 101, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say on standard error what is done and how long it takes
    #[arg(long, short, global = true, display_order = 102)]
    pub verbose: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `analyzer`.
#[derive(Debug, Subcommand)]
pub enum Command {
    Trace(trace::Args),
    #[command(after_long_help = after_help(&DUMP_EXAMPLES))]
    Dump(dump::Args),
    #[command(after_long_help = after_help(&INGEST_EXAMPLES))]
    Ingest(ingest::Args),
    #[command(after_long_help = after_help(&PURGE_EXAMPLES))]
    Purge(purge::Args),
    #[command(after_long_help = after_help(&REPORT_EXAMPLES))]
    Report(report::Args),
    #[command(after_long_help = after_help(&APPS_EXAMPLES))]
    Apps(apps::Args),
    #[command(after_long_help = after_help(&FIGURES_EXAMPLES))]
    Figures(figures::Args),
    #[command(after_long_help = after_help(&DIFF_EXAMPLES))]
    Diff(diff::Args),
    #[command(after_long_help = after_help(&EXPORT_EXAMPLES))]
    Export(export::Args),
    #[command(after_long_help = after_help(&TOP_EXAMPLES))]
    Top(top::Args),
    #[command(after_long_help = after_help(&DOCTOR_EXAMPLES))]
    Doctor(doctor::Args),
    #[command(after_long_help = after_help(&SPARK_CONF_EXAMPLES))]
    SparkConf(spark_conf::Args),
    #[command(after_long_help = after_help(&INSPECT_EXAMPLES))]
    Inspect(inspect::Args),
    #[command(after_long_help = after_help(&REWRITE_EXAMPLES))]
    Rewrite(rewrite::Args),
    #[command(after_long_help = after_help(&SCHEMA_EXAMPLES))]
    Schema(schema::Args),
    /// The program that doctor runs natively and followed
    #[command(hide = true)]
    FollowedTrial,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write the pages of all commands to a folder
    Man {
        /// Where to write analyzer.1, analyzer-trace.1 ...
        folder: Option<PathBuf>,
    },
}

const EXAMPLES: [&str; 5] = [
    "analyzer trace -- gzip -9 -k big.txt          what gzip executed, as a table on standard error",
    "analyzer trace --json counts.json -- ls -l    the same as JSON, per process and thread",
    "analyzer dump node1-4711-*.sar                what a record file holds",
    "analyzer ingest --event-log /spark/events /var/lib/sparkanalyzer",
    "analyzer report --by node,stage               where the work of a Spark job went",
];

const DUMP_EXAMPLES: [&str; 3] = [
    "analyzer dump records/*.sar",
    "analyzer dump --metrics instructions,file node1-4711-*.sar",
    "analyzer dump --format json node1-4711-*.sar | jq '.groups[-1].values'",
];

const INGEST_EXAMPLES: [&str; 6] = [
    "analyzer ingest --mysql mysql://spark@db/runs?password_file=/etc/runs.pw /var/lib/sparkanalyzer",
    "analyzer ingest --event-log /spark/events /var/lib/sparkanalyzer",
    "analyzer ingest --store /data/runs records-of-node1/ records-of-node2/",
    "analyzer ingest --event-log http://history:18080/app-20260101120000-0001 records/",
    "analyzer ingest --follow --mysql mysql://spark@db/runs /var/lib/sparkanalyzer",
    "zstdcat events_1_app-1.zstd | analyzer ingest --store /data/runs --event-log -",
];

const PURGE_EXAMPLES: [&str; 2] = [
    "analyzer purge --older-than 90d",
    "analyzer purge --store mysql://spark@db/runs --older-than 4w",
];

const APPS_EXAMPLES: [&str; 2] =
    ["analyzer apps", "analyzer apps --store /data/runs --format csv --top 100"];

const FIGURES_EXAMPLES: [&str; 3] = [
    "analyzer figures                                what every figure means",
    "analyzer figures shuffle --format json",
    "analyzer figures --rules                        what makes a finding",
];

const REPORT_EXAMPLES: [&str; 9] = [
    "analyzer report                                     the newest application: costs, findings, stages",
    "analyzer report --app 'word count' --top 10",
    "analyzer report --by node,stage --figures memory,io",
    "analyzer report --by task --where 'stage=3 and instructions>1e9' --sort instructions --top 20",
    "analyzer report --by node,time --bucket 1m          after ingest --snapshots all: what ran in each minute",
    "analyzer report --format html --output report.html",
    "analyzer report --store /data/runs --by task --app app-20260101120000-0001 --format csv",
    "analyzer report --by executor --columns instructions,memory_reads",
    "analyzer report --engine spark --master spark://head:7077 --store hdfs:///runs --by node",
];

const DIFF_EXAMPLES: [&str; 5] = [
    "analyzer diff runs-before runs-after            two stores, every application in them is a run",
    "analyzer diff '#app-1' '#app-2'                 two runs of the usual store",
    "analyzer diff '/data/runs#a-1,a-2,a-3' '/data/runs#b-1,b-2,b-3' --format markdown",
    "analyzer diff old1.json,old2.json new1.json,new2.json        results of trace --json",
    "analyzer diff base new --columns instructions --fail-above 2     for CI: 1 if a stage needs more",
];

const EXPORT_EXAMPLES: [&str; 3] = [
    "analyzer export --to prometheus -o /var/lib/node_exporter/textfile/spark.prom",
    "analyzer export --to prometheus --by app,stage --columns instructions,tasks",
    "analyzer export --to chrome --app app-1 -o tasks.json    open it in ui.perfetto.dev",
];

const TOP_EXAMPLES: [&str; 4] = [
    "analyzer top                                     the record files of /var/tmp/sparkanalyzer",
    "analyzer top /data/records --sort file_bytes",
    "analyzer top --once --format json | jq '.threads[0]'",
    "analyzer top --store /data/runs                  mean rates, as a store has no moments",
];

const DOCTOR_EXAMPLES: [&str; 4] = [
    "analyzer doctor                                 0: all is well, 1: warnings, 6: counting would not work",
    "sudo -u spark analyzer doctor --spark-home /opt/spark --store mysql://spark@db/runs",
    "analyzer doctor --format json | jq '.findings[] | select(.level == \"problem\")'",
    "analyzer doctor --spark-submit-args --master spark://master:7077",
];

const SPARK_CONF_EXAMPLES: [&str; 4] = [
    "analyzer spark-conf >> spark-defaults.conf                   one job or one user, any cluster",
    "analyzer spark-conf --standalone >> /opt/spark/conf/spark-env.sh",
    "analyzer spark-conf --k8s --executor-memory 8g > kubernetes-executor.yaml",
    "analyzer spark-conf --yarn --library /usr/local/lib/libshim.so",
];

const SCHEMA_EXAMPLES: [&str; 3] = [
    "analyzer schema init --store mysql://admin@db/runs",
    "analyzer schema upgrade --store 'mysql://admin@db/runs?root_cert_path=/etc/ca.pem'   by a CA of one's own",
    "analyzer schema grants --store mysql://admin@db/runs --ingest-user spark --report-user reader | mariadb -h db",
];

const INSPECT_EXAMPLES: [&str; 3] = [
    "analyzer inspect /usr/bin/gzip",
    "analyzer inspect --by function /usr/lib/jvm/default-java/lib/server/libjvm.so | head -50",
    "analyzer inspect --format json ./server | jq '.rewrite'",
];

const REWRITE_EXAMPLES: [&str; 3] = [
    "analyzer rewrite --preload /usr/bin/gzip -o gzip.counted",
    "analyzer rewrite --preload --needed /opt/sparkanalyzer/lib/libshim.so java -o java.counted",
    "analyzer rewrite --undo gzip.counted -o gzip.again",
];

/// Prints the completion script for `shell`.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "analyzer", &mut script);
    print(&script)
}

/// Prints the main man page, or writes all pages to `folder`.
///
/// # Errors
/// When the output cannot be written.
pub fn write_man_pages(folder: Option<PathBuf>) -> Result<(), Failure> {
    // A man page has its own wrapping.
    let command = Cli::command().max_term_width(0);
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(unwritable)?;
        return print(&page);
    };
    std::fs::create_dir_all(&folder)
        .and_then(|()| clap_mangen::generate_to(command, &folder))
        .map_err(|error| Failure::new(Exit::BadOutput, format!("{}: {error}", folder.display())))
}

fn print(text: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().write_all(text) {
        // The reader of a pipe has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(unwritable),
    }
}

fn unwritable(error: std::io::Error) -> Failure {
    Failure::new(Exit::BadOutput, format!("standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
