//! Bad input of dump, ingest and report: message, exit code, and that nothing else is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::fixture::{
    APPLICATION, Writer, data, event_log, executors, expect, report, rolling_event_log, rows, text,
};

/// A good record file to be among the bad ones.
fn good(folder: &Path) -> String {
    let [writer, _] = executors();
    writer.save(folder);
    writer.file(0)
}

#[test]
fn dump_of_golden_files() {
    let folder = data("golden");
    let sound = "v1-executor-676f6c64656e206578656375746f7221.0001.sar";
    let (table, _) = expect(&folder, 0, &["dump", sound]);
    for part in [
        "task_end",
        "outcome=\"threw\"",
        "closed_by_thread_end",
        "disk_full",
        "pid=4800",
        "cluster",
    ] {
        assert!(table.contains(part), "{part}\n{table}");
    }
    let (json, _) = expect(&folder, 0, &["dump", "--format", "json", sound]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["header"]["command_line"][2], "*********(redacted)");
    assert_eq!(json["groups"][7]["values"]["file_open_calls"], 3006);
    assert_eq!(json["groups"][7]["values"]["instructions"], serde_json::Value::Null);
    assert_eq!(json["left_out_bytes"]["total"], 0);
    let damaged = "v1-damaged-676f6c64656e206578656375746f7221.0000.sar";
    let (json, warning) = expect(&folder, 1, &["dump", "--format", "json", damaged]);
    assert!(warning.contains("left out 3228 bytes"), "{warning}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["left_out_bytes"]["torn_tail"], 156);
}

#[test]
fn record_files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let name = good(at);
    let sound = fs::read(at.join(&name)).unwrap();
    let mut newer = sound.clone();
    newer[8] = 3;
    let mut flipped = sound.clone();
    flipped[100] ^= 1;
    for (file, bytes, message) in [
        ("empty.sar", &b""[..], "the file is empty"),
        ("foreign.sar", b"\x7fELF and so on", "not a record file"),
        ("newer.sar", &newer, "format version 3 is newer than 2"),
        ("cut.sar", &sound[..100], "ends within its header"),
        ("flipped.sar", &flipped, "damaged header (checksum)"),
    ] {
        fs::write(at.join(file), bytes).unwrap();
        for arguments in [&["dump", file][..], &["ingest", "--store", "bad", file]] {
            let (_, error) = expect(at, 3, arguments);
            assert!(error.contains(file) && error.contains(message), "{error}");
        }
        // Together with a good file the good one counts, and the bad one is told.
        let (_, error) = expect(at, 1, &["ingest", "--store", "mixed", file, &name]);
        assert!(error.contains(message), "{error}");
        assert_eq!(report(at, &["--store", "mixed"])["total"]["recorded_tasks"], 5);
    }
    let (_, error) = expect(at, 3, &["dump", "absent.sar"]);
    assert!(error.contains("absent.sar: No such file"), "{error}");
    let (_, error) = expect(at, 3, &["ingest", "absent"]);
    assert!(error.contains("absent: No such file"), "{error}");
    fs::create_dir(at.join("nothing")).unwrap();
    let (_, error) = expect(at, 3, &["ingest", "nothing"]);
    assert!(error.contains("no record file"), "{error}");
}

#[test]
fn a_truncated_record_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let name = good(at);
    let sound = fs::read(at.join(&name)).unwrap();
    fs::write(at.join(&name), &sound[..sound.len() - 300]).unwrap();
    let (_, warning) = expect(at, 1, &["dump", &name]);
    assert!(warning.contains("left out"), "{warning}");
    let (_, warning) = expect(at, 1, &["ingest", &name]);
    assert!(warning.contains(&name) && warning.contains("left out"), "{warning}");
    let report = report(at, &[]);
    assert_eq!(report["total"]["recorded_tasks"], 5);
    assert!(report["notes"].to_string().contains("could not be used"));
}

/// A flipped bit costs its group at most: all else of the file counts, and the loss is told.
#[test]
fn flipped_bits() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let name = good(at);
    let sound = fs::read(at.join(&name)).unwrap();
    let records = records::Segment::parse(&sound).unwrap().records_at();
    let step = (sound.len() - records) / 10;
    for flip in (records + 13..sound.len()).step_by(step) {
        let mut flipped = sound.clone();
        flipped[flip] ^= 1 << (flip % 8);
        fs::write(at.join(&name), &flipped).unwrap();
        let store = format!("store-{flip}");
        let (_, warning) = expect(at, 1, &["ingest", "--store", &store, &name]);
        assert!(warning.contains("left out") && warning.contains(&name), "{warning}");
        let report = report(at, &["--store", &store]);
        let tasks = report["total"]["recorded_tasks"].as_u64().unwrap();
        assert!(tasks >= 4, "byte {flip}: {tasks} tasks of 5");
        assert!(report["notes"].to_string().contains("could not be used"), "byte {flip}");
        // The sound file afterwards is the better copy, and the report is whole.
        fs::write(at.join(&name), &sound).unwrap();
        expect(at, 0, &["ingest", "--store", &store, &name]);
        assert_eq!(recorded_tasks(at, &store), 5);
    }
}

