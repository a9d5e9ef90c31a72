//! What another user of the machine may plant among records, logs, settings, results and stores: pipes, devices,
//! links, and records of somebody else's process.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use crate::fixture::{self, Writer, event_log, executors, expect, report, rows, text};

/// Runs the analyzer, for half a minute at most.
fn bounded(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, stdout } = Command::new("timeout")
        .arg("30")
        .arg(assert_cmd::cargo::cargo_bin("analyzer"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_ne!(status.code(), Some(124), "{arguments:?} waits without end\n{said}");
    (status.code(), said)
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn pipes_and_devices_are_named_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [writer, _] = executors();
    writer.save(&at.join("records"));
    let planted = at.join("records").join(writer.file(0).replace("0000.sar", "0001.sar"));
    make_pipe(&planted);
    make_pipe(&at.join("pipe"));
    symlink(at.join("pipe"), at.join("link")).unwrap();
    symlink("/dev/zero", at.join("zero")).unwrap();
    // The sound files beside them count.
    let (code, said) = bounded(at, &["ingest", "records"]);
    assert!(code == Some(1) && said.contains("FIFO"), "{said}");
    assert_eq!(report(at, &[])["total"]["recorded_tasks"], 5);
    bounded(at, &["top", "--once", "records"]);
    for name in ["pipe", "link", "zero", "/dev/tty", "/dev/null"] {
        let what = if ["pipe", "link"].contains(&name) { "FIFO" } else { "not a regular file" };
        for command in [
            &["ingest", name][..],
            &["ingest", "--event-log", name],
            &["dump", name],
            &["inspect", name],
            &["rewrite", "--preload", "--needed", "/x.so", "--check", name],
            &["trace", "--conf", name, "--", "/bin/true"],
            &["doctor", "--conf", name],
        ] {
            let (code, said) = bounded(at, command);
            assert_ne!(code, Some(0), "{command:?}: {said}");
            // Where there is no terminal, /dev/tty cannot even be opened.
            let is_about_it =
                [what, "it is a device", "No such device"].iter().any(|text| said.contains(text));
            assert!(is_about_it, "{command:?}: {said}");
        }
    }
    // In a folder of logs, and as a part of a rolling one.
    fs::create_dir(at.join("logs")).unwrap();
    fs::copy(event_log(), at.join("logs/sound")).unwrap();
    make_pipe(&at.join("logs/events"));
    let (code, said) = bounded(at, &["ingest", "--store", "logged", "--event-log", "logs"]);
    assert!(code.is_some_and(|code| code < 2), "{said}");
    assert!(said.contains("logs/events: no") && said.contains("regular file"), "{said}");
    fs::create_dir(at.join("rolling")).unwrap();
    make_pipe(&at.join("rolling/events_1_app-1"));
    let (code, said) = bounded(at, &["ingest", "--store", "logged", "--event-log", "rolling"]);
    assert!(code == Some(3) && said.contains("regular file"), "{said}");
    // In a store.
    for part in ["store.json", ".readers", ".lock"] {
        let store = at.join(format!("store-{part}"));
        fs::create_dir(&store).unwrap();
        make_pipe(&store.join(part));
        bounded(at, &["report", "--store", text(&store)]);
        let (code, said) = bounded(at, &["ingest", "--store", text(&store), "records"]);
        assert!(code != Some(0) && said.contains("no regular file"), "{said}");
    }
    // As a place for results.
    for output in ["pipe", "zero"] {
        let (code, said) = bounded(at, &["report", "-o", output]);
        assert!(code == Some(4) && said.contains("pipe or a device"), "{said}");
    }
}

#[test]
fn planted_links_lead_no_writer_astray() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [one, other] = executors();
    one.save(&at.join("records"));
    other.save(&at.join("more"));
    expect(at, 0, &["ingest", "records"]);
    let precious = at.join("precious");
    fs::write(&precious, "precious").unwrap();
    let is_whole = || assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    // Results.
    symlink(&precious, at.join("out")).unwrap();
    expect(at, 0, &["report", "--format", "csv", "-o", "out"]);
    is_whole();
    assert!(fs::read_to_string(at.join("out")).unwrap().contains("tasks"));
    // The store's own files.
    let store = at.join("sparkanalyzer-store");
    for name in [".lock", ".readers"] {
        let path = store.join(name);
        fs::remove_file(&path).unwrap();
        symlink(&precious, &path).unwrap();
        let (code, said) = bounded(at, &["ingest", "more"]);
        assert!(code == Some(4) && said.contains("symbolic link"), "{said}");
        is_whole();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
    }
    // Its temporary names of former versions.
    symlink(&precious, store.join(".store.json")).unwrap();
    // And folders.
    let elsewhere = at.join("elsewhere");
    fs::create_dir_all(elsewhere.join("app=x")).unwrap();
    fs::write(elsewhere.join("app=x/other.parquet"), "precious").unwrap();
    symlink(&elsewhere, store.join(".staging")).unwrap();
    symlink(&elsewhere, store.join("snapshots")).unwrap();
    let (_, said) = bounded(at, &["ingest", "--snapshots", "all", "more"]);
    is_whole();
    let left = fs::read_dir(elsewhere.join("app=x")).unwrap().count();
    assert_eq!((left, fs::read_dir(&elsewhere).unwrap().count()), (1, 1), "{said}");
    fs::remove_file(store.join("snapshots")).unwrap();
    expect(at, 0, &["ingest", "more"]);
    assert_eq!(report(at, &[])["total"]["recorded_tasks"], 10);
}

