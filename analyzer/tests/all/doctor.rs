//! `analyzer doctor` on machines that are well and on such that are not, and `analyzer spark-conf`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A machine's folders, which a test may spoil.
struct Machine {
    folder: TempDir,
}

impl Machine {
    /// Library, conf, output directory and Spark as they should be. `None` (and said so) without a
    /// `libshim.so`.
    fn new(test: &str) -> Option<Machine> {
        let shim = tests::artifacts::need(test)?.shim;
        let machine = Machine { folder: tempfile::tempdir().unwrap() };
        fs::copy(shim, machine.path("libshim.so")).unwrap();
        machine.set_mode("libshim.so", 0o755);
        for folder in ["records", "events", "spark/jars", "spark/conf"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        let records = machine.path("records");
        let conf = format!("output_dir = {records:?}\nmax_bytes_per_directory = 65536\n");
        fs::write(machine.path("conf.toml"), conf).unwrap();
        machine.set_mode("conf.toml", 0o644);
        machine.set_mode("records", 0o750);
        fs::write(machine.path("spark/jars/spark-core_2.13-4.3.0.jar"), "").unwrap();
        let defaults = format!(
            "spark.eventLog.enabled true\nspark.eventLog.dir file://{}\nspark.executorEnv.LD_PRELOAD {}\n",
            machine.path("events").display(),
            machine.path("libshim.so").display()
        );
        fs::write(machine.path("spark/conf/spark-defaults.conf"), defaults).unwrap();
        Some(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Runs the doctor; its exit code and findings.
    fn examine(&self, more: &[&str]) -> (i32, Vec<Value>) {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("analyzer"));
        for name in ["LD_PRELOAD", "SPARK_CONF_DIR", "SPARKANALYZER_CONF", "SPARKANALYZER_SHIM"] {
            command.env_remove(name);
        }
        command.current_dir(self.folder.path()).args(["doctor", "--format", "json"]);
        command.args(["--shim", "libshim.so", "--conf", "conf.toml", "--spark-home", "spark"]);
        // What they say of a program that runs followed is in tests of their own.
        command.arg("--quick");
        let output = command.args(more).output().unwrap();
        let all: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.status.code().unwrap(), all["findings"].as_array().unwrap().clone())
    }

    /// The only finding of a check that is not good, after something was spoilt.
    fn complaint(&self, check: &str, more: &[&str]) -> (i32, Value) {
        let (code, findings) = self.examine(more);
        let bad = |one: &&Value| ["warning", "problem"].contains(&one["level"].as_str().unwrap());
        let found = findings.iter().filter(bad).find(|one| one["check"] == check);
        let found = found.unwrap_or_else(|| panic!("{check}: {findings:?}")).clone();
        assert!(found["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{found}");
        (code, found)
    }
}

fn level<'a>(findings: &'a [Value], check: &str) -> &'a str {
    let found = findings.iter().find(|one| one["check"] == check);
    found.unwrap_or_else(|| panic!("{check}: {findings:?}"))["level"].as_str().unwrap()
}

#[test]
fn a_machine_that_is_well() {
    let Some(machine) = Machine::new("a_machine_that_is_well") else { return };
    let (code, findings) = machine.examine(&[]);
    for check in
        ["kernel", "code memory", "conf", "library", "loading", "output_dir", "counting", "spark"]
    {
        assert_eq!(level(&findings, check), "good", "{check}: {findings:?}");
    }
    for check in ["event log", "switched on"] {
        assert_eq!(level(&findings, check), "good", "{check}: {findings:?}");
    }
    assert_eq!((level(&findings, "store"), level(&findings, "job")), ("skipped", "skipped"));
    assert!(findings.iter().all(|one| one["level"] != "problem"), "{findings:?}");
    assert!([0, 1].contains(&code), "{code}");
}

