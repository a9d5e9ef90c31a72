//! Full disks: the message names the place and the way out, nothing half-written stays, nothing is lost, and the same
//! command goes on when there is room again.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fixture::{self, APPLICATION, analyzer, event_log, executors, expect, report, text};
use serde_json::json;

/// A file system of 256 KiB, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None`, said aloud, if none can be mounted.
    fn mount(test: &str, at: &Path) -> Option<Disk> {
        let disk = at.join("disk");
        fs::create_dir(&disk).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        let mounted = Command::new("mount").args(options).arg(&disk).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            tests::skip::skip(test, "a tmpfs cannot be mounted here (not root?)");
            return None;
        }
        Some(Disk(disk))
    }

    /// Leaves so much room.
    fn fill(&self, left: usize) {
        let mut ballast = File::create(self.0.join("ballast")).unwrap();
        while ballast.write_all(&[1; 1024]).is_ok() {}
        let bytes = ballast.metadata().unwrap().len();
        ballast.set_len(bytes - left as u64).unwrap();
    }

    /// Makes room for everything.
    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
        let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&self.0).status();
        assert!(grown.unwrap().success());
    }

    /// What would be there if something half-written had stayed.
    fn assert_tidy(&self) {
        let half_written = |(path, _): &(PathBuf, Vec<u8>)| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.contains(".new-") || path.to_string_lossy().contains("/log-")
        };
        let found: Vec<_> = fixture::contents(&self.0).into_iter().filter(half_written).collect();
        let found: Vec<_> = found.iter().map(|(path, bytes)| (path, bytes.len())).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn records_and_a_log_into_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let Some(disk) = Disk::mount("records_and_a_log_into_a_store", at) else { return };
    disk.fill(36 << 10);
    executors().iter().for_each(|writer| writer.save(&at.join("records")));
    let log = event_log();
    let ingest = ["ingest", "--store", "disk/store", "records", "--event-log", text(&log)];
    let (_, error) = expect(at, 4, &ingest);
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("disk/store") && error.contains("free some space"), "{error}");
    disk.assert_tidy();
    disk.free();
    expect(at, 0, &ingest);
    assert_eq!(report(at, &["--store", "disk/store"])["total"]["recorded_tasks"], 10);
}

/// A log that is read in more than one piece: what the first said waits in a file, for which there is no room.
#[test]
fn the_runs_of_a_long_log() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let Some(disk) = Disk::mount("the_runs_of_a_long_log", at) else { return };
    // Each line says little and is long.
    let mut log = BufWriter::new(File::create(at.join("log")).unwrap());
    let padding = "x".repeat(1 << 20);
    writeln!(log, "{}", json!({"Event": "SparkListenerApplicationStart", "App ID": APPLICATION}))
        .unwrap();
    for task in 0..150 {
        let event = json!({"Event": "SparkListenerTaskEnd", "Stage ID": 0, "Stage Attempt ID": 0,
            "Task Info": {"Task ID": task, "Host": "127.0.0.1", "Executor ID": "1",
                "Launch Time": 1000, "Finish Time": 2000, "Failed": false, "Killed": false}});
        let event = event.to_string();
        writeln!(log, "{},\"padding\":\"{padding}\"}}", event.strip_suffix('}').unwrap()).unwrap();
    }
    log.into_inner().unwrap();
    executors().iter().for_each(|writer| writer.save(&at.join("records")));
    // The records come first, and find room.
    expect(at, 0, &["ingest", "--quiet", "--store", "disk/store", "records"]);
    let before = report(at, &["--store", "disk/store"]);
    disk.fill(8 << 10);
    let ingest = ["ingest", "--store", "disk/store", "--event-log", "log"];
    let (_, error) = expect(at, 4, &ingest);
    assert!(error.contains("disk/store") && error.contains("/log-"), "{error}");
    assert!(
        error.contains("No space left on device") && error.contains("run the same command again"),
        "{error}"
    );
    disk.assert_tidy();
    assert_eq!(report(at, &["--store", "disk/store"]), before);
    disk.free();
    expect(at, 0, &ingest);
    let after = report(at, &["--store", "disk/store"]);
    assert_eq!(after["total"]["recorded_tasks"], before["total"]["recorded_tasks"]);
    assert_eq!(after["total"]["tasks"], 150);
    disk.assert_tidy();
}

#[test]
fn a_report() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let Some(disk) = Disk::mount("a_report", at) else { return };
    executors().iter().for_each(|writer| writer.save(&at.join("records")));
    expect(at, 0, &["ingest", "--quiet", "--store", "store", "records"]);
    fs::write(disk.0.join("report"), "the last one").unwrap();
    disk.fill(4 << 10);
    for format in ["html", "json", "csv", "parquet"] {
        let arguments =
            ["report", "--store", "store", "--by", "task", "--figures", "all", "--format", format];
        let (_, error) = expect(at, 4, &[&arguments[..], &["--output", "disk/report"]].concat());
        assert!(error.contains("disk/report: No space left on device"), "{format}: {error}");
        assert!(error.contains("free some space or name another file"), "{format}: {error}");
        assert_eq!(fs::read_to_string(disk.0.join("report")).unwrap(), "the last one", "{format}");
        disk.assert_tidy();
        // Standard output is somebody's file too.
        let output = Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
            .args(arguments)
            .current_dir(at)
            .stdout(Stdio::from(File::create("/dev/full").unwrap()))
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{format}: {error}");
        assert!(error.contains("standard output: No space left on device"), "{format}: {error}");
    }
    disk.free();
    let arguments = ["report", "--store", "store", "--format", "html", "--output", "disk/report"];
    assert!(analyzer(at, &arguments).status.success());
    assert!(fs::read_to_string(disk.0.join("report")).unwrap().contains("</html>"));
}