#[test]
fn a_manifest_leads_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [one, _] = executors();
    one.save(&at.join("records"));
    expect(at, 0, &["ingest", "records"]);
    let manifest = at.join("sparkanalyzer-store/store.json");
    let whole = fs::read_to_string(&manifest).unwrap();
    fs::create_dir_all(at.join("elsewhere")).unwrap();
    for table in ["../elsewhere", "/tmp/elsewhere", "tasks/../../elsewhere", "nonsense"] {
        fs::write(&manifest, whole.replace("\"tasks\"", &format!("\"{table}\""))).unwrap();
        for command in [&["report"][..], &["ingest", "records"], &["purge", "--older-than", "1d"]] {
            let (code, said) = bounded(at, command);
            assert!(code == Some(3) && said.contains("damaged"), "{table} {command:?}: {said}");
        }
    }
    assert_eq!(fs::read_dir(at.join("elsewhere")).unwrap().count(), 0);
    fs::write(&manifest, whole).unwrap();
    expect(at, 0, &["report"]);
    // A table's file that is a link is none of the store's.
    let tasks = at.join("sparkanalyzer-store/tasks");
    let file = fs::read_dir(fs::read_dir(&tasks).unwrap().next().unwrap().unwrap().path());
    let file = file.unwrap().next().unwrap().unwrap().path();
    fs::rename(&file, at.join("moved")).unwrap();
    symlink(at.join("moved"), &file).unwrap();
    let (code, said) = bounded(at, &["report"]);
    assert!(code == Some(3) && said.contains("symbolic link"), "{said}");
}

/// Nobody reads more in a store than in the records, unless the user says so by the umask ... which only takes away.
#[test]
fn stores_are_no_more_readable_than_records() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [one, _] = executors();
    one.save(&at.join("records"));
    for (umask, forbidden) in [("022", 0o027), ("077", 0o077)] {
        let store = at.join(umask);
        let script = format!(
            "umask {umask}; exec {} ingest --store {} records --event-log {}",
            assert_cmd::cargo::cargo_bin("analyzer").display(),
            store.display(),
            event_log().display()
        );
        let made = Command::new("sh").current_dir(at).args(["-c", &script]).status().unwrap();
        assert!(made.success());
        fn check(path: &Path, forbidden: u32) {
            let mode = fs::symlink_metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & forbidden, 0, "{}: {mode:o}", path.display());
            for entry in fs::read_dir(path).into_iter().flatten() {
                check(&entry.unwrap().path(), forbidden);
            }
        }
        check(&store, forbidden);
    }
}

