//! A store on a real server: the same numbers as from Parquet, whatever happens on the way.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::database::Server;
use crate::fixture::{
    self, APPLICATION, TASKS, Writer, counters, data, event_log, executors, expect, report, text,
};
use records::{Event, Flags};
use serde_json::Value;
use tests::record_set::RecordSet;

const BYS: [&str; 8] =
    ["app", "node", "executor", "process", "stage", "task", "node,stage", "executor,task"];

/// Reports in every dimension are the same from both stores.
fn assert_same(folder: &Path, one: &str, other: &str) {
    for by in BYS {
        let of = |store| report(folder, &["--store", store, "--roles", "all", "--by", by]);
        assert_eq!(of(one), of(other), "{by}");
    }
}

/// Tasks of each of [`many_processes`].
const TASKS_EACH: u64 = 8;

/// Record files of many processes with some tasks each.
fn many_processes(folder: &Path, processes: u64) {
    for number in 0..processes {
        let mut writer = Writer::new(&format!("many {number:04}"), "executor", "node-7", "3");
        writer.segment();
        for task in 0..TASKS_EACH {
            writer.start(101, (number * TASKS_EACH + task) as i64, (task % 3) as i32, task * 10);
            writer.end(101, (number * TASKS_EACH + task) as i64, (task % 3) as i32, task * 10 + 7);
        }
        writer.put(101, Flags::FINAL, &Event::ThreadEnd, Some(counters(300)));
        writer.finish(1_000 + number);
        writer.save(folder);
    }
}

/// The inputs that the other tests use, in the folder `parquet` and in a database.
fn fill(folder: &Path, url: &str) {
    for writer in executors() {
        writer.save(&folder.join("records"));
    }
    let (golden, logs) = (data("golden"), data("eventlogs"));
    for store in ["parquet", url] {
        let inputs = ["records", text(&golden), "--event-log", text(&logs), "--store", store];
        let mut arguments = vec!["ingest", "--quiet"];
        arguments.extend(inputs);
        // One of the golden files is damaged.
        expect(folder, 1, &arguments);
    }
}

