//! Which processes are counted: roles, filters, the kill switch, and what the header says of them.
//!
//! `tests/shim/life.c` plays the parts: under the name of python3 or java, with the arguments that Spark's
//! launchers give.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use records::Segment;
use tests::artifacts::{self, Artifacts};
use tests::preloaded::{compile, shown};
use tests::program_file;
use tests::skip::skip;

struct Stage {
    directory: tempfile::TempDir,
    life: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let life = compile("gcc", "life.c", directory.path(), &[]);
        Self { directory, life }
    }

    /// The record files that a process with this name and these arguments leaves.
    fn play(
        &self,
        artifacts: &Artifacts,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Vec<Vec<u8>> {
        let program = self.directory.path().join(name);
        if !program.exists() {
            program_file::copy(&self.life, &program);
        }
        let records = tempfile::tempdir_in(self.directory.path()).expect("a directory");
        let output = Command::new(&program)
            .args(["writes", "3"])
            .args(arguments)
            .env("LD_PRELOAD", &artifacts.shim)
            .env("SPARKANALYZER_OUTPUT_DIR", records.path())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("starts");
        assert!(output.status.success() && output.stderr.is_empty(), "{}", shown(&output));
        read_all(records.path())
    }

    fn is_counted(&self, artifacts: &Artifacts, environment: &[(&str, &str)]) -> bool {
        !self.play(artifacts, "python3", PYTHON_WORKER, environment).is_empty()
    }
}

fn read_all(directory: &Path) -> Vec<Vec<u8>> {
    std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("reads"))
        .collect()
}

const PYTHON_WORKER: &[&str] = &["-m", "pyspark.worker"];
const EXECUTOR: &[&str] = &[
    "-Dspark.ssl.keyPassword=hunter2",
    "org.apache.spark.executor.CoarseGrainedExecutorBackend",
    "--driver-url",
    "spark://user:hunter2@127.0.0.1:1",
    "--executor-id",
    "7",
    "--hostname",
    "node-3",
    "--app-id",
    "app-42",
];

#[test]
fn the_header_says_who_it_is() {
    let Some(artifacts) = artifacts::need("header") else { return };
    let stage = Stage::new();
    let files = stage.play(
        &artifacts,
        "java",
        EXECUTOR,
        &[("SPARKANALYZER_CLUSTER", "blue"), ("CONTAINER_ID", "container_1_0001_02_000003")],
    );
    assert_eq!(files.len(), 1);
    let segment = Segment::parse(&files[0]).expect("a segment");
    let header = segment.header();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(header.role), "executor");
    assert_eq!(text(header.node), "node-3");
    assert_eq!(text(header.node_source), "hostname_argument");
    assert_eq!(text(header.cluster), "blue");
    assert_eq!(text(header.application_id), "app-42");
    assert_eq!(text(header.application_attempt), "2");
    assert_eq!(text(header.executor_id), "7");
    assert_eq!(text(header.comm), "java");
    assert!(text(header.exe).ends_with("/java"));
    assert_eq!(text(header.container), "container_1_0001_02_000003");
    assert_eq!(text(header.starts_at), "constructor");
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("reads");
    assert_eq!(text(header.boot_id), boot_id.trim());
    let line = text(header.command_line);
    assert!(line.contains("spark.ssl.keyPassword=*********(redacted)"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
    assert!(!text(header.settings).contains("hunter2"));
    assert!(text(header.settings).contains("cluster = \"blue\""));
    assert!(header.start_ticks > 0 && header.start_mono_ns > 0 && header.start_real_ns > 0);
}

#[test]
fn roles_and_filters_choose() {
    let Some(artifacts) = artifacts::need("filters") else { return };
    let stage = Stage::new();
    for (environment, counted) in [
        (&[][..], true),
        (&[("SPARKANALYZER_ENABLED", "off")], false),
        (&[("SPARKANALYZER_ENABLED", "request")], false),
        (&[("SPARKANALYZER_ROLES", "executor,driver")], false),
        (&[("SPARKANALYZER_ROLES", "python")], true),
        (&[("SPARKANALYZER_USERS", "nobody")], false),
        (&[("SPARKANALYZER_USERS", "nobody,0"), ("SPARKANALYZER_ROLES", "python")], is_root()),
        (&[("SPARKANALYZER_USERS", "root")], is_root()),
        (&[("SPARKANALYZER_APPLICATIONS", "app-1")], false),
        (&[("SPARKANALYZER_APPLICATIONS", "app-1"), ("SPARK_APPLICATION_ID", "app-17")], true),
    ] {
        assert_eq!(stage.is_counted(&artifacts, environment), counted, "{environment:?}");
    }
    assert!(stage.play(&artifacts, "sh", PYTHON_WORKER, &[]).is_empty(), "no role of ours");
    assert!(
        stage.play(&artifacts, "java", &["org.apache.spark.deploy.worker.Worker"], &[]).is_empty()
    );
}

fn is_root() -> bool {
    // SAFETY: takes no argument.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn one_executor_in_so_many() {
    let Some(artifacts) = artifacts::need("sample") else { return };
    let stage = Stage::new();
    let chosen = (0..40)
        .filter(|executor: &u32| {
            let id = executor.to_string();
            let environment = [
                ("SPARKANALYZER_SAMPLE_ONE_IN", "4"),
                ("SPARK_APPLICATION_ID", "app-1"),
                ("SPARK_EXECUTOR_ID", &id),
            ];
            let first = stage.is_counted(&artifacts, &environment);
            assert_eq!(first, stage.is_counted(&artifacts, &environment), "the same every time");
            first
        })
        .count();
    assert!((3..=20).contains(&chosen), "{chosen} of 40 with one in 4");
}

/// /etc as it would be with our files in it: in a mount namespace of the test's own.
fn with_etc(artifacts: &Artifacts, stage: &Stage, script: &str) -> Option<usize> {
    let records = tempfile::tempdir_in(stage.directory.path()).expect("a directory");
    let program = stage.directory.path().join("python3");
    program_file::copy(&stage.life, &program);
    let line = format!(
        "mount -t tmpfs none /etc && mkdir -p /etc/sparkanalyzer && {script} && \
         LD_PRELOAD={} SPARKANALYZER_OUTPUT_DIR={} exec {} writes 3 -m pyspark.worker",
        artifacts.shim.display(),
        records.path().display(),
        program.display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &line]).output().ok()?;
    output.status.success().then(|| read_all(records.path()).len())
}

#[test]
fn the_kill_switch_and_the_conf_in_etc() {
    let Some(artifacts) = artifacts::need("kill_switch") else { return };
    let stage = Stage::new();
    let Some(counted) = with_etc(&artifacts, &stage, "true") else {
        return skip("the_kill_switch_and_the_conf_in_etc", "cannot make a mount namespace");
    };
    assert_eq!(counted, 1);
    assert_eq!(with_etc(&artifacts, &stage, "touch /etc/sparkanalyzer/disable"), Some(0));
    let conf = "echo 'roles = [\"driver\"]' >/etc/sparkanalyzer/sparkanalyzer.toml";
    assert_eq!(with_etc(&artifacts, &stage, conf), Some(0));
    let conf = "echo 'roles = [\"python\"]' >/etc/sparkanalyzer/sparkanalyzer.toml";
    assert_eq!(with_etc(&artifacts, &stage, conf), Some(1));
}
