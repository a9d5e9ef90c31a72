//! The record files against a hostile world: killed processes, full disks, files cut or deleted by
//! others, size limits, conf mistakes. The counted program must not notice any of it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use records::{Event, Segment, notice};
use tests::artifacts::{self, Artifacts};
use tests::build::{Linking, Source};
use tests::skip::skip;

/// Both tracers where a test does not depend on what counts.
const TRACERS: [&str; 2] = ["none", "engine"];

/// The program with the shim preloaded, its records going to `directory`.
struct Worker {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Worker {
    fn start(
        artifacts: &Artifacts,
        directory: &Path,
        milliseconds: u32,
        environment: &[(&str, &str)],
    ) -> Self {
        let program = Source::named("steady_work.c").build(Linking::Pie);
        let mut child = Command::new(program)
            .arg(milliseconds.to_string())
            .env_clear()
            .env("LD_PRELOAD", &artifacts.shim)
            .env("SPARKANALYZER_TRACE", "0123456789abcdef0123456789abcdef")
            .env("SPARKANALYZER_OUTPUT_DIR", directory)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, stderr }
    }

    /// Waits until its main is reached; what was on stderr before.
    fn working(&mut self) -> String {
        let mut before = String::new();
        loop {
            let mut line = String::new();
            let got = self.stderr.read_line(&mut line).expect("reads");
            assert_ne!(got, 0, "ended before its main; stderr: {before}");
            if line == "working\n" {
                return before;
            }
            before += &line;
        }
    }

    fn end(mut self) -> (String, ExitStatus) {
        let mut out = String::new();
        let mut stdout = self.child.stdout.take().expect("piped");
        std::io::Read::read_to_string(&mut stdout, &mut out).expect("reads");
        (out, self.child.wait().expect("waits"))
    }

    /// Waits for its end and checks that nothing was different for it.
    fn ends_well(self) {
        let (out, status) = self.end();
        assert!(status.success() && out == "done, 0 wrong\n", "{status}, printed {out:?}");
    }
}

fn record_files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("exists")
        .map(|entry| entry.expect("reads").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sar"))
        .collect();
    files.sort();
    files
}

/// `analyzer dump` of a file: it must never panic, whatever the file is; its exit code.
fn dump(artifacts: &Artifacts, file: &Path) -> i32 {
    let output = Command::new(&artifacts.analyzer).arg("dump").arg(file).output().expect("starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    output.status.code().expect("exits")
}

/// What a record file ends with.
struct LastWords {
    /// CLOCK_MONOTONIC of the newest group, ns.
    newest_ns: u64,
    /// Snapshots of the whole process.
    snapshots: usize,
    ended: bool,
    notices: Vec<u16>,
}

fn last_words(file: &Path) -> LastWords {
    let bytes = std::fs::read(file).expect("reads");
    let segment =
        Segment::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut last = LastWords { newest_ns: 0, snapshots: 0, ended: false, notices: Vec::new() };
    for group in segment.groups() {
        last.newest_ns = last.newest_ns.max(group.stamp.mono_ns);
        last.snapshots += usize::from(group.event == Event::Snapshot && group.tid == 0);
        last.ended |= matches!(group.event, Event::ProcessEnd { .. });
        if let Event::Notice { code, .. } = group.event {
            last.notices.push(code);
        }
    }
    last
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How long this machine holds threads back: the longest time that one of ours was late by.
struct Lateness {
    thread: JoinHandle<u64>,
    stop: Arc<AtomicBool>,
}

impl Lateness {
    fn watch() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut latest_ns, nap) = (0, Duration::from_millis(2));
            while !stopped.load(Ordering::Relaxed) {
                let before = monotonic_ns();
                std::thread::sleep(nap);
                latest_ns = latest_ns.max(monotonic_ns() - before - nap.as_nanos() as u64);
            }
            latest_ns
        });
        Self { thread, stop }
    }

    fn end_ms(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it cannot panic") / 1_000_000
    }
}

