//! The same report from a folder, from a MariaDB server and by a Spark cluster, and what is said when Spark is
//! not what it should be.

use std::fs;
use std::path::Path;

use crate::fixture::database::Server;
use crate::fixture::spark::{SHORT, Spark};
use crate::fixture::{
    self, APPLICATION, Writer, analyzer, counters, data, executors, executors_with_engine, expect,
    rows,
};
use records::{Event, Flags, METRIC_COUNT, MetricSet};

/// Reports that go every way through Spark: sums by record, single tasks, sums by record and event log.
const SOME: [&str; 2] = ["--by app,node,stage --spread", "--by time,thread --bucket 7ms"];
/// All dimensions, and pages.
const MORE: [&str; 9] = [
    "--by app,node,executor,process,job",
    "--by stage --format csv",
    "--by executor,directory --roles all",
    "--by time,stage --bucket 2s",
    "--by thread,stage",
    "--by node,executor,process,thread,time,job,stage,task",
    "--by stage --app app-20261121034702-0000",
    "--by stage --roles executor --app other",
    "--format html",
];
/// Dimensions one by one: of Spark these ask what the ones above ask, and rows are put together on this side.
const ONE_BY_ONE: [&str; 9] = [
    "--by task",
    "--by app",
    "--by node",
    "--by executor",
    "--by process",
    "--by job",
    "--by stage",
    "--by thread",
    "--by time --bucket 7ms",
];

/// The store of the other tests, and besides: sums beyond 2^63 and beyond 2^64, lower bounds, tasks with two
/// records, threads of tasks, Python workers, tasks that no event log has, tasks of an event log without a record, and a name that is no SQL.
fn fill(folder: &Path, stores: &[&str]) {
    let records = folder.join("records");
    executors().iter().for_each(|writer| writer.save(&records));
    // Tasks that the executors have too: in another process, later in the store.
    let mut again = Writer::new("zz again", "executor", "zz-node", "2");
    again.segment();
    again.thread_of_task(102, 3, 0, 17);
    again.start(101, 3, 0, 1).end(101, 3, 0, 5).start(101, 7, 2, 6).end(101, 7, 2, 9).finish(12);
    again.save(&records);
    let [mut counted, _] = executors_with_engine();
    counted.process[0] = b'E';
    counted.application = "it's a \"test\" \\ `";
    counted.retold().save(&records);
    let mut large = Writer::new("large", "executor", "node-10", "7");
    large.application = "other";
    large.metrics = MetricSet::ALL;
    large.flags = Flags::FOLLOWED;
    large.segment();
    let huge = |part: u64| [u64::MAX / 10 * part; METRIC_COUNT];
    for task in 0..3 {
        let thread = 200 + task as u32;
        large.start(thread, task, 4, 0).put(thread, Flags::FOLLOWED, &Event::Snapshot, None);
        let end = fixture::task_end(task, 4);
        large.put(thread, Flags::FOLLOWED, &end, Some(huge(if task == 0 { 5 } else { 4 })));
    }
    // It has not ended, and what the engine counted of it is a part.
    large.flags = Flags::NONE;
    large.start(300, 9, 5, 0).end(300, 9, 5, 44);
    large.thread_of_task(301, 9, 5, 17);
    // Tasks that snapshots cut, one of them for good: its end is not there.
    for (task, thread) in [(10, 302), (11, 302), (12, 303)] {
        let steps = 1000 * task as u64;
        large.start(thread, task, 5, steps);
        for more in 1..9 {
            large.snapshot(thread, steps + 3 * more);
        }
        if task != 12 {
            large.end(thread, task, 5, steps + 50);
        }
    }
    large.save(&records);
    // Python workers of tasks that have one record, two, and none.
    let mut python = Writer::new("python", "python_worker", "node-10", "7");
    python.application = "other";
    python.metrics = MetricSet::ALL;
    python.flags = Flags::FOLLOWED;
    python.segment();
    python.served(100, 1, 4, [5, 8]).served(100, 9, 5, [9, 19]).served(100, 44, 4, [20, 25]);
    python.finish(30);
    python.save(&records);
    let mut python = Writer::new("python too", "python_worker", "zz-node", "2");
    python.application = APPLICATION;
    python.segment().served(100, 3, 0, [5, 8]).served(100, 5, 1, [9, 19]).finish(30);
    python.save(&records);
    let mut outside = Writer::new("shell", "standalone", "node-9", "");
    outside.segment();
    outside.put(1, Flags::FINAL, &Event::ThreadEnd, Some(counters(3))).finish(3);
    outside.save(&records);
    let (golden, logs) = (data("golden"), data("eventlogs"));
    let (golden, logs) = (golden.to_str().unwrap(), logs.to_str().unwrap());
    for store in stores {
        // One of the golden files is damaged.
        let inputs =
            ["ingest", "--quiet", "--snapshots", "all", "records", golden, "--event-log", logs];
        expect(folder, 1, &[&inputs[..], &["--store", store]].concat());
    }
}

fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<_> = text.split(' ').collect();
    if !words.contains(&"--format") {
        words.extend(["--format", "json"]);
    }
    words
}

