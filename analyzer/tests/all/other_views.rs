//! What is made of a store or of record files besides reports: comparisons, exports, live views.

use std::fs;
use std::path::Path;

use crate::fixture::{
    self, APPLICATION, TASKS, Writer, counters, event_log, executors, executors_with_engine,
    expect, report, rows, text,
};
use records::{Event, Flags, MetricSet, TaskId};
use serde_json::Value;

/// A store of executors that did `factor` times the work, one application per factor.
fn store_of_runs(folder: &Path, store: &str, factors: &[(&'static str, u64)]) {
    for (application, factor) in factors {
        let name = format!("{store}-{application}");
        let mut writer = Writer::new(&name, "executor", "n", "0");
        writer.application = application;
        writer.metrics = MetricSet::ALL;
        writer.flags = Flags::FOLLOWED;
        writer.segment();
        writer.start(101, 0, 0, 0).end(101, 0, 0, 100 * factor);
        writer.start(101, 1, 1, 100 * factor).end(101, 1, 1, 100 * factor + 50);
        writer.put(
            101,
            Flags::FINAL | Flags::FOLLOWED,
            &Event::ThreadEnd,
            Some(counters(100 * factor + 50)),
        );
        writer.finish(100 * factor + 50);
        writer.save(&folder.join(&name));
        expect(folder, 0, &["ingest", "--quiet", "--store", store, &name]);
    }
}

fn compared(folder: &Path, arguments: &[&str]) -> Value {
    let mut all = vec!["diff", "--format", "json"];
    all.extend(arguments);
    serde_json::from_str(&expect(folder, 0, &all).0).unwrap()
}

fn change<'a>(all: &'a Value, stage: Option<i64>, figure: &str) -> &'a Value {
    let is_wanted = |one: &&Value| {
        one["figure"] == figure
            && match stage {
                Some(stage) => one["stages_a"] == serde_json::json!([stage]),
                None => one["part"] == "all",
            }
    };
    all["changes"].as_array().unwrap().iter().find(is_wanted).unwrap()
}

#[test]
fn two_runs_are_compared_per_stage() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    store_of_runs(at, "before", &[("app-1", 10)]);
    store_of_runs(at, "after", &[("app-2", 12)]);
    let all = compared(at, &["before", "after"]);
    assert_eq!((&all["a"][0], &all["b"][0]), (&"app-1".into(), &"app-2".into()));
    let first = change(&all, Some(0), "instructions");
    assert_eq!((&first["a"]["median"], &first["b"]["median"]), (&1000.into(), &1200.into()));
    assert_eq!((first["percent"].as_f64(), &first["verdict"]), (Some(20.0), &"?".into()));
    assert_eq!(change(&all, Some(1), "instructions")["percent"], 0.0);
    assert_eq!(change(&all, None, "instructions")["b"]["median"], 1250);
    assert_eq!(change(&all, None, "spark_cpu_time_ns")["a"], Value::Null, "no event log");
    let (table, _) = expect(at, 0, &["diff", "before", "after", "--columns", "instructions"]);
    assert!(table.contains("stage 0") && table.contains("+20.0%"), "{table}");
    assert!(!table.contains("stage 1"), "unchanged: {table}");
    expect(at, 0, &["diff", "before", "after", "--fail-above", "20"]);
    expect(at, 1, &["diff", "before", "after", "--fail-above", "19.9"]);
    expect(at, 0, &["diff", "after", "before", "--fail-above", "1"]);
    let (_, complaint) = expect(at, 3, &["diff", "before#app-9", "after"]);
    assert!(complaint.contains("application app-9 is not there (there: app-1)"), "{complaint}");
    expect(at, 3, &["diff", "no-such-store", "after"]);
}