/// Kills a process: its helper writes what was counted last, and its end.
fn kill_at(artifacts: &Artifacts, tracer: &str, delay: Duration) -> u64 {
    let lateness = Lateness::watch();
    let directory = tempfile::tempdir().expect("a directory");
    // No snapshot comes in between.
    let environment =
        [("SPARKANALYZER_TRACER", tracer), ("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "3600000")];
    let mut worker = Worker::start(artifacts, directory.path(), 60_000, &environment);
    worker.working();
    std::thread::sleep(delay);
    let killed_ns = monotonic_ns();
    worker.child.kill().expect("kills");
    let (_, status) = worker.end();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    let begin = std::time::Instant::now();
    let is_written = || {
        let files = record_files(directory.path());
        files.first().is_some_and(|file| std::fs::metadata(file).is_ok_and(|file| file.len() > 0))
            && last_words(&files[0]).ended
    };
    // The helper has 2 s; a busy machine holds it back.
    while !is_written() {
        let waited = begin.elapsed();
        assert!(waited < Duration::from_secs(20), "{tracer}: no end after {waited:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    let took_ms = begin.elapsed().as_millis() as u64;
    let files = record_files(directory.path());
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(dump(artifacts, &files[0]), 0);
    let last = last_words(&files[0]);
    let most_ns = (2000 + 2 * lateness.end_ms()) * 1_000_000;
    let late_ns = last.newest_ns.saturating_sub(killed_ns);
    assert!(last.newest_ns >= killed_ns && late_ns <= most_ns, "{tracer}: {late_ns} ns after it");
    took_ms
}

/// Kills a process and its helper at once: the age of the newest record then, in ms.
fn kill_both_at(artifacts: &Artifacts, tracer: &str, delay: Duration) -> u64 {
    const INTERVAL_MS: u64 = 100;
    let started_ns = monotonic_ns();
    let lateness = Lateness::watch();
    let directory = tempfile::tempdir().expect("a directory");
    let interval = INTERVAL_MS.to_string();
    let environment =
        [("SPARKANALYZER_TRACER", tracer), ("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", &interval)];
    let mut worker = Worker::start(artifacts, directory.path(), 60_000, &environment);
    worker.working();
    std::thread::sleep(delay);
    let pid = worker.child.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("a kernel that lists children");
    let helper: i32 = children.trim().parse().expect("one child, the helper");
    let killed_ns = monotonic_ns();
    // SAFETY: a child of our child, which is not waited for.
    unsafe { libc::kill(helper, libc::SIGKILL) };
    worker.child.kill().expect("kills");
    worker.end();
    // One interval, and what a busy machine may hold back the helper: the process may have ended before its
    // first interval had.
    let most_ms = INTERVAL_MS + 150 + 2 * lateness.end_ms();
    let files = record_files(directory.path());
    let newest_ns = match files.first() {
        None => started_ns,
        Some(file) => {
            let last = last_words(file);
            assert!(!last.ended, "nobody had the time to write an end");
            assert!([0, 1].contains(&dump(artifacts, file)));
            last.newest_ns
        }
    };
    let age_ms = killed_ns.saturating_sub(newest_ns) / 1_000_000;
    assert!(age_ms <= most_ms, "{tracer}: the newest record was {age_ms} ms old, not {most_ms}");
    age_ms
}

/// Moments at random.
fn moments() -> impl Iterator<Item = Duration> {
    let mut state = u64::from(std::process::id()) * 2_654_435_761 + monotonic_ns();
    std::iter::from_fn(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Some(Duration::from_micros(state >> 33 & 0x7ffff))
    })
}

#[test]
fn kill_9_at_20_moments_loses_nothing() {
    let Some(artifacts) = artifacts::need("kill_9") else { return };
    let rounds = moments().take(20).zip(TRACERS.iter().cycle());
    let took: Vec<_> = rounds.map(|(delay, tracer)| kill_at(&artifacts, tracer, delay)).collect();
    println!("from the end of the process to the end of its records, ms: {took:?}");
}

#[test]
fn kill_9_of_the_helper_too_loses_at_most_one_interval() {
    let Some(artifacts) = artifacts::need("kill_9_of_the_helper") else { return };
    let rounds = moments().take(20).zip(TRACERS.iter().cycle());
    let ages: Vec<_> =
        rounds.map(|(delay, tracer)| kill_both_at(&artifacts, tracer, delay)).collect();
    println!("age of the newest record at the kill, ms, interval 100: {ages:?}");
}

#[test]
#[ignore = "long: ./run soak"]
fn kill_9_for_minutes() {
    let Some(artifacts) = artifacts::need("kill_9_for_minutes") else { return };
    let minutes: u64 =
        std::env::var("SOAK_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let end = std::time::Instant::now() + Duration::from_secs(60 * minutes);
    let mut rounds = 0_u64;
    while std::time::Instant::now() < end {
        kill_at(
            &artifacts,
            TRACERS[(rounds % 2) as usize],
            Duration::from_micros(rounds * 7919 % 900_000),
        );
        rounds += 1;
    }
    println!("{rounds} processes killed");
}

/// A small tmpfs, unmounted when dropped.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn new(test: &str, size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            skip(test, "a tmpfs cannot be mounted here (not root?)");
            return None;
        }
        Some(Self { directory })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).status();
    }
}

