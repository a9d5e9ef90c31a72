//! Small files that are meant to take gigabytes: what ingest and reports need of them stays bounded, and a log
//! that is refused costs itself alone.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fixture::{self, Writer, executors, expect, text};

/// What nothing here may need, in MiB; ingest of a log of any size takes half of it.
const MOST_MIB: u64 = 1024;

/// How a run of the analyzer ended, what it said, and the most memory that it had, in MiB.
struct Run {
    code: Option<i32>,
    stderr: String,
    peak_mib: u64,
}

#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
fn within(most_mib: u64, folder: &Path, arguments: &[&str]) -> Run {
    let said = folder.join("said");
    let child = Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: the child is not waited for by anybody else, and both places are ours.
    let waited = unsafe { libc::wait4(child.id() as i32, &mut status, 0, usage.as_mut_ptr()) };
    assert_eq!(waited, child.id() as i32);
    // SAFETY: the call has succeeded and filled it in; all zeros are sound too.
    let usage = unsafe { usage.assume_init() };
    let run = Run {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        stderr: std::fs::read_to_string(&said).unwrap(),
        peak_mib: usage.ru_maxrss as u64 / 1024,
    };
    println!("{} MiB: {}", run.peak_mib, arguments.join(" "));
    assert!(run.peak_mib < most_mib, "{} MiB\n{}", run.peak_mib, run.stderr);
    run
}

fn measured(folder: &Path, arguments: &[&str]) -> Run {
    within(MOST_MIB, folder, arguments)
}

/// A log of one application, packed.
fn bomb(folder: &Path, name: &str, lines: impl FnOnce(&mut dyn Write)) -> PathBuf {
    let path = folder.join(name);
    let file = BufWriter::new(File::create(&path).unwrap());
    let mut packed = zstd::Encoder::new(file, 3).unwrap();
    let id = name.trim_end_matches(".zstd");
    writeln!(packed, "{{\"Event\":\"SparkListenerApplicationStart\",\"App ID\":\"{id}\"}}")
        .unwrap();
    lines(&mut packed);
    packed.finish().unwrap().flush().unwrap();
    println!("{name}: {} bytes", std::fs::metadata(&path).unwrap().len());
    path
}

fn stage(out: &mut dyn Write, id: usize, name: &str, parents: &str) {
    writeln!(
        out,
        "{{\"Event\":\"SparkListenerStageSubmitted\",\"Stage Info\":{{\"Stage ID\":{id},\
         \"Stage Attempt ID\":0,\"Stage Name\":\"{name}\",\"Parent IDs\":[{parents}]}}}}"
    )
    .unwrap();
    task(out, id, id);
}

fn tasks(out: &mut dyn Write, number: usize) {
    (0..number).for_each(|id| task(out, id, 0));
}

fn task(out: &mut dyn Write, id: usize, stage: usize) {
    writeln!(
        out,
        "{{\"Event\":\"SparkListenerTaskEnd\",\"Stage ID\":{stage},\
         \"Task End Reason\":{{\"Reason\":\"Success\"}},\
         \"Task Info\":{{\"Task ID\":{id},\"Executor ID\":\"1\"}}}}"
    )
    .unwrap();
}