#[test]
fn another_processs_records_replace_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let [one, other] = executors();
    one.save(&at.join("records"));
    other.save(&at.join("records"));
    // More complete than the real one, with its id.
    let mut forged = Writer::new("executor 1", "executor", "127.0.0.1", "1");
    forged.start_real_ns += 1;
    forged.segment();
    for task in 0..500 {
        forged.start(101, task, 0, task as u64 * 1000);
        forged.end(101, task, 0, task as u64 * 1000 + 900);
    }
    forged.finish(1_000_000);
    forged.save(&at.join("forged"));
    let real = {
        expect(at, 0, &["ingest", "--store", "real", "records"]);
        report(at, &["--store", "real", "--by", "task"])
    };
    let told = |said: &str| {
        assert!(said.contains("another start") && said.contains("left out"), "{said}");
        assert!(said.contains("forged/127.0.0.1"), "{said}");
    };
    // Together: nobody can tell which is right, so neither is taken. Then without it, and with it once more.
    let (_, said) = expect(at, 1, &["ingest", "--store", "one", "records", "forged"]);
    told(&said);
    assert_eq!(rows(&report(at, &["--store", "one", "--by", "task"])).len(), 6, "the other one's");
    expect(at, 0, &["ingest", "--store", "one", "records"]);
    assert_eq!(report(at, &["--store", "one", "--by", "task"]), real);
    let (_, said) = expect(at, 1, &["ingest", "--store", "real", "forged", "records"]);
    told(&said);
    assert_eq!(report(at, &["--store", "real", "--by", "task"]), real);
    assert_eq!(rows(&real).len(), 10 + 2);
    // On another node, and of another user, who copies all that the header says.
    let mut elsewhere = Writer::new("executor 1", "executor", "127.0.0.9", "1");
    elsewhere.segment();
    elsewhere.finish(1);
    elsewhere.save(&at.join("elsewhere"));
    let (_, said) = expect(at, 1, &["ingest", "--store", "real", "elsewhere", "records"]);
    assert!(said.contains("another node"), "{said}");
    // SAFETY: it has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return tests::skip::skip(
            "another_processs_records_replace_nobodys",
            "not root: one owner only",
        );
    }
    one.save(&at.join("owned/by-70001"));
    let mut copied = one.clone();
    copied.segment();
    copied.start(101, 7000, 0, 7000);
    copied.end(101, 7000, 0, 7100);
    copied.save(&at.join("owned/by-70002"));
    for user in [70_001, 70_002] {
        let folder = at.join(format!("owned/by-{user}"));
        for entry in fs::read_dir(folder).unwrap() {
            std::os::unix::fs::chown(entry.unwrap().path(), Some(user), None).unwrap();
        }
    }
    let (_, said) = expect(at, 3, &["ingest", "--store", "owned-store", "owned"]);
    assert!(said.contains("another owner") && said.contains("by-70002"), "{said}");
    assert!(said.contains("by-70001"), "{said}");
}

/// Secrets in whatever the store keeps of logs and records.
#[test]
fn secrets_of_others_are_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let log = fs::read_to_string(event_log()).unwrap();
    let line = |event: &str| format!("{{\"Event\":\"{event}\"}}\n");
    let sql = "{\"Event\":\"org.apache.spark.sql.execution.ui.SparkListenerSQLExecutionStart\",\
               \"executionId\":7,\"time\":1,\"description\":\"CREATE TABLE t OPTIONS (password 'hunter2')\"}\n";
    let job = "{\"Event\":\"SparkListenerJobStart\",\"Job ID\":77,\"Stage IDs\":[],\"Properties\":\
               {\"spark.job.description\":\"load from jdbc:mysql://me:hunter2@h/db\"}}\n";
    let removed = "{\"Event\":\"SparkListenerExecutorRemoved\",\"Executor ID\":\"1\",\
                   \"Removed Reason\":\"exit: java -Dx.password=hunter2\"}\n";
    fs::write(at.join("log"), [&log, sql, job, removed, &line("Other")].concat()).unwrap();
    expect(at, 0, &["ingest", "--event-log", "log"]);
    for (path, bytes) in fixture::contents(&at.join("sparkanalyzer-store")) {
        // Parquet files are packed: read as text they would show nothing.
        assert!(!bytes.windows(7).any(|some| some == b"hunter2"), "{}", path.display());
    }
    let (json, _) = expect(at, 0, &["report", "--by", "job", "--format", "json"]);
    assert!(!json.contains("hunter2"), "{json}");
    for table in ["spark_sql", "spark_jobs", "spark_executors"] {
        let found = fixture_text(&at.join("sparkanalyzer-store").join(table));
        assert!(!found.contains("hunter2"), "{table}: {found}");
        assert!(found.contains("(redacted)"), "{table}: {found}");
    }
}

/// All text columns of a table.
fn fixture_text(folder: &Path) -> String {
    use polars::prelude::{ParquetReader, SerReader};
    let mut all = String::new();
    for (path, _) in fixture::contents(folder) {
        let frame = ParquetReader::new(fs::File::open(path).unwrap()).finish().unwrap();
        for column in frame.columns() {
            if let Ok(texts) = column.str() {
                texts.iter().flatten().for_each(|text| all += text);
            }
        }
    }
    all
}
