//! `analyzer ingest --follow`, `--snapshots` and `analyzer purge`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{self, APPLICATION, Writer, event_log, executors, expect, report, rows};
use records::Flags;
use serde_json::Value;

/// A process that is killed when the test ends.
struct Follower(Child);

impl Follower {
    fn start(at: &Path, arguments: &[&str]) -> Follower {
        let child = Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
            .current_dir(at)
            .args(["ingest", "--follow", "--quiet"])
            .args(arguments)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Follower(child)
    }

    /// Waits until the store says so.
    fn wait(&mut self, what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what} never came");
            assert!(self.0.try_wait().unwrap().is_none(), "it goes on until it is ended");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The report's figures, once there is something to report.
fn figures(at: &Path, store: &str) -> Option<Value> {
    let arguments = ["report", "--by", "task", "--format", "json", "--store", store];
    let output = fixture::analyzer(at, &arguments);
    serde_json::from_slice(&output.stdout).ok()
}

/// Files that appear, grow and begin in the middle of a write, and a log that grows; what was followed is
/// what would have been ingested at the end, in either store.
fn follow_into(at: &Path, store: &str) {
    let [one, other] = executors();
    let records = at.join("records");
    fs::create_dir(&records).unwrap();
    let log = at.join("log");
    let lines = fs::read(event_log()).unwrap();
    fs::write(&log, &lines[..lines.len() / 2]).unwrap();
    let mut follower = Follower::start(at, &["records", "--event-log", "log", "--store", store]);
    let tasks = |name: &str| {
        figures(at, store).and_then(|report| report["total"][name].as_u64()).unwrap_or(0)
    };
    one.save(&records);
    follower.wait("the first executor", || tasks("recorded_tasks") >= 4);
    let whole = other.bytes(0);
    let file = records.join(other.file(0));
    fs::write(&file, &whole[..whole.len() / 2 + 100]).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    fs::write(&file, whole).unwrap();
    follower.wait("the second executor", || tasks("recorded_tasks") == 10);
    fs::write(&log, &lines).unwrap();
    expect(at, 0, &["ingest", "--quiet", "records", "--event-log", "log", "--store", "whole"]);
    let whole = figures(at, "whole");
    follower.wait("the same report", || figures(at, store) == whole);
}

#[test]
fn live_files_into_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    follow_into(folder.path(), "followed");
    // Nobody held the store between the rounds; none of what was replaced is left.
    let files = fixture::contents(&folder.path().join("followed"));
    let tables = files.iter().filter(|(path, _)| path.to_string_lossy().contains("/tasks/"));
    assert!(tables.count() <= 2);
}

#[test]
fn live_files_into_a_database() {
    let name = "live_files_into_a_database";
    let Some(server) = fixture::database::Server::start(name, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    server.sql("CREATE DATABASE runs");
    let url = server.url("runs");
    expect(folder.path(), 0, &["schema", "init", "--store", &url]);
    follow_into(folder.path(), &url);
}

#[test]
fn standard_input_cannot_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (_, error) = expect(folder.path(), 2, &["ingest", "--follow", "--event-log", "-"]);
    assert!(error.contains("standard input"), "{error}");
}

/// An executor with five snapshots of its thread, a second apart, and a task.
fn ticking() -> Writer {
    let mut writer = Writer::new("ticking", "executor", "n", "0");
    writer.segment().start(7, 1, 0, 1);
    for tick in 2..7 {
        writer.put(7, Flags::NONE, &records::Event::Snapshot, Some(fixture::counters(tick)));
        writer.wait(Duration::from_secs(1));
    }
    writer.end(7, 1, 0, 9);
    writer
}