#[test]
fn each_fault_is_found_with_its_remedy() {
    let Some(machine) = Machine::new("each_fault_is_found_with_its_remedy") else { return };
    let contains = |found: &Value, word: &str| {
        assert!(found["found"].as_str().unwrap().contains(word), "{word}: {found}");
    };
    // Others may change what every executor loads.
    machine.set_mode("libshim.so", 0o775);
    let (code, found) = machine.complaint("library", &[]);
    contains(&found, "mode 775");
    assert_eq!(code, 6);
    machine.set_mode("libshim.so", 0o755);
    machine.set_mode("conf.toml", 0o666);
    contains(&machine.complaint("conf", &[]).1, "mode 666");
    machine.set_mode("conf.toml", 0o644);
    // Anybody could replace record files: then libshim.so writes none.
    machine.set_mode("records", 0o777);
    let (code, found) = machine.complaint("output_dir", &[]);
    contains(&found, "mode 777");
    assert_eq!(code, 6);
    machine.set_mode("records", 0o770);
    contains(&machine.complaint("output_dir", &[]).1, "mode 770");
    machine.set_mode("records", 0o1777);
    assert_eq!(level(&machine.examine(&[]).1, "output_dir"), "good");
    fs::rename(machine.path("records"), machine.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", machine.path("records")).unwrap();
    contains(&machine.complaint("output_dir", &[]).1, "no folder of its own");
    fs::remove_file(machine.path("records")).unwrap();
    contains(&machine.complaint("output_dir", &[]).1, "does not exist");
    // Mistakes in conf files.
    fs::write(machine.path("conf.toml"), "metrics = [\"memry\"]\n").unwrap();
    let (code, found) = machine.complaint("conf", &[]);
    contains(&found, "conf.toml:1");
    assert_eq!(code, 6);
    fs::write(machine.path("conf.toml"), "enabled = \"request\"\n").unwrap();
    contains(&machine.complaint("conf", &[]).1, "request");
    let defaults = machine.path("spark/conf/spark-defaults.conf");
    let good = fs::read_to_string(&defaults).unwrap();
    fs::write(&defaults, good.replace("libshim.so", "no/libshim.so")).unwrap();
    contains(&machine.complaint("switched on", &[]).1, "no/libshim.so, which is not there");
    fs::write(&defaults, good.replace("/events", "/no-events")).unwrap();
    contains(&machine.complaint("event log", &[]).1, "no folder");
    fs::write(&defaults, "").unwrap();
    contains(&machine.complaint("event log", &[]).1, "does not switch it on");
    contains(&machine.complaint("switched on", &[]).1, "neither");
    fs::remove_dir_all(machine.path("spark/jars")).unwrap();
    contains(&machine.complaint("spark", &[]).1, "no jars/spark-core_*.jar");
    contains(&machine.complaint("store", &["--store", "no-store"]).1, "no-store");
    contains(&machine.complaint("java", &["--java-home", "/nowhere"]).1, "/nowhere/bin/java");
    // What is no library, and none at all.
    fs::write(machine.path("libshim.so"), "no library").unwrap();
    contains(&machine.complaint("library", &[]).1, "not a library");
    fs::remove_file(machine.path("libshim.so")).unwrap();
    let (code, found) = machine.complaint("library", &[]);
    contains(&found, "libshim.so");
    assert_eq!(code, 6);
}

/// A library that the loader refuses: cut in the middle of its segments.
#[test]
fn a_library_that_cannot_be_loaded() {
    let Some(machine) = Machine::new("a_library_that_cannot_be_loaded") else { return };
    let whole = fs::read(machine.path("libshim.so")).unwrap();
    let mut spoilt = whole.clone();
    // e_machine, the ELF header's word at 18, says 32-bit ARM: the analyzer refuses it before the loader does.
    spoilt[18..20].copy_from_slice(&40u16.to_le_bytes());
    fs::write(machine.path("libshim.so"), &spoilt).unwrap();
    machine.complaint("library", &[]);
    // The type of the first program header's segments: no PT_DYNAMIC, so the loader refuses it.
    let mut spoilt = whole;
    let headers = u64::from_le_bytes(spoilt[32..40].try_into().unwrap()) as usize;
    let count = u16::from_le_bytes(spoilt[56..58].try_into().unwrap()) as usize;
    for header in (0..count).map(|at| headers + at * 56) {
        if u32::from_le_bytes(spoilt[header..header + 4].try_into().unwrap()) == 2 {
            spoilt[header..header + 4].copy_from_slice(&0u32.to_le_bytes());
        }
    }
    fs::write(machine.path("libshim.so"), &spoilt).unwrap();
    let (code, findings) = machine.examine(&[]);
    assert_eq!(code, 6);
    let is_found = |one: &Value| {
        one["level"] == "problem"
            && ["library", "loading"].contains(&one["check"].as_str().unwrap())
    };
    assert!(findings.iter().any(is_found), "{findings:?}");
}

#[test]
fn a_job_that_cannot_start_is_told() {
    let Some(machine) = Machine::new("a_job_that_cannot_start_is_told") else { return };
    let submit = machine.path("spark/bin/spark-submit");
    let (_, found) = machine.complaint("job", &["--spark-submit-args", "--master", "local[1]"]);
    assert!(found["found"].as_str().unwrap().contains("spark-submit"), "{found}");
    fs::create_dir(machine.path("spark/bin")).unwrap();
    tests::program_file::write(&submit, b"#!/bin/sh\necho 'Error: no such master' >&2\nexit 1\n");
    let (code, found) = machine.complaint("job", &["--spark-submit-args", "--master", "local[1]"]);
    assert!(found["found"].as_str().unwrap().contains("no such master"), "{found}");
    assert_eq!(code, 6);
}

fn spark_conf(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("analyzer"));
    let output = command.arg("spark-conf").args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn snippets_for_each_cluster() {
    let (code, text) = spark_conf(&["--executor-memory", "10g", "--library", "/l/libshim.so"]);
    assert_eq!(code, 0);
    assert!(text.contains("spark.executorEnv.LD_PRELOAD                /l/libshim.so"), "{text}");
    assert!(text.contains("spark.executor.memoryOverhead               1088m"), "{text}");
    assert!(text.contains("\nspark.eventLog.enabled "), "{text}");
    let (_, text) = spark_conf(&["--standalone", "--output-dir", "/data/records"]);
    assert!(text.contains("export SPARKANALYZER_OUTPUT_DIR=/data/records"), "{text}");
    let shell = Command::new("sh").args(["-nc", &text]).status().unwrap();
    assert!(shell.success(), "{text}");
    let (_, text) = spark_conf(&["--yarn"]);
    assert!(text.contains("memoryOverhead  448m"), "{text}");
    assert_eq!(text.matches("<!--").count(), text.matches("-->").count(), "{text}");
    let (_, text) = spark_conf(&["--k8s", "--memory-limit-mib", "100"]);
    assert!(text.contains("memoryOverhead=484m") && text.contains("kind: Pod"), "{text}");
    assert_eq!(spark_conf(&["--k8s", "--yarn"]).0, 2);
    assert_eq!(spark_conf(&["--library", "relative.so"]).0, 2);
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/snippets").is_dir());
}
