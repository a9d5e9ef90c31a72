//! Stores that released versions made are read, upgraded and added to, and what they lack is unknown.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture::database::Server;
use crate::fixture::{APPLICATION, Writer, data, executors_with_engine, expect, report, rows};
use records::metric::{EDITION, METRICS, Metric};
use records::{Flags, MetricSet};
use serde_json::Value;

/// The editions of the table of metrics of which there is a store.
const EDITIONS: [u32; 1] = [1];
const BY: [&str; 4] = ["--by", "node,executor,stage", "--roles", "all"];

fn place(edition: u32, name: &str) -> std::path::PathBuf {
    data(&format!("stores/edition{edition}/{name}"))
}

/// A copy of a released folder, which may be written.
fn copied(edition: u32, folder: &Path) -> &'static str {
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(place(edition, "folder")).arg(folder.join("old"));
    assert!(copy.status().unwrap().success());
    "old"
}

/// Metrics that came after an edition.
fn later(edition: u32) -> impl Iterator<Item = &'static Metric> {
    const { &METRICS }.iter().filter(move |metric| metric.since > edition)
}

/// A released program's words in the form of today's: what it did not know is left out of the new report's rows, where
/// it must be unknown.
fn assert_said_as_ever(now: &Value, edition: u32) {
    let said = fs::read_to_string(place(edition, "report.json")).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(rows(now).len(), rows(&said).len());
    for (now, said) in rows(now).iter().zip(rows(&said)) {
        for (figure, value) in said.as_object().unwrap() {
            assert_eq!(&now[figure], value, "{figure} of {said}");
        }
        for metric in later(edition) {
            assert_eq!(now[metric.name], Value::Null, "{} of {now}", metric.name);
        }
    }
}

/// An application of today, counted whole.
fn add_new_application(at: &Path) {
    let mut new = Writer::new("new", "executor", "node-11", "1");
    new.application = "new";
    (new.metrics, new.flags) = (MetricSet::ALL, Flags::FOLLOWED);
    new.segment().start(101, 1, 0, 1).end(101, 1, 0, 5).finish(9);
    new.save(&at.join("new"));
}

/// What stands in a report of both: of the new application all metrics, of the others those that they were counted by.
fn assert_both(at: &Path, store: &str, edition: u32) {
    let by = ["--store", store, "--by", "app"];
    let report = report(at, &by);
    let of = |application: &str| {
        let is_it = |row: &&Value| row["application_id"] == application && row["part"] == "tasks";
        rows(&report).iter().find(is_it).unwrap_or_else(|| panic!("{application}: {report:#}"))
    };
    for (index, metric) in METRICS.iter().enumerate() {
        let expected = 4 * (index as u64 + 1);
        assert_eq!(of("new")[metric.name].as_u64(), Some(expected), "{}", metric.name);
        let is_known = metric.since <= edition;
        assert_eq!(!of(APPLICATION)[metric.name].is_null(), is_known, "{}", metric.name);
    }
}

#[test]
fn a_released_folder_is_read_and_grows() {
    for edition in EDITIONS {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let old = copied(edition, at);
        let store = ["--store", old];
        assert_said_as_ever(&report(at, &[&store[..], &BY].concat()), edition);
        let ingest = |arguments: &[&str]| {
            expect(at, 0, &[&["ingest", "--quiet"], arguments, &store].concat())
        };
        // What it has it knows, whatever the library counts by now.
        let records = place(edition, "records");
        let told = ingest(&["--snapshots", "all", fixture::text(&records)]);
        assert_eq!(
            fs::read(at.join("old/store.json")).unwrap().len(),
            { fs::read(place(edition, "folder/store.json")).unwrap().len() },
            "nothing is written anew: {told:?}"
        );
        add_new_application(at);
        ingest(&["new"]);
        assert_both(at, old, edition);
        let schema: Value =
            serde_json::from_slice(&fs::read(at.join("old/store.json")).unwrap()).unwrap();
        assert_eq!(schema["schema"], 1 + EDITION, "older programs leave it alone");
        assert_rewritten(at, &store, edition);
    }
}