#[test]
fn with_several_runs_noise_is_told_from_change() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    store_of_runs(at, "before", &[("a-1", 10), ("a-2", 11), ("a-3", 13)]);
    store_of_runs(at, "after", &[("b-1", 12), ("b-2", 14), ("b-3", 15)]);
    let overlapping = compared(at, &["before", "after"]);
    let first = change(&overlapping, Some(0), "instructions");
    assert_eq!(first["verdict"], "within noise");
    assert_eq!(
        first["a"],
        serde_json::json!({"median": 1100, "min": 1000, "max": 1300, "runs": 3})
    );
    let chosen = compared(at, &["before#a-1,a-2", "after#b-2,b-3"]);
    assert_eq!(change(&chosen, Some(0), "instructions")["verdict"], "beyond noise");
    // Within noise nothing has risen.
    expect(at, 0, &["diff", "before", "after", "--fail-above", "1"]);
    let (markdown, _) =
        expect(at, 0, &["diff", "before#a-1,a-2", "after#b-2,b-3", "--format", "markdown"]);
    assert!(markdown.contains("| stage 0 | instructions |"), "{markdown}");
}

#[test]
fn stages_are_matched_by_name_where_ids_differ() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for writer in executors() {
        writer.save(&at.join("records"));
    }
    let log = event_log();
    expect(at, 0, &["ingest", "records", "--event-log", text(&log)]);
    let all = compared(at, &["#", "sparkanalyzer-store"]);
    for one in all["changes"].as_array().unwrap() {
        assert!(one["percent"] == 0.0 || one["percent"].is_null(), "{one}");
        assert_eq!(one["stages_a"], one["stages_b"]);
    }
    let named = |one: &&Value| one["name"] == "csv: read exchange > sort > write words";
    assert!(all["changes"].as_array().unwrap().iter().any(|one| named(&one)));
}

#[test]
fn prometheus_text_holds_what_the_report_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for writer in executors_with_engine() {
        writer.save(&at.join("records"));
    }
    expect(at, 0, &["ingest", "records", "--event-log", text(&event_log())]);
    expect(at, 0, &["export", "--to", "prometheus", "-o", "spark.prom"]);
    let exported = fs::read_to_string(at.join("spark.prom")).unwrap();
    let report = report(at, &["--by", "node,stage"]);
    let mut samples = 0;
    for line in exported.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.strip_suffix('}').unwrap().split_once('{').unwrap();
        let figure = name.strip_prefix("sparkanalyzer_").unwrap();
        let label = |name: &str| {
            let start = labels.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
            labels[start..].split('"').next().unwrap().to_owned()
        };
        let row = rows(&report).iter().find(|row| {
            let stage = row["stage"].as_i64().map_or(String::new(), |stage| stage.to_string());
            row["node"] == label("node") && row["part"] == label("part") && stage == label("stage")
        });
        assert_eq!(row.unwrap()[figure].to_string(), value, "{line}");
        assert_eq!(label("application"), APPLICATION);
        samples += 1;
    }
    assert!(samples > 50, "{samples}");
    let types = exported.lines().filter(|line| line.starts_with("# TYPE "));
    let helps = exported.lines().filter(|line| line.starts_with("# HELP "));
    assert_eq!(types.count(), helps.count());
}

#[test]
fn a_trace_holds_every_task_in_a_lane_of_its_executor() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for writer in executors_with_engine() {
        writer.save(&at.join("records"));
    }
    expect(at, 0, &["ingest", "records", "--event-log", text(&event_log())]);
    let (trace, _) = expect(at, 0, &["export", "--to", "chrome"]);
    let trace: Value = serde_json::from_str(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let tasks: Vec<_> = events.iter().filter(|event| event["cat"] == "task").collect();
    assert_eq!(tasks.len(), TASKS.len());
    for (tid, stage, _, _) in TASKS {
        let name = format!("task {tid} stage {stage}");
        let task = tasks.iter().find(|event| event["name"] == *name).unwrap();
        assert_eq!(task["args"]["instructions"], tid + 1);
        assert!(task["dur"].as_i64().unwrap() > 0 && task["args"]["job"].is_i64(), "{task}");
    }
    // No two spans of a lane overlap.
    for one in events.iter().filter(|event| event["ph"] == "X") {
        for other in events.iter().filter(|event| event["ph"] == "X" && *event != one) {
            let end =
                |event: &Value| event["ts"].as_i64().unwrap() + event["dur"].as_i64().unwrap();
            let is_same_lane = one["pid"] == other["pid"] && one["tid"] == other["tid"];
            let is_apart = end(one) <= other["ts"].as_i64().unwrap()
                || end(other) <= one["ts"].as_i64().unwrap();
            assert!(!is_same_lane || is_apart, "{one} {other}");
        }
    }
    for what in ["job", "stage"] {
        assert_eq!(events.iter().filter(|event| event["cat"] == what).count(), 4, "{what}");
    }
    let is_named = |event: &&Value| event["name"] == "process_name";
    assert_eq!(events.iter().filter(is_named).count(), 3, "application and two executors");
}