fn recorded_tasks(at: &Path, store: &str) -> u64 {
    report(at, &["--store", store])["total"]["recorded_tasks"].as_u64().unwrap()
}

/// A node whose clock is an hour off: records and event log are joined by identity, never by time.
#[test]
fn clocks_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let log = event_log();
    let totals = [0, 3_600_000_000_000].map(|skew_ns| {
        let name = format!("skew-{skew_ns}");
        let [mut one, other] = executors();
        one.start_real_ns += skew_ns;
        one.retold().save(&at.join(&name));
        other.save(&at.join(&name));
        expect(
            at,
            0,
            &["ingest", &name, "--event-log", text(&log), "--store", &format!("s{name}")],
        );
        report(at, &["--store", &format!("s{name}"), "--by", "node,stage"])
    });
    assert_eq!(totals[0], totals[1]);
}

/// Two machines of one name are one node in a report, and two processes of it stay two.
#[test]
fn two_nodes_of_one_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [mut one, mut other] = executors();
    (one.node, other.node) = ("twin", "twin");
    for (writer, folder) in [(&one, "one"), (&other, "other")] {
        writer.retold().save(&at.join(folder));
    }
    expect(at, 0, &["ingest", "one", "other"]);
    let nodes = report(at, &["--by", "node"]);
    let tasks = |report: &serde_json::Value| {
        let rows = rows(report).iter();
        rows.filter(|row| row["part"] == "tasks")
            .map(|row| row["tasks"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(tasks(&nodes), [10]);
    assert_eq!(tasks(&report(at, &["--by", "process"])), [5, 5]);
}

/// Several attempts of an application count their TIDs anew: what cannot be told apart is not joined.
#[test]
fn attempts_and_mixed_logs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let log = fs::read_to_string(event_log()).unwrap();
    let attempt = |number: &str| {
        log.replace("\"App ID\":", &format!("\"App Attempt ID\":\"{number}\",\"App ID\":"))
    };
    fs::write(at.join("attempts.log"), attempt("1") + &attempt("2")).unwrap();
    let name = good(at);
    expect(at, 0, &["ingest", &name, "--event-log", "attempts.log"]);
    let joined = report(at, &[]);
    assert_eq!(joined["total"]["recorded_tasks"], 5);
    assert_eq!(joined["total"]["spark_run_time_ms"], serde_json::Value::Null);
    // Two applications in one file, the second of which never ended.
    let other =
        log.replace(APPLICATION, "app-other").replace("SparkListenerApplicationEnd", "Gone");
    fs::write(at.join("mixed.log"), log + &other).unwrap();
    let (_, warning) =
        expect(at, 1, &["ingest", "--store", "mixed", &name, "--event-log", "mixed.log"]);
    assert!(warning.contains("app-other"), "{warning}");
    let report = |app: &str| report(at, &["--store", "mixed", "--app", app])["total"].clone();
    assert_eq!(report(APPLICATION)["recorded_tasks"], 5);
    assert_eq!(
        (&report("app-other")["tasks"], &report("app-other")["recorded_tasks"]),
        (&10.into(), &0.into())
    );
}

/// Ids as long as a log may make them, and bytes that are no UTF-8.
#[test]
fn ids_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let log = fs::read_to_string(event_log()).unwrap();
    let [one, other] = ["x", "y"].map(|end| "long".repeat(1 << 14) + end);
    // They are clipped, and still two.
    for (file, id) in [("one.log", &one), ("other.log", &other)] {
        fs::write(at.join(file), log.replace(APPLICATION, id)).unwrap();
        expect(at, 0, &["ingest", "--event-log", file]);
        expect(at, 0, &["ingest", "--event-log", file]);
    }
    let all = report(at, &["--by", "app"]);
    assert_eq!(rows(&all).len(), 2);
    for row in rows(&all) {
        let id = row["application_id"].as_str().unwrap();
        assert!(id.starts_with("longlong") && id.len() < 300, "{id}");
        assert_eq!(report(at, &["--app", id])["total"]["tasks"], 10);
    }
}