#[test]
fn names_of_megabytes_are_clipped() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bomb(at, "names.zstd", |out| {
        for id in 0..20 {
            stage(out, id, &"n".repeat(30 << 20), "");
        }
        // No UTF-8, and escapes for each character.
        out.write_all(b"{\"Event\":\"SparkListenerStageSubmitted\",\"Stage Info\":{\"Stage ID\":77,\"Stage Name\":\"")
            .unwrap();
        out.write_all(&vec![0xff; 30 << 20]).unwrap();
        out.write_all(b"\"}}\n").unwrap();
        stage(out, 78, &"\\u0041".repeat(5 << 20), "");
    });
    let run = measured(at, &["ingest", "--event-log", "names.zstd"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let csv = at.join("out.csv");
    measured(at, &["report", "--by", "stage", "--format", "html", "-o", text(&csv)]);
    let file = std::fs::metadata(&csv).unwrap();
    assert!(file.len() < 4 << 20, "{} bytes", file.len());
    let store = stage_report(at);
    assert!(store.contains("(clipped)"), "{store}");
}

/// The names of stages as reports have them.
fn stage_report(at: &Path) -> String {
    let (json, _) = expect(at, 0, &["report", "--by", "stage", "--format", "json"]);
    json
}

#[test]
fn lists_of_millions_of_ids_are_refused_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bomb(at, "ids.zstd", |out| {
        for id in 0..20 {
            writeln!(
                out,
                "{{\"Event\":\"SparkListenerJobStart\",\"Job ID\":{id},\"Stage IDs\":[{}1]}}",
                "1,".repeat(14 << 20)
            )
            .unwrap();
        }
    });
    bomb(at, "parents.zstd", |out| stage(out, 1, "x", &format!("{}1", "1,".repeat(14 << 20))));
    bomb(at, "long-lists.zstd", |out| {
        for id in 0..40 {
            stage(out, id, "x", &format!("{}1", "1,".repeat(400_000)));
        }
    });
    bomb(at, "sound.zstd", |out| stage(out, 1, "sound", ""));
    // Lists of nothing, and of nothing within nothing.
    let nothing = "{},".repeat(9 << 20);
    bomb(at, "plan.zstd", |out| {
        let sql = "org.apache.spark.sql.execution.ui.SparkListenerSQLExecutionStart";
        let plan = format!("{{\"children\":[{nothing}{{}}]}}");
        writeln!(out, "{{\"Event\":\"{sql}\",\"executionId\":1,\"sparkPlanInfo\":{plan}}}")
            .unwrap();
    });
    for list in ["RDD Info", "Accumulables"] {
        bomb(at, &format!("{}.zstd", &list[..3]), |out| {
            writeln!(
                out,
                "{{\"Event\":\"SparkListenerStageCompleted\",\"Stage Info\":{{\"Stage ID\":1,\"{list}\":[{nothing}{{}}]}}}}"
            )
            .unwrap();
        });
    }
    let lists = ["plan.zstd", "RDD.zstd", "Acc.zstd"];
    let arguments = lists.map(|log| ["--event-log", log]).concat();
    let run = measured(at, &[&["ingest"], &arguments[..]].concat());
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    for log in lists {
        let refusal = format!("{log}: line 2: more than 1000000 elements in its lists");
        assert!(run.stderr.contains(&refusal), "{}", run.stderr);
    }
    let arguments = ["ids.zstd", "parents.zstd", "long-lists.zstd", "sound.zstd"]
        .map(|log| ["--event-log", log])
        .concat();
    let run = measured(at, &[&["ingest"], &arguments[..]].concat());
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(
        run.stderr.contains("ids.zstd: line 2: more than 1000000 elements in its lists"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("parents.zstd: line 2: more than"), "{}", run.stderr);
    assert!(run.stderr.contains("long-lists.zstd: more than 2000000"), "{}", run.stderr);
    assert!(run.stderr.contains("--max-log-entries"), "{}", run.stderr);
    assert!(stage_report(at).contains("sound"));
}

#[test]
fn more_than_the_caps_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bomb(at, "tasks.zstd", |out| tasks(out, 30_000));
    let limit = ["--max-log-entries", "10000"];
    let refused = measured(at, &[&["ingest", "--event-log", "tasks.zstd"], &limit[..]].concat());
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("tasks.zstd: more than 10000 jobs"), "{}", refused.stderr);
    let limit = ["--max-log-bytes", "1000000"];
    let refused = measured(at, &[&["ingest", "--event-log", "tasks.zstd"], &limit[..]].concat());
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("more than 1000000 bytes of lines"), "{}", refused.stderr);
    // One line without an end.
    bomb(at, "line.zstd", |out| {
        for _ in 0..200 {
            out.write_all(&vec![b'x'; 1 << 20]).unwrap();
        }
    });
    let line = measured(at, &["ingest", "--event-log", "line.zstd"]);
    assert!(matches!(line.code, Some(0 | 1)), "{}", line.stderr);
}

