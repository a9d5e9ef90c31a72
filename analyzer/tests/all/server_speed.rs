//! How near loading a database is to the server's own LOAD DATA INFILE, and that memory does not grow with
//! what is loaded. Tests of `./run soak`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::Command;
use std::time::Instant;

use crate::fixture::database::Server;
use crate::fixture::expect;
use tests::record_set::RecordSet;

/// The tables with rows, those that others belong to first.
const TABLES: [&str; 4] = ["processes", "threads", "tasks", "segments"];

/// Ingest of 40 executors with 40,000 tasks, and then the same rows into the same schema with its keys and
/// indexes by LOAD DATA INFILE, from files that the server wrote itself.
#[test]
#[ignore = "minutes with an analyzer of the dev profile; figures mean something in release only"]
fn beside_load_data_infile() {
    let options = ["--innodb-buffer-pool-size=512M", "--innodb-log-file-size=512M"];
    let Some(server) = Server::start("beside_load_data_infile", &options) else { return };
    server.sql("SET GLOBAL local_infile = 1");
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let set = RecordSet { nodes: 40, tasks_per_executor: 1000, ..RecordSet::default() };
    let written = set.write_records(&at.join("records")).unwrap();
    let ours = server.store("ours");
    server.store("raw");
    let (begin, cpu) = (Instant::now(), server.cpu());
    expect(at, 0, &["ingest", "--quiet", "records", "--store", &ours]);
    let (ingest, ingest_cpu) = (begin.elapsed(), server.cpu() - cpu);
    let rows = server.sql("SELECT COUNT(*) FROM ours.tasks");
    assert_eq!(rows.trim(), set.tasks().to_string());
    let (mut load, mut load_cpu) = (std::time::Duration::ZERO, 0.0);
    for table in TABLES {
        let file = at.join(table);
        server.sql(&format!("SELECT * FROM ours.{table} INTO OUTFILE '{}'", file.display()));
        let (begin, cpu) = (Instant::now(), server.cpu());
        server.sql(&format!("LOAD DATA INFILE '{}' INTO TABLE raw.{table}", file.display()));
        load += begin.elapsed();
        load_cpu += server.cpu() - cpu;
        let differ =
            format!("SELECT COUNT(*) FROM ours.{table} EXCEPT SELECT COUNT(*) FROM raw.{table}");
        assert_eq!(server.sql(&differ), "", "{table}");
    }
    println!(
        "{} records, {} tasks: ingest {ingest:.2?}, LOAD DATA INFILE {load:.2?}: {:.0} %; the server's CPU time \
         {ingest_cpu:.2} s and {load_cpu:.2} s: {:.0} %",
        written.records,
        set.tasks(),
        100.0 * load.as_secs_f64() / ingest.as_secs_f64(),
        100.0 * load_cpu / ingest_cpu
    );
}

/// Processes with one large file each, ended and killed, and an event log, into a database.
#[test]
#[ignore = "writes 700 MB"]
fn memory_does_not_grow() {
    let Some(server) = Server::start("memory_does_not_grow", &[]) else { return };
    server.sql("SET GLOBAL local_infile = 1");
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let set = RecordSet {
        nodes: 2,
        tasks_per_executor: 75_000,
        killed_every: 2,
        segment_bytes: u64::MAX,
        ..RecordSet::default()
    };
    let written = set.write_records(&at.join("records")).unwrap();
    let mut log = BufWriter::new(File::create(at.join("log")).unwrap());
    set.write_event_log(&mut log).and_then(|()| log.flush()).unwrap();
    let url = server.store("runs");
    for what in ["new", "again"] {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("analyzer"));
        command.current_dir(at).args(["ingest", "--quiet", "records", "--event-log", "log"]);
        command.args(["--store", &url]);
        let cost = tests::cost::measure(command).unwrap();
        println!("{} MB, {what}: {cost:?}", written.bytes / 1_000_000);
        assert!(cost.memory < 512 << 20, "{} MiB", cost.memory >> 20);
    }
    for by in ["node,stage", "time"] {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("analyzer"));
        command.current_dir(at).args(["report", "--quiet", "--format", "csv", "--output", "out"]);
        command.args(["--store", &url, "--by", by]);
        let cost = tests::cost::measure(command).unwrap();
        println!("report --by {by}: {cost:?}");
        assert!(cost.memory < 384 << 20, "{} MiB", cost.memory >> 20);
    }
    let counts =
        "SELECT (SELECT COUNT(*) FROM runs.tasks), (SELECT COUNT(*) FROM runs.spark_tasks)";
    assert_eq!(server.sql(counts).trim(), format!("{0}\t{0}", set.tasks()));
}