#[test]
fn the_event_log_of_another_application() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let name = good(at);
    let log = rolling_event_log();
    let (_, warning) = expect(at, 1, &["ingest", &name, "--event-log", text(&log)]);
    assert!(
        warning.contains("app-20261121034638-0001") && warning.contains(APPLICATION),
        "{warning}"
    );
    // The right one too: its figures are there, and the other application is named, not mixed in.
    expect(at, 0, &["ingest", &name, "--event-log", text(&event_log())]);
    let report = report(at, &[]);
    assert_eq!(report["total"]["tasks"], 10);
    assert!(report["notes"].to_string().contains("app-20261121034638-0001"));
}

#[test]
fn event_logs_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let whole = fs::read(event_log()).unwrap();
    let start = "{\"Event\":\"SparkListenerLogStart\",\"Spark Version\":\"4.3.0\"}\n";
    for (file, bytes, message) in [
        ("empty.log", &b""[..], "the event log is empty"),
        ("foreign.log", b"one\ntwo\nthree\n", "not a Spark event log"),
        ("cut.log", &whole[..20], "ends before its first event"),
        ("nameless.log", start.as_bytes(), "no application id"),
        ("packed.lz4", b"LZ4Block", "lz4 are not served"),
        ("packed.zstd", b"\x28\xb5\x2f\xfd\x00", "packed.zstd"),
    ] {
        fs::write(at.join(file), bytes).unwrap();
        let (_, error) = expect(at, 3, &["ingest", "--store", "bad", "--event-log", file]);
        assert!(error.contains(file) && error.contains(message), "{error}");
    }
    let (_, error) = expect(at, 3, &["ingest", "--event-log", "absent.log"]);
    assert!(error.contains("absent.log: No such file"), "{error}");
}

#[test]
fn event_logs_with_flaws() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let whole = fs::read_to_string(event_log()).unwrap();
    // Cut in the last line: what is before it counts.
    fs::write(at.join("cut.log"), &whole[..whole.len() - 30]).unwrap();
    let (_, note) = expect(at, 0, &["ingest", "--store", "cut", "--event-log", "cut.log"]);
    assert!(note.contains("the end is cut"), "{note}");
    assert_eq!(report(at, &["--store", "cut"])["total"]["tasks"], 10);
    // Unknown events, unknown fields, a line of another program, bytes that are no UTF-8.
    let mut flawed = b"{\"Event\":\"SparkListenerOfTheFuture\",\"New\":[1]}\n".to_vec();
    flawed.extend(b"WARN something else wrote here\n");
    flawed.extend(b"{\"New\":1,\"Event\":\"SparkListenerJobStart\",\"Job ID\":77,\"Stage IDs\":[],\"x\":\"\xff\"}\n");
    flawed.extend(whole.bytes());
    fs::write(at.join("flawed.log"), flawed).unwrap();
    let (_, warning) = expect(at, 1, &["ingest", "--store", "flawed", "--event-log", "flawed.log"]);
    assert!(warning.contains("flawed.log: 1 lines are no events"), "{warning}");
    assert_eq!(report(at, &["--store", "flawed"])["total"]["tasks"], 10);
    // An application that is not finished, the same when it is, and the old file once more.
    fs::write(at.join("early.inprogress"), &whole[..whole.len() / 10 * 6]).unwrap();
    fs::write(at.join("late"), &whole).unwrap();
    for (log, said) in
        [("early.inprogress", "1 new"), ("late", "1 new"), ("early.inprogress", "0 new")]
    {
        let (summary, told) =
            expect(at, 0, &["ingest", "--store", "unfinished", "--event-log", log]);
        assert!(summary.contains(said), "{log}: {summary}");
        assert_eq!(log == "late", !told.contains("the end is cut"), "{told}");
    }
    let unfinished = report(at, &["--store", "unfinished"]);
    assert_eq!(unfinished["total"], report(at, &["--store", "cut"])["total"]);
    // Half of a compressed log, as of an application that is still running.
    let packed =
        fs::read(rolling_event_log().join("events_1_app-20261121034638-0001.zstd")).unwrap();
    let plain = zstd_of(&packed);
    fs::write(at.join("half.zstd"), plain).unwrap();
    let (_, note) = expect(at, 0, &["ingest", "--store", "half", "--event-log", "half.zstd"]);
    assert!(note.contains("the end is cut"), "{note}");
}

/// The same log packed in small blocks, without its end.
fn zstd_of(packed: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let plain = zstd::decode_all(packed).unwrap();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for chunk in plain.chunks(4096) {
        encoder.write_all(chunk).unwrap();
        encoder.flush().unwrap();
    }
    let mut bytes = encoder.finish().unwrap();
    bytes.truncate(bytes.len() / 2);
    bytes
}

