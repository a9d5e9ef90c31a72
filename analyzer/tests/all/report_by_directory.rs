//! Reports per directory: what generated record files say comes out again, and all of it is somewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::fixture::{Writer, analyzer, counters, executors, expect, report, rows};
use records::metric::{Class, by_name};
use records::{Event, Flags, METRICS, MetricSet};
use serde_json::Value;
use tests::record_set::RecordSet;

const DIRECTORIES: u64 = 3;

fn set() -> RecordSet {
    RecordSet { nodes: 3, directories: DIRECTORIES, ..RecordSet::default() }
}

/// What an executor's tasks did.
fn total(set: &RecordSet, executor: u64, metric: usize) -> u64 {
    let tasks = (0..set.tasks()).filter(|task| set.executor_of(*task) == executor);
    tasks.map(|task| set.work_of(task)[metric]).sum()
}

#[test]
fn every_directory_has_its_share() {
    let (folder, set) = (tempfile::tempdir().unwrap(), set());
    set.write_records(&folder.path().join("records")).unwrap();
    expect(folder.path(), 0, &["ingest", "records"]);
    for by in ["directory", "node,directory", "executor,directory", "process,directory"] {
        let report = report(folder.path(), &["--by", by]);
        let places = if by == "directory" { 1 } else { set.nodes };
        assert_eq!(rows(&report).len() as u64, places * (DIRECTORIES + 1), "{by}");
        for metric in METRICS {
            let (total, of_processes) = (&report["total"], &report["process_totals"]);
            assert_eq!(total[metric.name], of_processes[metric.name], "{by} {}", metric.name);
        }
        assert!(
            report["total"].get("tasks").is_none(),
            "nobody knows which tasks used a directory"
        );
    }
    let report = report(folder.path(), &["--by", "executor,directory"]);
    let files = MetricSet::class(Class::File);
    for row in rows(&report) {
        let executor: u64 = row["executor_id"].as_str().unwrap().parse().unwrap();
        let is_none = row["directory"] == "(no directory)";
        assert_eq!(row["part"], "whole processes");
        for (at, metric) in METRICS.iter().enumerate() {
            let total = total(&set, executor, at);
            let expected = match (files.contains(at), is_none) {
                (true, true) => Value::from(total - total / DIRECTORIES * DIRECTORIES),
                (true, false) => Value::from(total / DIRECTORIES),
                (false, true) => Value::from(total),
                (false, false) => Value::Null,
            };
            assert_eq!(row[metric.name], expected, "{row}");
        }
    }
}

/// The directories of each process, as a map.
fn shares(folder: &Path) -> BTreeMap<String, Value> {
    let report = report(folder, &["--by", "process,directory"]);
    let key = |row: &Value| format!("{} {}", row["process_id"], row["directory"]);
    rows(&report).iter().map(|row| (key(row), row["file_read_bytes"].clone())).collect()
}

#[test]
fn files_that_grow_say_the_same_in_the_end() {
    let (folder, set) = (tempfile::tempdir().unwrap(), set());
    let at = folder.path();
    set.write_records(&at.join("records")).unwrap();
    expect(at, 0, &["ingest", "records"]);
    let whole = shares(at);
    fs::remove_dir_all(at.join("sparkanalyzer-store")).unwrap();
    fs::create_dir(at.join("early")).unwrap();
    for node in fs::read_dir(at.join("records")).unwrap() {
        for file in fs::read_dir(node.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let early = at.join("early").join(path.file_name().unwrap());
            fs::write(early, &bytes[..bytes.len() / 2 / 256 * 256]).unwrap();
        }
    }
    // The files are cut within a group, and say so.
    expect(at, 1, &["ingest", "--quiet", "early"]);
    let half = shares(at);
    assert_eq!(half.len(), whole.len());
    for (key, share) in &half {
        assert!(share.as_u64() < whole[key].as_u64() || key.contains("(no"), "{key} {share}");
    }
    expect(at, 1, &["ingest", "--quiet", "early"]);
    assert_eq!(shares(at), half);
    expect(at, 0, &["ingest", "--quiet", "records"]);
    assert_eq!(shares(at), whole);
}