#[test]
fn a_disk_that_fills_up() {
    let Some(artifacts) = artifacts::need("a_disk_that_fills_up") else { return };
    for tracer in TRACERS {
        let Some(disk) = SmallDisk::new("a_disk_that_fills_up", "64k") else { return };
        let environment =
            [("SPARKANALYZER_TRACER", tracer), ("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "10")];
        let mut worker = Worker::start(&artifacts, disk.directory.path(), 1500, &environment);
        worker.working();
        // Somebody else takes the rest of the disk while records are being written.
        std::thread::sleep(Duration::from_millis(200));
        let hog = disk.directory.path().join("hog");
        let _ = std::fs::write(&hog, vec![1u8; 1 << 20]);
        worker.ends_well();
        let files = record_files(disk.directory.path());
        assert_eq!(files.len(), 1, "{files:?}");
        let last = last_words(&files[0]);
        assert!(last.snapshots > 0, "what was written before is readable");
        assert!([0, 1].contains(&dump(&artifacts, &files[0])));
    }
}

#[test]
fn a_disk_that_was_full_before() {
    let Some(artifacts) = artifacts::need("a_disk_that_was_full_before") else { return };
    let Some(disk) = SmallDisk::new("a_disk_that_was_full_before", "16k") else { return };
    let _ = std::fs::write(disk.directory.path().join("hog"), vec![1u8; 1 << 20]);
    let mut worker = Worker::start(&artifacts, disk.directory.path(), 200, &[]);
    worker.working();
    worker.ends_well();
    for file in record_files(disk.directory.path()) {
        dump(&artifacts, &file);
    }
}

#[test]
fn record_file_cut_while_in_use() {
    let Some(artifacts) = artifacts::need("record_file_cut_while_in_use") else { return };
    for tracer in TRACERS {
        let directory = tempfile::tempdir().expect("a directory");
        let environment =
            [("SPARKANALYZER_TRACER", tracer), ("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "10")];
        let mut worker = Worker::start(&artifacts, directory.path(), 1200, &environment);
        worker.working();
        std::thread::sleep(Duration::from_millis(300));
        let files = record_files(directory.path());
        assert_eq!(files.len(), 1, "{files:?}");
        let file = std::fs::OpenOptions::new().write(true).open(&files[0]).expect("opens");
        file.set_len(100).expect("cuts");
        worker.ends_well();
        // The header is gone; whatever is there is refused with a message, or another segment was begun.
        for file in record_files(directory.path()) {
            assert!([0, 1, 3].contains(&dump(&artifacts, &file)));
        }
    }
}

#[test]
fn record_file_deleted_while_in_use() {
    let Some(artifacts) = artifacts::need("record_file_deleted_while_in_use") else { return };
    for tracer in TRACERS {
        let directory = tempfile::tempdir().expect("a directory");
        let environment =
            [("SPARKANALYZER_TRACER", tracer), ("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "10")];
        let mut worker = Worker::start(&artifacts, directory.path(), 1200, &environment);
        worker.working();
        std::thread::sleep(Duration::from_millis(300));
        for file in record_files(directory.path()) {
            std::fs::remove_file(file).expect("deletes");
        }
        worker.ends_well();
    }
}

#[test]
fn directory_deleted_while_in_use() {
    let Some(artifacts) = artifacts::need("directory_deleted_while_in_use") else { return };
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("records");
    std::fs::create_dir(&directory).expect("makes");
    let environment =
        [("SPARKANALYZER_SEGMENT_BYTES", "65536"), ("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "10")];
    let mut worker = Worker::start(&artifacts, &directory, 1500, &environment);
    worker.working();
    std::fs::remove_dir_all(&directory).expect("deletes");
    worker.ends_well();
}

#[test]
fn the_size_limit_of_a_process() {
    let Some(artifacts) = artifacts::need("the_size_limit_of_a_process") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    const LIMIT: u64 = 128 << 10;
    let limit = LIMIT.to_string();
    let environment = [
        ("SPARKANALYZER_MAX_BYTES_PER_PROCESS", limit.as_str()),
        ("SPARKANALYZER_SEGMENT_BYTES", "65536"),
        ("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "10"),
    ];
    let mut worker = Worker::start(&artifacts, directory.path(), 4000, &environment);
    worker.working();
    worker.ends_well();
    let files = record_files(directory.path());
    let sizes: u64 = files.iter().map(|file| file.metadata().expect("exists").len()).sum();
    // The end of the process is written past the limit: at most some groups.
    assert!(sizes <= LIMIT + (32 << 10), "{sizes} bytes in {files:?}");
    let last = last_words(files.last().expect("a file"));
    assert!(last.ended, "the end of the process is kept");
    let all: Vec<u16> = files.iter().flat_map(|file| last_words(file).notices).collect();
    assert!(all.contains(&notice::PROCESS_SIZE_LIMIT), "says so: notices {all:?}");
}

#[test]
fn the_size_limit_of_a_directory() {
    let Some(artifacts) = artifacts::need("the_size_limit_of_a_directory") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    // Another process's records, larger than the limit by themselves.
    let other = directory.path().join("other-00000000000000000000000000000000.0000.sar");
    std::fs::write(&other, vec![0u8; 2 << 20]).expect("writes");
    let environment = [
        ("SPARKANALYZER_MAX_BYTES_PER_DIRECTORY", "1048576"),
        ("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "10"),
    ];
    let mut worker = Worker::start(&artifacts, directory.path(), 1500, &environment);
    worker.working();
    worker.ends_well();
    let mut files = record_files(directory.path());
    files.retain(|file| *file != other);
    let sizes: u64 = files.iter().map(|file| file.metadata().expect("exists").len()).sum();
    assert!(sizes <= 64 << 10, "{sizes} bytes although the directory is full: {files:?}");
    for file in &files {
        let last = last_words(file);
        assert!(last.notices.contains(&notice::DIRECTORY_SIZE_LIMIT), "{:?}", last.notices);
    }
}

#[test]
fn an_output_directory_that_is_none() {
    let Some(artifacts) = artifacts::need("an_output_directory_that_is_none") else { return };
    for directory in ["/dev/null/records", "/proc/self/records"] {
        let mut worker = Worker::start(&artifacts, Path::new(directory), 100, &[]);
        worker.working();
        worker.ends_well();
    }
}

#[test]
fn a_conf_with_a_wrong_key() {
    let Some(artifacts) = artifacts::need("a_conf_with_a_wrong_key") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let conf = directory.path().join("sparkanalyzer.toml");
    std::fs::write(&conf, "# ours\nmetrcs = [\"instructions\"]\n").expect("writes");
    let environment = [("SPARKANALYZER_CONF", conf.to_str().expect("UTF-8"))];
    let mut worker = Worker::start(&artifacts, directory.path(), 100, &environment);
    let complaint = worker.working();
    worker.ends_well();
    assert_eq!(complaint.lines().count(), 1, "one line: {complaint}");
    assert!(complaint.contains("sparkanalyzer.toml:2"), "says where: {complaint}");
    assert!(
        complaint.contains("metrcs") && complaint.contains("metrics"),
        "says what: {complaint}"
    );
    assert_eq!(record_files(directory.path()), Vec::<PathBuf>::new(), "it is passive");
}