#[test]
fn stores_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let name = good(at);
    let (_, error) = expect(at, 3, &["report"]);
    assert!(error.contains("no store here"), "{error}");
    let (_, error) = expect(at, 4, &["ingest", "--store", ".", &name]);
    assert!(error.contains("holds other files"), "{error}");
    let (_, error) = expect(at, 4, &["ingest", "--store", &format!("{name}/store"), &name]);
    assert!(error.contains("Not a directory"), "{error}");
    let (_, error) = expect(at, 4, &["ingest", "--store", "/proc/store", &name]);
    assert!(error.contains("/proc/store"), "{error}");
    // A store of a later program.
    expect(at, 0, &["ingest", &name]);
    let mark = at.join("sparkanalyzer-store/store.json");
    fs::write(&mark, r#"{"store":"sparkanalyzer","schema":9}"#).unwrap();
    for arguments in [&["report"][..], &["ingest", &name], &["purge", "--older-than", "1d"]] {
        let (_, error) = expect(at, 3, arguments);
        assert!(error.contains("schema version 9"), "{error}");
    }
    // One of an earlier program: it is left as it is.
    fs::write(&mark, r#"{"store":"sparkanalyzer","schema":1}"#).unwrap();
    let (_, error) = expect(at, 3, &["ingest", &name]);
    assert!(error.contains("schema version 1") && error.contains("make a new store"), "{error}");
    fs::write(&mark, "x").unwrap();
    let (_, error) = expect(at, 3, &["report"]);
    assert!(error.contains("damaged"), "{error}");
    // An empty one.
    Writer::new("shell", "other", "n", "").segment().save(&at.join("shell"));
    expect(at, 0, &["ingest", "--store", "shells", "shell"]);
    let (_, error) = expect(at, 3, &["report", "--store", "shells"]);
    assert!(error.contains("nothing to report") && error.contains("1 other"), "{error}");
}

#[test]
fn a_store_that_may_not_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let name = good(at);
    fs::create_dir(at.join("locked")).unwrap();
    fs::set_permissions(at.join("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(at.join("locked/probe"), "").is_ok() {
        fs::remove_file(at.join("locked/probe")).unwrap();
        // root may write anywhere: become nobody for the analyzer's run.
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(assert_cmd::cargo::cargo_bin("analyzer"))
            .args(["ingest", "--store", "locked", &name])
            .current_dir(at)
            .output();
        match output {
            Ok(output) if output.status.code() != Some(127) => {
                let error = String::from_utf8_lossy(&output.stderr);
                if error.contains("setpriv: ") {
                    eprintln!("SKIPPED a_store_that_may_not_be_written: {error}");
                    return;
                }
                assert_eq!(output.status.code(), Some(4), "{error}");
                assert!(error.contains("Permission denied"), "{error}");
            }
            _ => eprintln!("SKIPPED a_store_that_may_not_be_written: root, and no setpriv"),
        }
        return;
    }
    let (_, error) = expect(at, 4, &["ingest", "--store", "locked", &name]);
    assert!(error.contains("Permission denied"), "{error}");
}

#[test]
fn wrong_words_get_their_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (_, error) = expect(at, 2, &["report", "--columns", "memory_reed"]);
    assert!(error.contains("did you mean \"memory_reads\""), "{error}");
    let (_, error) = expect(at, 2, &["report", "--by", "nodes"]);
    assert!(error.contains("node"), "{error}");
    let (_, error) = expect(at, 2, &["dump", "--metrics", "soket", "x.sar"]);
    assert!(error.contains("did you mean \"socket\""), "{error}");
    expect(at, 2, &["ingest"]);
    expect(at, 2, &["dump"]);
    good(&at.join("records"));
    expect(at, 0, &["ingest", "records"]);
    let (_, error) = expect(at, 3, &["report", "--app", "app-0"]);
    assert!(error.contains("app-0 is not in the store") && error.contains(APPLICATION), "{error}");
}

#[test]
fn hostile_names_do_not_steer_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut writer = Writer::new("hostile", "executor", "\u{1b}[2Jnode", "=cmd|' /C calc'!A0");
    writer.application = "../../app\n\u{7}";
    writer.segment().start(1, 0, 0, 0).end(1, 0, 0, 3).finish(4);
    writer.save(&at.join("records"));
    expect(at, 0, &["ingest", "records"]);
    for by in ["node", "executor", "app"] {
        let (table, _) = expect(at, 0, &["report", "--by", by]);
        assert!(!table.contains(['\u{1b}', '\u{7}']), "{table:?}");
    }
    let (csv, _) =
        expect(at, 0, &["report", "--by", "executor", "--format", "csv", "--columns", "tasks"]);
    assert!(csv.contains("'=cmd|"), "{csv}");
}