#[test]
fn snapshots_are_kept_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    ticking().save(&at.join("records"));
    let server = fixture::database::Server::start("snapshots_are_kept_as_asked", &[]);
    // Where one of a task's is kept, what it began and ended with is too.
    for (wanted, count) in [("last", 0), ("2s", 3 + 2), ("all", 5 + 2)] {
        let store = wanted;
        expect(at, 0, &["ingest", "--quiet", "records", "--store", store, "--snapshots", wanted]);
        let tables = fixture::contents(&at.join(store));
        let has_table =
            tables.iter().any(|(path, _)| path.to_string_lossy().contains("/snapshots/"));
        assert_eq!(has_table, count > 0, "{wanted}");
        if let Some(server) = &server {
            server.sql(&format!("CREATE DATABASE `{wanted}`"));
            let url = server.url(wanted);
            expect(at, 0, &["schema", "init", "--store", &url]);
            expect(
                at,
                0,
                &["ingest", "--quiet", "records", "--store", &url, "--snapshots", wanted],
            );
            let rows = server.sql(&format!("SELECT COUNT(*) FROM `{wanted}`.snapshots"));
            assert_eq!(rows.trim(), count.to_string(), "{wanted}");
        }
        let same = |by: &str| {
            assert_eq!(
                report(at, &["--by", by, "--store", store]),
                report(at, &["--by", by, "--store", "last"])
            );
        };
        ["task", "process"].into_iter().for_each(same);
    }
    // A finer choice is taken up when the files come again, a coarser one is not.
    expect(at, 0, &["ingest", "records", "--store", "last", "--snapshots", "all"]);
    let (again, _) = expect(at, 0, &["ingest", "records", "--store", "last", "--snapshots", "1m"]);
    assert!(again.contains("0 new or grown"), "{again}");
    // ... and of a file that has grown, what was kept stays.
    let mut grown = ticking();
    grown.finish(10);
    grown.save(&at.join("records"));
    let (again, _) = expect(at, 0, &["ingest", "records", "--store", "last"]);
    assert!(again.contains("1 new or grown"), "{again}");
    assert!(
        fixture::contents(&at.join("last"))
            .iter()
            .any(|(path, _)| path.to_string_lossy().contains("/snapshots/"))
    );
    let (_, error) = expect(at, 2, &["ingest", "records", "--snapshots", "often"]);
    assert!(error.contains("all, or last"), "{error}");
}

#[test]
fn what_is_old_goes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut stores = vec!["folder".to_owned()];
    let server = fixture::database::Server::start("what_is_old_goes", &[]);
    if let Some(server) = &server {
        server.sql("CREATE DATABASE runs");
        stores.push(server.url("runs"));
        expect(at, 0, &["schema", "init", "--store", &stores[1]]);
    }
    executors().iter().for_each(|writer| writer.save(&at.join("old")));
    let mut new = Writer::new("new", "executor", "n", "7");
    new.application = "app-new";
    // Tomorrow.
    new.start_real_ns = 1_000_000_000 * (now() + 86_400);
    new.segment().start(7, 1, 0, 1).end(7, 1, 0, 2);
    new.save(&at.join("new"));
    let log = event_log();
    for store in &stores {
        let ingest = [
            "ingest",
            "--quiet",
            "old",
            "new",
            "--event-log",
            log.to_str().unwrap(),
            "--store",
            store,
        ];
        expect(at, 0, &ingest);
        let applications = || {
            let report = report(at, &["--by", "app", "--store", store]);
            let rows = rows(&report).clone();
            rows.iter().filter_map(|row| Some(row["application_id"].as_str()?.to_owned())).collect()
        };
        let both: BTreeSet<String> = applications();
        assert!(both.contains(APPLICATION) && both.contains("app-new"), "{both:?}");
        expect(at, 0, &["purge", "--store", store, "--older-than", "1000w"]);
        assert_eq!(applications(), both, "nothing is that old");
        let (purged, _) = expect(at, 0, &["purge", "--store", store, "--older-than", "1s"]);
        assert!(purged.contains("2 processes and 1 application removed"), "{purged}");
        assert_eq!(applications(), ["app-new".to_owned()].into());
        // Nothing of it is remembered: the same files are new again.
        let (again, _) = expect(at, 0, &["ingest", "old", "new", "--store", store]);
        assert!(again.contains("3 record files of 3 processes (2 new or grown)"), "{again}");
    }
    let left: Vec<_> = fixture::contents(&at.join("folder"));
    assert!(left.iter().all(|(path, _)| !path.to_string_lossy().contains("spark_")));
    let (_, error) = expect(at, 2, &["purge", "--older-than", "old"]);
    assert!(error.contains("such as 10s or 90d"), "{error}");
    let (_, error) = expect(at, 3, &["purge", "--store", "none", "--older-than", "1d"]);
    assert!(error.contains("no store here"), "{error}");
}

/// Seconds since the epoch.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