/// Parts that are put together, and made anew without a process, lack no column.
fn assert_rewritten(at: &Path, store: &[&str; 2], edition: u32) {
    for nth in 0..8 {
        let name = format!("more {nth}");
        let mut more = Writer::new(&name, "executor", "node-12", "9");
        (more.metrics, more.flags) = (MetricSet::ALL, Flags::FOLLOWED);
        more.pid = 200 + nth;
        more.segment().start(101, 100 + i64::from(nth), 9, 1).end(101, 100 + i64::from(nth), 9, 5);
        more.finish(9).save(&at.join(&name));
        expect(at, 0, &[&["ingest", "--quiet", "--snapshots", "all", &name], &store[..]].concat());
    }
    let parts = fixture::contents(&at.join("old/tasks"));
    let of_one = parts.iter().filter(|(path, _)| path.to_str().unwrap().contains(APPLICATION));
    assert!(of_one.count() < 8, "small parts were put together");
    let by_stage = report(at, &[&store[..], &["--by", "stage", "--app", APPLICATION]].concat());
    for row in rows(&by_stage).iter().filter(|row| row["part"] == "tasks") {
        for metric in later(edition) {
            assert_eq!(row[metric.name].is_null(), row["stage"] != 9, "{}: {row}", metric.name);
        }
        assert!(row["instructions"].as_u64() > Some(0), "{row}");
    }
}

#[test]
fn a_released_database_is_upgraded_and_grows() {
    let Some(server) = Server::start("a_released_database_is_upgraded_and_grows", &[]) else {
        return;
    };
    for edition in EDITIONS {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let database = format!("edition{edition}");
        server.sql(&format!("CREATE DATABASE {database}"));
        server.load(&database, &place(edition, "database.sql"));
        let url = server.url(&database);
        let store = ["--store", &url];
        if EDITION > edition {
            let (_, error) = expect(at, 3, &[&["report"], &store[..]].concat());
            assert!(error.contains("analyzer schema upgrade"), "{error}");
            expect(at, 0, &[&["schema", "upgrade"], &store[..]].concat());
        }
        assert_said_as_ever(&report(at, &[&store[..], &BY].concat()), edition);
        add_new_application(at);
        expect(at, 0, &[&["ingest", "--quiet", "new"], &store[..]].concat());
        assert_both(at, &url, edition);
        // A database that is made today has the same tables and views, whatever the order of their columns.
        let fresh = server.store(&format!("fresh{edition}"));
        expect(at, 0, &[&["ingest", "--quiet", "new", "--store"], &[&fresh[..]][..]].concat());
        let columns = |database: &str| {
            server.sql(&format!(
                "SELECT table_name, column_name, column_type, is_nullable FROM information_schema.columns \
                 WHERE table_schema = '{database}' ORDER BY 1, 2"
            ))
        };
        assert_eq!(columns(&database), columns(&format!("fresh{edition}")));
        let names = "SELECT name FROM metrics ORDER BY position";
        let named = server.sql(&format!("USE {database}; {names}"));
        assert_eq!(named.lines().collect::<Vec<_>>(), METRICS.map(|metric| metric.name));
    }
}

/// The records of a store's fixtures are those that its writer makes, as far as the edition goes.
#[test]
fn the_fixtures_are_of_their_edition() {
    for edition in EDITIONS {
        for (path, bytes) in fixture::contents(&place(edition, "records")) {
            let segment = records::Segment::parse(&bytes).unwrap();
            let named: Vec<_> = segment.directory().map(|entry| entry.name.to_vec()).collect();
            let known = METRICS.iter().filter(|metric| metric.since <= edition);
            let known: Vec<_> = known.map(|metric| metric.name.as_bytes().to_vec()).collect();
            assert_eq!(named, known, "{}", path.display());
        }
    }
    let [writer, _] = executors_with_engine();
    let segment = records::Segment::parse(writer.bytes(0)).unwrap();
    assert_eq!(segment.directory().count(), METRICS.len());
}