#[test]
fn the_same_numbers_as_from_parquet() {
    let Some(server) = Server::start("the_same_numbers_as_from_parquet", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let loaded = server.store("loaded");
    fill(at, &loaded);
    assert_same(at, "parquet", &loaded);
    // Without LOAD DATA LOCAL, as MySQL is by default.
    server.sql("SET GLOBAL local_infile = 0");
    let inserted = server.store("inserted");
    fill(at, &inserted);
    assert_same(at, "parquet", &inserted);
    for table in
        ["processes", "threads", "tasks", "notices", "segments", "spark_tasks", "spark_jobs"]
    {
        let sum = |base| server.sql(&format!("CHECKSUM TABLE {base}.{table}"));
        let (one, other) = (sum("loaded"), sum("inserted"));
        assert_eq!(one.split('\t').nth(1), other.split('\t').nth(1), "{table}");
        assert_ne!(
            server.sql(&format!("SELECT COUNT(*) FROM loaded.{table}")).trim(),
            "0",
            "{table}"
        );
    }
}

#[test]
fn views_say_what_reports_say() {
    let Some(server) = Server::start("views_say_what_reports_say", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = server.store("runs");
    fill(folder.path(), &url);
    // A thread and a Python worker of the first task, in other files: more work, not one more task.
    let (task, stage, _, _) = TASKS[0];
    let mut more = Writer::new("more", "executor", "127.0.0.1", "1");
    more.segment().thread_of_task(301, task, stage, 17).finish(17);
    more.save(&folder.path().join("more"));
    let mut python = Writer::new("python", "python_worker", "127.0.0.1", "1");
    python.application = APPLICATION;
    python.segment().served(100, task, stage, [3, 30]).finish(31);
    python.save(&folder.path().join("more"));
    expect(folder.path(), 0, &["ingest", "--quiet", "more", "--store", &url]);
    let metrics = ["instructions", "file_read_bytes", "socket_send_ns", "spark_cpu_time_ns"];
    let of_report = |by: &str, keys: &[&str]| -> Vec<Vec<String>> {
        let report = report(folder.path(), &["--store", &url, "--app", APPLICATION, "--by", by]);
        let rows = report["rows"].as_array().unwrap().iter();
        let text = |value: &Value| match value {
            Value::Null => "NULL".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut rows: Vec<Vec<String>> = rows
            .filter(|row| row["part"] == "tasks")
            .map(|row| keys.iter().chain(&metrics).map(|key| text(&row[*key])).collect())
            .collect();
        rows.sort();
        rows
    };
    let of_view = |view: &str, keys: &[&str]| -> Vec<Vec<String>> {
        let columns: Vec<_> = keys.iter().chain(&metrics).copied().collect();
        let printed = server.sql(&format!(
            "SELECT {} FROM runs.{view} WHERE application_id = '{APPLICATION}'",
            columns.join(", ")
        ));
        let mut rows: Vec<Vec<String>> =
            printed.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
        rows.sort();
        rows
    };
    let (stage, of_stage) = ("stage", ["stage", "stage_attempt", "tasks", "recorded_tasks"]);
    assert_eq!(of_view("stage_summary", &of_stage), of_report(stage, &of_stage));
    let of_node = ["node", "stage", "stage_attempt", "tasks", "recorded_tasks"];
    assert_eq!(of_view("node_stage_summary", &of_node), of_report("node,stage", &of_node));
    assert_eq!(of_report(stage, &of_stage).len(), 4);
    // An application's processes in one node's row each; the golden executor is of this one too.
    let totals = report(folder.path(), &["--store", &url, "--app", APPLICATION]);
    let bytes = server.sql(&format!(
        "SELECT SUM(file_read_bytes) FROM runs.node_summary WHERE application_id = '{APPLICATION}'"
    ));
    assert_eq!(bytes.trim(), totals["process_totals"]["file_read_bytes"].to_string());
    let set = RecordSet { directories: 3, ..RecordSet::default() };
    set.write_records(&folder.path().join("generated")).unwrap();
    expect(folder.path(), 0, &["ingest", "--quiet", "generated", "--store", &url]);
    let keys = ["application_id", "node", "executor_id", "directory", "file_read_bytes", "file_ns"];
    let by = ["--store", &url, "--roles", "all", "--by", "app,node,executor,directory"];
    let mut of_report: Vec<_> = report(folder.path(), &by)["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| keys.map(|key| row[key].to_string().replace('"', "").replace("null", "NULL")))
        .collect();
    let printed = server.sql(
        "SELECT application_id, node, executor_id, directory, file_read_bytes, file_open_ns + \
         file_close_ns + file_read_ns + file_write_ns + file_send_ns + file_recv_ns \
         FROM runs.directory_summary WHERE file_read_bytes < 1 << 62",
    );
    let mut of_view: Vec<[String; 6]> = printed
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap())
        .collect();
    // Sums beyond 64 bits are for reports.
    of_report.retain(|row| row[4].parse::<u64>().is_ok_and(|bytes| bytes < 1 << 62));
    of_report.sort();
    of_view.sort();
    assert_eq!(of_view, of_report);
    assert!(of_view.iter().filter(|row| row[3].starts_with("/generated/")).count() == 6);
    // Readers need no more than SELECT: the views ask in their name.
    server
        .sql("CREATE USER reader IDENTIFIED BY 'pw'; GRANT SELECT, SHOW VIEW ON runs.* TO reader");
    let reader = server.url_of("reader:pw", "runs");
    assert_eq!(report(folder.path(), &["--store", &reader, "--app", APPLICATION]), totals);
}

/// Growing copies, repetition and any order lead to the same rows.
#[test]
fn order_and_repetition_do_not_matter() {
    let Some(server) = Server::start("order_and_repetition_do_not_matter", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let url = server.store("runs");
    let [one, other] = executors();
    one.save(&at.join("one"));
    other.save(&at.join("other"));
    fs::create_dir(at.join("early")).unwrap();
    let whole = other.bytes(0);
    fs::write(at.join("early").join(other.file(0)), &whole[..whole.len() / 2 / 256 * 256]).unwrap();
    let log = event_log();
    let half = fs::read(&log).unwrap();
    fs::write(at.join("early.log"), &half[..half.len() / 2]).unwrap();
    let together = ["ingest", "one", "other", "--event-log", text(&log), "--store", "parquet"];
    expect(at, 0, &together);
    for inputs in [
        &["early", "--event-log", "early.log"][..],
        &["one"],
        &["--event-log", text(&log)],
        &["other"],
        &["early", "one", "--event-log", "early.log"],
    ] {
        let mut arguments = vec!["ingest", "--quiet", "--store", &url];
        arguments.extend(inputs);
        let code = fixture::analyzer(at, &arguments).status.code();
        assert!(matches!(code, Some(0 | 1)), "{inputs:?} {code:?}");
    }
    assert_same(at, "parquet", &url);
    let (said, _) = expect(at, 0, &["ingest", "one", "--mysql", &url]);
    assert!(said.contains("(0 new or grown)"), "{said}");
}

/// Who ingests may not delete: what has grown replaces rows in their places, and of a process that has ended
/// nothing is kept.
#[test]
fn growing_files_need_no_right_to_delete() {
    let Some(server) = Server::start("growing_files_need_no_right_to_delete", &[]) else { return };
    for is_local_on in [1, 0] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        server.sql(&format!("SET GLOBAL local_infile = {is_local_on}"));
        let database = format!("runs{is_local_on}");
        server.store(&database);
        server.sql(&format!(
            "CREATE USER IF NOT EXISTS me; GRANT SELECT, INSERT, UPDATE ON {database}.* TO me"
        ));
        let url = server.url_of("me", &database);
        let log = fs::read(event_log()).unwrap();
        let mut grown = Writer::new("grows", "executor", "node-1", "1");
        grown.segment();
        for round in 0..4 {
            let task = 100 + 2 * round;
            grown.start(301, task, 9, 20 * round as u64);
            grown.end(301, task, 9, 20 * round as u64 + 9);
            // The end of this one comes in the next round, before other tasks.
            grown.start(302, task + 1, 9, 10 * round as u64);
            grown.put(7, Flags::NONE, &Event::Snapshot, Some(counters(round as u64)));
            if round == 1 {
                grown.segment();
            }
            grown.save(&at.join("records"));
            fs::write(at.join("log"), &log[..log.len() * (round as usize + 1) / 4]).unwrap();
            let inputs = ["records", "--event-log", "log", "--store"];
            for store in [&url, "parquet"] {
                expect(at, 0, &[&["ingest", "--quiet"], &inputs[..], &[store]].concat());
            }
            let of = |store| report(at, &["--store", store, "--by", "task"]);
            assert_eq!(of("parquet"), of(&url), "round {round}");
            grown.end(302, task + 1, 9, 10 * round as u64 + 5);
        }
        let kept = format!("SELECT COUNT(*) FROM {database}.kept WHERE bytes <> ''");
        assert_ne!(server.sql(&kept).trim(), "0");
        for tid in [301, 302] {
            grown.put(tid, Flags::FINAL, &Event::ThreadEnd, Some(counters(500)));
        }
        grown.finish(2000).save(&at.join("records"));
        for store in [&url, "parquet"] {
            expect(at, 0, &["ingest", "--quiet", "records", "--store", store]);
        }
        assert_same(at, "parquet", &url);
        assert_eq!(server.sql(&kept).trim(), "0");
    }
}

/// A sound copy of a record file takes the place of a damaged one, row by row.
#[test]
fn sound_copies_replace_damaged_ones() {
    let Some(server) = Server::start("sound_copies_replace_damaged_ones", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [one, _] = executors();
    one.save(at);
    let sound = one.bytes(0);
    let records = records::Segment::parse(sound).unwrap().records_at();
    let url = server.store("runs");
    for flip in [records + 300, records + (sound.len() - records) / 2, sound.len() - 20] {
        let mut flipped = sound.to_vec();
        flipped[flip] ^= 4;
        fs::write(at.join("copy.sar"), flipped).unwrap();
        for (store, code) in [(&url[..], 1), ("parquet", 1)] {
            expect(at, code, &["ingest", "--quiet", "copy.sar", "--store", store]);
        }
        assert_same(at, "parquet", &url);
        for store in [&url[..], "parquet"] {
            expect(at, 0, &["ingest", "--quiet", &one.file(0), "--store", store]);
        }
        assert_same(at, "parquet", &url);
        fs::remove_dir_all(at.join("parquet")).unwrap();
        server.sql("DELETE FROM runs.processes; DELETE FROM runs.sources");
    }
}

#[test]
fn several_ingests_at_once() {
    let Some(server) = Server::start("several_ingests_at_once", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let url = server.store("runs");
    many_processes(&at.join("records"), 20);
    expect(at, 0, &["ingest", "--quiet", "records", "--store", "parquet"]);
    // All with the same input: every source is fought for.
    let ingests: Vec<_> = (0..4)
        .map(|_| {
            Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
                .current_dir(at)
                .args(["ingest", "--quiet", "records", "--store", &url])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for ingest in ingests {
        let output = ingest.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_same(at, "parquet", &url);
}

/// How long a whole ingest takes, into a database of its own.
fn measure(server: &Server, at: &Path) -> Duration {
    let url = server.store("measured");
    let start = Instant::now();
    expect(at, 0, &["ingest", "--quiet", "records", "--store", &url]);
    start.elapsed()
}

/// Whatever is there is whole: rows of each process are there altogether or not at all.
fn assert_whole(server: &Server, when: &str) {
    let torn = server.sql(&format!(
        "SELECT COUNT(*) FROM (SELECT p.process_id FROM runs.processes p LEFT JOIN runs.tasks t USING \
         (process_id) GROUP BY p.process_id HAVING COUNT(t.process_id) <> {TASKS_EACH}) torn"
    ));
    assert_eq!(torn.trim(), "0", "{when}");
}

/// Both sides, at random moments, into one database until all is there, again and again.
#[test]
#[ignore = "minutes"]
fn killed_at_random_moments() {
    use std::hash::{BuildHasher, RandomState};
    let Some(mut server) = Server::start("killed_at_random_moments", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    many_processes(&at.join("records"), 400);
    expect(at, 0, &["ingest", "--quiet", "records", "--store", "parquet"]);
    let whole = measure(&server, at);
    let url = server.store("runs");
    let (mut ingests, mut servers, mut completed) = (0, 0, 0);
    for round in 0..40 {
        let mut ingest = Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
            .current_dir(at)
            .args(["ingest", "--quiet", "records", "--store", &url])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Most of them before its end: the first ingest, which was measured, is the slowest.
        let thousandths = RandomState::new().hash_one(round) % 1000;
        std::thread::sleep(whole * u32::try_from(thousandths).unwrap() / 3000);
        let was_killed = ingest.try_wait().unwrap().is_none();
        if round % 3 == 2 {
            server.kill();
            ingest.wait().unwrap();
            server.run();
            servers += u64::from(was_killed);
        } else {
            ingest.kill().unwrap();
            ingest.wait().unwrap();
            ingests += u64::from(was_killed);
        }
        assert_whole(
            &server,
            &format!("round {round}, after {thousandths} thousandths of a third of {whole:?}"),
        );
        // When all is there, from the beginning.
        if !was_killed || round % 10 == 9 {
            expect(at, 0, &["ingest", "--quiet", "records", "--store", &url]);
            let of = |store| report(at, &["--store", store, "--by", "task"]);
            assert_eq!(of("parquet"), of(&url), "round {round}");
            completed += 1;
            server.sql("DELETE FROM runs.processes; DELETE FROM runs.sources");
        }
    }
    println!(
        "{ingests} ingests and {servers} servers killed at work, {completed} times completed: nothing lost, \
         nothing twice, no process in part"
    );
    assert!(ingests > 0 && servers > 0);
}

#[test]
fn a_killed_ingest_goes_on() {
    let Some(server) = Server::start("a_killed_ingest_goes_on", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    many_processes(&at.join("records"), 60);
    expect(at, 0, &["ingest", "--quiet", "records", "--store", "parquet"]);
    let whole = measure(&server, at);
    let url = server.store("runs");
    let kills = 8;
    for kill in 1..=kills {
        let mut ingest = Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
            .current_dir(at)
            .args(["ingest", "--quiet", "records", "--store", &url])
            .spawn()
            .unwrap();
        std::thread::sleep(whole * kill / kills);
        let _ = ingest.kill();
        ingest.wait().unwrap();
        assert_whole(&server, &format!("kill {kill}"));
    }
    expect(at, 0, &["ingest", "--quiet", "records", "--store", &url]);
    assert_same(at, "parquet", &url);
}

#[test]
fn a_killed_server_loses_nothing() {
    let Some(mut server) = Server::start("a_killed_server_loses_nothing", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    many_processes(&at.join("records"), 60);
    expect(at, 0, &["ingest", "--quiet", "records", "--store", "parquet"]);
    let whole = measure(&server, at);
    let url = server.store("runs");
    let kills = 3;
    let mut failed = 0;
    for kill in 1..=kills {
        let ingest = Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
            .current_dir(at)
            .args(["ingest", "--quiet", "records", "--store", &url])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(whole * kill / (kills + 1));
        server.kill();
        let output = ingest.wait_with_output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            // It was faster.
            Some(0) => {}
            code => {
                assert_eq!(code, Some(6), "{message}");
                assert!(message.contains("the same command again goes on"), "{message}");
                failed += 1;
            }
        }
        server.run();
    }
    assert!(failed > 0, "no kill met an ingest");
    expect(at, 0, &["ingest", "--quiet", "records", "--store", &url]);
    assert_same(at, "parquet", &url);
}

/// Names may hold anything, and the tables' text is the same from both stores.
#[test]
fn names_of_any_kind() {
    let Some(server) = Server::start("names_of_any_kind", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let url = server.store("runs");
    let long = "x".repeat(1 << 16);
    let names =
        ["</script>", "\u{1b}[31m", "=1+1", "\\N", "a\tb\nc\r\0d\\", "\u{1f980} é", "'; --", &long];
    let mut log = serde_json::json!({
        "Event": "SparkListenerApplicationStart", "App Name": names[4], "App ID": "app-odd", "User": "'"
    })
    .to_string();
    for (stage, name) in names.iter().enumerate() {
        let event = serde_json::json!({
            "Event": "SparkListenerStageCompleted",
            "Stage Info": {"Stage ID": stage, "Stage Attempt ID": 0, "Stage Name": name,
                "Number of Tasks": 1, "Parent IDs": []}
        });
        let task = serde_json::json!({
            "Event": "SparkListenerTaskEnd", "Stage ID": stage, "Stage Attempt ID": 0,
            "Task End Reason": {"Reason": "Success"},
            "Task Info": {"Task ID": stage, "Host": name, "Executor ID": name}
        });
        log += &format!("\n{event}\n{task}");
    }
    fs::write(at.join("odd"), log + "\n").unwrap();
    for (infile, store) in [(1, "parquet"), (1, url.as_str()), (0, url.as_str())] {
        server.sql(&format!("SET GLOBAL local_infile = {infile}; DELETE FROM runs.sources"));
        expect(at, 0, &["ingest", "--quiet", "--event-log", "odd", "--store", store]);
        let report = report(at, &["--store", store, "--by", "node,task"]);
        let mut nodes: Vec<_> = report["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["node"].as_str().unwrap())
            .collect();
        // Too long a name is clipped.
        let kept = |bytes: usize| names.map(|name| &name[..name.len().min(bytes)]);
        let short = |name| str::split(name, " ... (clipped").next().unwrap();
        nodes.iter_mut().for_each(|node| *node = short(node));
        let mut expected = kept(256).to_vec();
        nodes.sort_unstable();
        expected.sort_unstable();
        assert_eq!(nodes, expected);
        let stages: Vec<_> = report["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| short(one["name"].as_str().unwrap()))
            .collect();
        assert_eq!(stages, kept(4096));
    }
}