/// A process of ours that runs still: what is written of this test itself.
fn live(folder: &Path) -> Writer {
    let mut writer = Writer::new("live", "executor", "n", "7");
    writer.metrics = MetricSet::ALL;
    writer.flags = Flags::FOLLOWED;
    writer.pid = std::process::id();
    writer.segment();
    writer.put(11, Flags::NONE, &Event::ThreadStart { name: b"worker" }, None);
    writer.put(11, Flags::FOLLOWED, &Event::Snapshot, Some(counters(0)));
    writer.start(11, 5, 2, 10);
    writer.put(11, Flags::FOLLOWED, &Event::Snapshot, Some(counters(30)));
    writer.put(12, Flags::NONE, &Event::Snapshot, Some([0; records::METRIC_COUNT]));
    writer.put(12, Flags::NONE, &Event::Snapshot, Some([0; records::METRIC_COUNT]));
    writer.save(&folder.join("records"));
    writer
}

#[test]
fn top_shows_rates_per_thread_and_task() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut writer = live(at);
    let seen = |arguments: &[&str]| -> Value {
        let mut all = vec!["top", "records", "--format", "json"];
        all.extend(arguments);
        serde_json::from_str(&expect(at, 0, &all).0).unwrap()
    };
    let threads = seen(&[]);
    let threads = threads["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 2);
    // Its records are a millisecond apart: 30 steps in two of them.
    assert_eq!(threads[0]["tid"], 11);
    assert_eq!(threads[0]["per_second"]["instructions"], 15_000.0);
    assert_eq!(threads[0]["task"]["stage"], 2);
    assert_eq!(threads[0]["task"]["task_id"], 5);
    assert_eq!(threads[0]["task"]["figures"]["instructions"], 20);
    // Nobody followed the other one: unknown, not 0.
    assert_eq!(threads[1]["per_second"]["instructions"], Value::Null);
    assert_eq!(threads[1]["per_second"]["syscall_calls"], 0.0);
    let (table, _) = expect(at, 0, &["top", "records", "--once"]);
    assert!(table.contains("worker") && table.contains("2/5"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
    // The task ends, and the process.
    writer.end(11, 5, 2, 40).finish(40);
    writer.save(&at.join("records"));
    assert!(seen(&[])["threads"].as_array().unwrap().is_empty());
    let ended = seen(&["--all"]);
    assert!(ended["threads"][0]["has_ended"] == true && ended["threads"][0]["task"].is_null());
    expect(at, 0, &["ingest", "--quiet", "records"]);
    let of_store = expect(at, 0, &["top", "--store", "sparkanalyzer-store", "--all", "--once"]).0;
    assert!(of_store.contains("worker"), "{of_store}");
    expect(at, 3, &["top", "no-such-folder", "--once"]);
}

/// On a terminal the screen is renewed until q is pressed, and the terminal is left as it was.
#[test]
fn top_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut writer = live(at);
    let mut child =
        fixture::terminal::Terminal::start(at, &["top", "records", "--interval", "100ms"]);
    child.wait_for("worker");
    // Grown meanwhile: the next look shows the other task.
    let task = TaskId { stage: 9, task_id: 77, ..TaskId::default() };
    writer.put(11, Flags::FOLLOWED, &Event::TaskStart(task), Some(counters(60)));
    writer.save(&at.join("records"));
    // Only cells that changed are drawn: 2/5 becomes 9/77, of which the slash stays.
    child.wait_for("77 0.0s");
    child.press("q");
    assert!(child.has_succeeded());
}
