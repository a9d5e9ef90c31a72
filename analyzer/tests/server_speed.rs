//! How near loading a database is to the server's own LOAD DATA INFILE. A test of `./run soak`.

mod fixture;

use std::time::Instant;

use fixture::database::Server;
use fixture::expect;
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