/// Stages that come in the order that is the worst for a list that is kept sorted.
#[test]
fn the_order_of_entries_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bomb(at, "stages.zstd", |out| (0..100_000).rev().for_each(|id| stage(out, id, "x", "")));
    let began = std::time::Instant::now();
    let run = measured(at, &["ingest", "--event-log", "stages.zstd"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(began.elapsed().as_secs() < 120, "{:?}", began.elapsed());
}

#[test]
fn a_report_of_too_many_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bomb(at, "tasks.zstd", |out| tasks(out, 30_000));
    let run = measured(at, &["ingest", "--event-log", "tasks.zstd"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let report = |rows: &str, by: &str| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("analyzer"));
        command.current_dir(at).env("SPARKANALYZER_MAX_ROWS", rows);
        let output = command.args(["report", "--by", by, "--format", "csv"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = report("10000", "task");
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("more than 10000 rows in the report"), "{stderr}");
    assert_eq!(report("10000", "stage").0, Some(0));
    let (code, stderr) = report("5000", "stage");
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("more than 20000 tasks in the event logs"), "{stderr}");
    assert!(stderr.contains("SPARKANALYZER_MAX_ROWS"), "{stderr}");
}

/// The largest log that the caps let through, for every report.
#[test]
#[ignore = "minutes: ./run soak"]
fn the_largest_log_that_is_taken() {
    // Two million tasks in memory, and half a million rows.
    let measured = |folder: &Path, arguments: &[&str]| within(4096, folder, arguments);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bomb(at, "tasks.zstd", |out| tasks(out, 1_900_000));
    let run = measured(at, &["ingest", "--event-log", "tasks.zstd"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for by in ["node", "stage", "app", "job", "executor", "task", "process", "thread"] {
        let run = measured(at, &["report", "--by", by, "--format", "csv"]);
        assert_eq!(run.code, Some(if by == "task" { 3 } else { 0 }), "{by}: {}", run.stderr);
    }
    measured(at, &["report", "--format", "html", "-o", "out.html"]);
    measured(at, &["report", "--spread"]);
    measured(at, &["export", "--to", "chrome", "-o", "out.json"]);
    measured(at, &["diff", "sparkanalyzer-store", "sparkanalyzer-store"]);
}

/// A record file with a hole of a terabyte takes no time, and what is behind it counts.
#[test]
fn holes_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [writer, _] = executors();
    writer.save(&at.join("whole"));
    let bytes = writer.bytes(0);
    let records_at = records::Segment::parse(bytes).unwrap().records_at();
    // The same records behind a hole, which begins and ends in the middle of pages.
    let hole: u64 = 1 << 40;
    std::fs::create_dir(at.join("holed")).unwrap();
    let file = File::create(at.join("holed").join(writer.file(0))).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(&bytes[..records_at], 0).unwrap();
    let behind = records_at as u64 + hole;
    file.write_all_at(&bytes[records_at..], behind).unwrap();
    file.set_len(behind + (bytes.len() - records_at) as u64 + (1 << 40)).unwrap();
    let began = std::time::Instant::now();
    let run = measured(at, &["ingest", "--store", "store", "holed"]);
    assert!(matches!(run.code, Some(0 | 1)), "{}", run.stderr);
    measured(at, &["dump", text(&at.join("holed").join(writer.file(0)))]);
    measured(at, &["top", "--once", "holed"]);
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    expect(at, 0, &["ingest", "--store", "sound", "whole"]);
    let rows = |store| fixture::report(at, &["--store", store])["rows"].clone();
    assert_eq!(rows("store"), rows("sound"));
}

#[test]
fn thousands_of_applications_make_no_thousands_of_folders() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for number in 0..1500 {
        let name: &'static str = format!("app-{number:04}").leak();
        let mut writer = Writer::new(name, "executor", "node", "1");
        writer.application = name;
        writer.segment();
        writer.snapshot(7, 1);
        writer.finish(2);
        writer.save(&at.join("records"));
    }
    let run = measured(at, &["ingest", "records"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    fn folders(at: &Path) -> usize {
        let entries = std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).map(|path| 1 + folders(&path)).sum()
    }
    let count = folders(&at.join("sparkanalyzer-store"));
    assert!(count < 1000, "{count} folders");
    let report = fixture::report(at, &["--by", "app", "--roles", "all"]);
    assert_eq!(fixture::rows(&report).len(), 1500);
    let one = fixture::report(at, &["--by", "app", "--roles", "all", "--app", "app-0777"]);
    assert_eq!(fixture::rows(&one).len(), 1);
}