#[test]
fn records_that_do_not_tell_are_unknown() {
    let folder = tempfile::tempdir().unwrap();
    executors().iter().for_each(|writer| writer.save(&folder.path().join("records")));
    expect(folder.path(), 0, &["ingest", "records"]);
    let report = report(folder.path(), &["--by", "directory"]);
    assert_eq!(rows(&report).len(), 1);
    let (row, total) = (&rows(&report)[0], &report["process_totals"]);
    assert_eq!(row["directory"], Value::Null);
    assert_eq!(row["file_read_bytes"], total["file_read_bytes"]);
}

#[test]
fn every_format_and_what_cannot_be_combined() {
    let (folder, set) = (tempfile::tempdir().unwrap(), set());
    let at = folder.path();
    set.write_records(&at.join("records")).unwrap();
    expect(at, 0, &["ingest", "records"]);
    let read = by_name("file_read_bytes").unwrap();
    let share: u64 = (0..3).map(|executor| total(&set, executor, read) / DIRECTORIES).sum();
    for format in ["csv", "markdown", "json", "html", "table"] {
        let (said, _) = expect(at, 0, &["report", "--by", "directory", "--format", format]);
        for number in 0..DIRECTORIES {
            assert!(said.contains(&format!("/generated/{number}")), "{format}: {said}");
        }
        let is_exact = matches!(format, "csv" | "json");
        assert!(!is_exact || said.contains(&share.to_string()), "{format}: {said}");
        assert!(said.contains("(no directory)"), "{format}");
    }
    expect(at, 0, &["report", "--by", "directory", "--format", "parquet", "--output", "p"]);
    let (said, _) = expect(at, 0, &["export", "--to", "prometheus", "--by", "directory"]);
    assert!(said.contains("directory=\"/generated/1\""), "{said}");
    for other in ["stage", "task", "job", "time", "thread"] {
        let output = analyzer(at, &["report", "--by", &format!("directory,{other}")]);
        assert_eq!(output.status.code(), Some(2), "{other}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("directories are told of whole ones"), "{said}");
    }
    let output = analyzer(at, &["report", "--by", "directory", "--columns", "tasks"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_page_has_the_largest_directories() {
    let (folder, set) = (tempfile::tempdir().unwrap(), RecordSet { directories: 400, ..set() });
    set.write_records(&folder.path().join("records")).unwrap();
    expect(folder.path(), 0, &["ingest", "records"]);
    let (page, _) = expect(folder.path(), 0, &["report", "--format", "html"]);
    assert!(page.contains("(203 rows of fewer bytes)"), "3 nodes of 401 rows, 1000 shown");
    assert_eq!(page.matches("\"/generated/").count(), 1000);
}

/// Names are what anybody may call a directory, and numbers of directories anything.
#[test]
fn names_that_mean_harm() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut writer = Writer::new("harm", "executor", "node-1", "0");
    writer.segment();
    let long = [b'x'; 300];
    let names: [&[u8]; 6] = [b"/</script><b>", b"=1+1", b"/\x1b[31m", b"/\xff\xfe", b"", &long[..]];
    for (number, path) in (u16::MAX - 5..=u16::MAX).zip(names) {
        let event = Event::Directory { number, path };
        writer.put(0, Flags::NONE, &event, Some(counters(1)));
        // It cannot be more than the process did, and then is what the process did.
        writer.put(7, Flags::NONE, &event, Some(counters(2)));
    }
    writer.finish(1).save(&at.join("records"));
    expect(at, 0, &["ingest", "records"]);
    let report = report(at, &["--by", "directory"]);
    assert_eq!(rows(&report).len(), 7);
    let read = |row: &Value| row["file_read_bytes"].as_u64().unwrap();
    let sum: u64 = rows(&report).iter().map(read).sum();
    assert_eq!(sum, read(&report["process_totals"]));
    assert_eq!(sum, 6 * counters(2)[by_name("file_read_bytes").unwrap()]);
    assert!(rows(&report).iter().all(|row| row["instructions"].is_null()));
    for format in ["table", "csv", "markdown", "html"] {
        let (said, _) = expect(at, 0, &["report", "--by", "directory", "--format", format]);
        assert!(!said.contains("</script><b>") || format != "html", "{format}");
        assert!(!said.contains('\x1b') || format == "csv", "{format}");
        assert!(!said.lines().any(|line| line.starts_with("=1+1")) || format != "csv", "{said}");
    }
    let file = at.join("records").join(writer.file(0));
    for format in ["table", "json"] {
        let (said, _) = expect(at, 0, &["dump", "--format", format, file.to_str().unwrap()]);
        assert!(said.contains("directory") && !said.contains('\x1b'), "{said}");
    }
}