/// Compares the reports of all paths, and some of those without Spark.
fn assert_same(test: &str, reports: &[&str], without_spark: &[&str]) {
    let Some(spark) = Spark::find(test) else { return };
    let Some(server) = Server::start(test, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let url = server.store("runs");
    fill(at, &["parquet", &url]);
    let short: String = SHORT.map(|one| format!("--spark-conf '{one}' ")).concat();
    let mut script = String::new();
    for (number, report) in reports.iter().enumerate() {
        script.push_str(&format!(
            "\"$ANALYZER\" report --engine spark --master \"$SPARK_MASTER_URL\" {short} \
             --store parquet {} >{number}\n",
            words(report).join(" ")
        ));
    }
    spark.run(at, &script);
    for (number, report) in reports.iter().chain(without_spark).enumerate() {
        let local = |store| {
            let arguments = [&["report", "--store", store], &words(report)[..]].concat();
            let output = analyzer(at, &arguments);
            assert!(output.status.success(), "{report}\n{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let folder = local("parquet");
        assert!(folder.len() > 1000, "{report}\n{folder}");
        if number < reports.len() {
            let by_spark = fs::read_to_string(at.join(number.to_string())).unwrap();
            assert_eq!(by_spark, folder, "{report}");
        }
        assert_eq!(local(&url), folder, "{report}: MariaDB");
    }
}

#[test]
fn folder_server_and_cluster_say_the_same() {
    assert_same("folder_server_and_cluster_say_the_same", &SOME, &ONE_BY_ONE);
}

#[test]
#[ignore = "minutes: a Spark session per report"]
fn every_dimension_is_the_same() {
    assert_same("every_dimension_is_the_same", &MORE, &[]);
}

#[test]
fn large_sums_are_right() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), &["parquet"]);
    let report = fixture::report(folder.path(), &["--store", "parquet", "--app", "other"]);
    let tasks =
        rows(&report).iter().find(|row| row["stage"] == 4 && row["stage_attempt"] == 0).unwrap();
    let part = u64::MAX / 10;
    assert_eq!(tasks["file_read_bytes"].as_u64(), Some(u64::MAX), "it stops there");
    let threads = fixture::report(
        folder.path(),
        &["--store", "parquet", "--app", "other", "--by", "thread,stage"],
    );
    let of = |tid: u64| {
        let sums = rows(&threads).iter().filter(|row| row["tid"] == tid && row["stage"] == 4);
        sums.map(|row| row["file_read_bytes"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((of(200), of(201)), (part * 5, part * 4));
}

#[test]
fn without_spark_it_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let report = |code, arguments: &[&str]| {
        let by = ["report", "--engine", "spark"];
        expect(at, code, &[&by[..], arguments].concat()).1
    };
    let error = report(2, &["--store", "mysql://me@db/runs"]);
    assert!(error.contains("mysql://db/runs") && error.contains("folders"), "{error}");
    let (_, error) = expect(at, 2, &["report", "--master", "local"]);
    assert!(error.contains("--engine spark"), "{error}");
    fs::create_dir(at.join("old")).unwrap();
    fs::write(at.join("old/store.json"), r#"{"store":"sparkanalyzer","schema":1}"#).unwrap();
    let error = report(3, &["--store", "old"]);
    assert!(error.contains("schema version 1"), "{error}");
    fs::create_dir(at.join("empty")).unwrap();
    assert!(report(3, &["--store", "empty"]).contains("no store here"));
    fill(at, &["parquet"]);
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
        .args(["report", "--engine", "spark", "--store", "parquet"])
        .current_dir(at)
        .env("SPARK_HOME", "/nonexistent")
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{error}");
    assert!(
        error.contains("/nonexistent/bin/spark-submit") && error.contains("SPARK_HOME"),
        "{error}"
    );
}

#[test]
fn a_wrong_master_is_named() {
    let Some(spark) = Spark::find("a_wrong_master_is_named") else { return };
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), &["parquet"]);
    let arguments =
        ["report", "--engine", "spark", "--master", "spark:/nobody", "--store", "parquet"];
    let output = spark.analyzer(folder.path(), &arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{error}");
    assert!(error.contains("--master spark:/nobody"), "{error}");
    assert!(error.contains("--verbose"), "{error}");
}

#[test]
#[ignore = "minutes: a Spark session per case"]
fn what_spark_cannot_do_is_said() {
    let Some(spark) = Spark::find("what_spark_cannot_do_is_said") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fill(at, &["parquet"]);
    let report = |store: &str, master: &str, code: i32| {
        let spark_conf = ["--spark-conf", SHORT[0]];
        let engine = ["report", "--engine", "spark", "--master", master, "--store", store];
        let output = spark.analyzer(at, &[&engine[..], &spark_conf].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{store} {master}\n{error}");
        error
    };
    let url = |name: &str| format!("file://{}/{name}", at.display());
    // Only Spark sees what is behind a URL.
    report(&url("parquet"), "local[1]", 0);
    assert!(report(&url("nothing"), "local[1]", 3).contains("no store here"));
    fs::create_dir(at.join("old")).unwrap();
    fs::write(at.join("old/store.json"), r#"{"store":"sparkanalyzer","schema":1}"#).unwrap();
    assert!(report(&url("old"), "local[1]", 3).contains("schema version 1"));
    let error = report("parquet", "spark://127.0.0.1:1", 6);
    assert!(error.contains("spark://127.0.0.1:1"), "{error}");
    let file = fixture::contents(&at.join("parquet/tasks")).remove(0).0;
    fs::write(&file, "no Parquet at all").unwrap();
    let error = report("parquet", "local[1]", 3);
    assert!(error.contains(file.file_name().unwrap().to_str().unwrap()), "{error}");
}
