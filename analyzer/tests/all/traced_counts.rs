//! Real runs under the real `libshim.so`: whose counts arrive where, and what is said about those that
//! cannot. Most run without the engine, so their programs call read and write themselves: hooks do not
//! see libc's stdio.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder for one test, and the library.
struct Bench {
    folder: TempDir,
    shim: PathBuf,
}

struct Traced {
    output: Output,
    report: Value,
}

impl Bench {
    /// `None` (and said so) without a `libshim.so`.
    fn new(test: &str) -> Option<Bench> {
        let shim = tests::artifacts::need(test)?.shim;
        Some(Bench { folder: tempfile::tempdir().expect("a folder"), shim })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a shell script under `trace --tracer none`.
    fn trace(&self, flags: &[&str], script: &str) -> Traced {
        self.trace_with("none", flags, script)
    }

    /// Runs a shell script under `trace` with this tracer.
    fn trace_with(&self, tracer: &str, flags: &[&str], script: &str) -> Traced {
        let json = self.path("counts.json");
        let output = Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
            .current_dir(self.folder.path())
            .env_remove("LD_PRELOAD")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .args(["trace", "--tracer", tracer, "--shim"])
            .arg(&self.shim)
            .arg("--json")
            .arg(&json)
            .args(flags)
            .args(["--", "sh", "-c", script])
            .output()
            .expect("starts");
        let report = std::fs::read(&json).expect("written");
        Traced { output, report: serde_json::from_slice(&report).expect("JSON") }
    }

    /// Compiles a C program.
    fn compile(&self, name: &str, source: &str, flags: &[&str]) -> PathBuf {
        let file = self.path(&format!("{name}.c"));
        std::fs::write(&file, source).expect("room");
        let program = self.path(name);
        let compiled = Command::new("cc").arg(&file).arg("-o").arg(&program).args(flags).status();
        assert!(compiled.expect("a C compiler").success());
        program
    }
}

impl Traced {
    /// A total that must have been counted.
    fn total(&self, metric: &str) -> u64 {
        number(&self.report, metric)
    }

    fn processes(&self) -> &Vec<Value> {
        self.report["processes"].as_array().expect("a list")
    }

    /// The processes with this name.
    fn named(&self, comm: &str) -> Vec<&Value> {
        self.processes().iter().filter(|process| process["comm"] == comm).collect()
    }

    fn gaps(&self) -> String {
        let gaps = self.report["gaps"].as_array().expect("a list");
        gaps.iter().map(|gap| format!("{}\n", gap.as_str().expect("text"))).collect()
    }

    /// True when the only thing that is missing is what hooks never see.
    fn is_complete(&self) -> bool {
        assert_eq!(self.report["complete"], false, "without the engine it never is");
        let gaps = self.gaps();
        gaps.lines().count() == 1 && gaps.contains("not seen without the engine")
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

/// A total of the run, of a process or of a thread.
fn number(of: &Value, metric: &str) -> u64 {
    of["totals"][metric].as_u64().unwrap_or_else(|| panic!("{metric} of {of:#}"))
}

#[test]
fn one_program_that_copies_a_file() {
    let Some(bench) = Bench::new("one_program_that_copies_a_file") else { return };
    std::fs::write(bench.path("in"), vec![b'x'; 1 << 20]).expect("room");
    let traced = bench.trace(&[], "exec dd if=in of=out bs=4096");
    assert!(traced.is_complete(), "{}", traced.gaps());
    assert_eq!(std::fs::read(bench.path("out")).expect("copied").len(), 1 << 20);
    let dd = traced.named("dd");
    assert_eq!(dd.len(), 1, "{}", traced.screen());
    // 256 blocks and the end of the file.
    assert_eq!(number(dd[0], "file_read_calls"), 257);
    assert_eq!(number(dd[0], "file_read_bytes"), 1 << 20);
    assert_eq!(number(dd[0], "file_write_bytes"), 1 << 20);
    assert_eq!(number(dd[0], "socket_send_calls"), 0);
    // Nothing counts instructions without an engine: unknown is not zero.
    assert_eq!(traced.report["totals"]["instructions"], Value::Null);
    assert!(traced.screen().contains("-  instructions"), "{}", traced.screen());
}

#[test]
fn a_pipeline_is_counted_per_process() {
    let Some(bench) = Bench::new("a_pipeline_is_counted_per_process") else { return };
    std::fs::write(bench.path("in"), vec![b'x'; 100_000]).expect("room");
    let traced = bench.trace(&[], "cat in - <in | dd of=out; wait; cksum <out");
    assert!(traced.is_complete(), "{}", traced.gaps());
    assert_eq!(std::fs::read(bench.path("out")).expect("written").len(), 200_000);
    let (cat, dd) = (traced.named("cat"), traced.named("dd"));
    assert_eq!((cat.len(), dd.len()), (1, 1), "{}", traced.screen());
    assert_eq!(number(cat[0], "file_read_bytes"), 200_000);
    assert_eq!(number(cat[0], "pipe_write_bytes"), 200_000);
    assert_eq!(number(dd[0], "pipe_read_bytes"), 200_000);
    assert_eq!(number(dd[0], "file_write_bytes"), 200_000);
    let sum: u64 =
        traced.processes().iter().map(|process| number(process, "pipe_write_bytes")).sum();
    assert_eq!(traced.total("pipe_write_bytes"), sum);
    assert_eq!(traced.report["starts_at"], "constructor");
}

#[test]
fn threads_are_told_apart() {
    let Some(bench) = Bench::new("threads_are_told_apart") else { return };
    let source = r#"
        #include <fcntl.h>
        #include <pthread.h>
        #include <unistd.h>
        static void *work(void *times) {
            pthread_setname_np(pthread_self(), "worker");
            int zero = open("/dev/zero", O_RDONLY);
            char byte[10];
            for (long i = 0; i < (long)times; i++) if (read(zero, byte, 10) != 10) return times;
            close(zero);
            return 0;
        }
        int main(void) {
            pthread_t one, two;
            pthread_create(&one, 0, work, (void *)30);
            pthread_create(&two, 0, work, (void *)7);
            pthread_join(one, 0);
            pthread_join(two, 0);
            return work((void *)2) != 0;
        }"#;
    let source = format!("#define _GNU_SOURCE\n{source}");
    bench.compile("threads", &source, &["-pthread"]);
    let traced = bench.trace(&[], "exec ./threads");
    assert_eq!(traced.output.status.code(), Some(0));
    assert!(traced.is_complete(), "{}", traced.gaps());
    let process = traced.processes().last().expect("one");
    let threads = process["threads"].as_array().expect("a list");
    let mut reads: Vec<_> =
        threads.iter().map(|thread| number(thread, "file_read_bytes")).collect();
    reads.sort_unstable();
    assert_eq!(reads, [20, 70, 300], "{process:#}");
    assert_eq!(number(process, "file_read_calls"), 39);
    let main = threads.iter().find(|thread| thread["tid"] == process["pid"]).expect("main");
    assert_eq!(number(main, "file_read_calls"), 2);
}

#[test]
fn a_static_child_is_named_and_its_parents_counts_stay() {
    let Some(bench) = Bench::new("a_static_child_is_named") else { return };
    bench.compile("fixed", "int main(void) { return 3; }", &["-static"]);
    let traced = bench.trace(&[], "cat /dev/null; ./fixed");
    assert_eq!(traced.output.status.code(), Some(3));
    assert!(!traced.is_complete());
    let fixed = traced.named("fixed");
    assert_eq!(fixed.len(), 1, "{}", traced.screen());
    let why = fixed[0]["followed"].as_str().expect("a reason");
    assert!(why.contains("is statically linked"), "{why}");
    assert_eq!(fixed[0]["totals"]["file_read_calls"], Value::Null);
    assert!(traced.gaps().contains("is statically linked"), "{}", traced.gaps());
    assert_eq!(number(traced.named("cat")[0], "file_read_bytes"), 0);
}

#[test]
fn a_child_without_the_environment_is_named() {
    let Some(bench) = Bench::new("a_child_without_the_environment_is_named") else { return };
    let traced = bench.trace(&[], "env -i /bin/cat /dev/null; exit 0");
    assert_eq!(traced.output.status.code(), Some(0));
    assert!(!traced.is_complete());
    assert!(traced.gaps().contains("/bin/cat: wrote no record file"), "{}", traced.gaps());
}

#[test]
fn a_killed_program_keeps_all_its_counts() {
    let Some(bench) = Bench::new("a_killed_program_keeps_its_counts") else { return };
    let script = "dd if=/dev/zero of=/dev/null bs=5000 count=1; sleep 0.2; kill -9 $$";
    // No snapshot is taken before the end: the helper takes the last counts of the dead.
    let traced = bench.trace(&["--snapshot-interval", "60000"], script);
    assert_eq!(traced.output.status.code(), Some(137));
    assert!(traced.is_complete(), "{}", traced.gaps());
    assert_eq!(number(traced.named("dd")[0], "file_write_bytes"), 5000);
}

#[test]
fn only_what_was_asked_for_is_counted() {
    let Some(bench) = Bench::new("only_what_was_asked_for_is_counted") else { return };
    let traced = bench.trace(&["--metrics", "file"], "cat /dev/null | cat");
    assert!(traced.total("file_open_calls") > 0);
    assert_eq!(traced.report["totals"]["pipe_read_calls"], Value::Null);
    assert!(!traced.screen().contains("pipe"), "{}", traced.screen());
}

#[test]
fn kept_record_files_can_be_dumped() {
    let Some(bench) = Bench::new("kept_record_files_can_be_dumped") else { return };
    let traced = bench.trace(&["--out", "records"], "exec cat /dev/null");
    assert!(traced.is_complete(), "{}", traced.gaps());
    let mut files: Vec<PathBuf> = std::fs::read_dir(bench.path("records"))
        .expect("kept")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let dump = Command::new(assert_cmd::cargo::cargo_bin("analyzer"))
        .arg("dump")
        .args(&files)
        .output()
        .expect("starts");
    assert_eq!(dump.status.code(), Some(0), "{}", String::from_utf8_lossy(&dump.stderr));
    assert!(String::from_utf8_lossy(&dump.stdout).contains("process_end"));
    // A second run into the same folder counts its own files alone.
    let before = traced.total("file_open_calls");
    let again = bench.trace(&["--out", "records"], "exec cat /dev/null");
    assert_eq!(again.total("file_open_calls"), before);
}

#[test]
fn a_damaged_record_file_is_said_and_the_rest_counted() {
    let Some(bench) = Bench::new("a_damaged_record_file_is_said") else { return };
    // The traced shell itself spoils the file of a child that has ended.
    let script = "cat /dev/null; for f in $SPARKANALYZER_OUTPUT_DIR/*.sar; do \
                  case \"$(head -c 2000 $f)\" in *cat*null*) echo spoiled; printf x > $f;; esac; done";
    let traced = bench.trace(&[], script);
    assert!(String::from_utf8_lossy(&traced.output.stdout).contains("spoiled"));
    assert!(!traced.is_complete());
    assert!(traced.gaps().contains(".sar: not a record file"), "{}", traced.gaps());
    assert!(traced.total("file_open_calls") > 0);
}

#[test]
fn with_the_engine_a_pipeline_is_complete() {
    let Some(bench) = Bench::new("with_the_engine_a_pipeline_is_complete") else { return };
    let traced = bench.trace_with("engine", &[], "seq 5000 | wc -c");
    assert_eq!(traced.output.stdout, b"23893\n");
    assert_eq!(traced.report["complete"], true, "{}", traced.gaps());
    // seq writes by stdio, which only the engine sees.
    assert_eq!(number(traced.named("seq")[0], "pipe_write_bytes"), 23_893);
    assert_eq!(number(traced.named("wc")[0], "pipe_read_bytes"), 23_893);
    for metric in ["instructions", "memory_reads", "memory_bytes_written"] {
        let sum: u64 = traced.processes().iter().map(|process| number(process, metric)).sum();
        assert_eq!(traced.total(metric), sum, "{metric}");
        assert!(sum > 100_000, "{metric}: {sum}");
    }
    for process in traced.processes() {
        assert_eq!(process["followed"], true, "{process:#}");
        for thread in process["threads"].as_array().expect("a list") {
            assert_eq!(thread["followed"], true, "{process:#}");
        }
    }
    assert!(traced.screen().contains(" complete: "), "{}", traced.screen());
}

/// The output of a program is the same with and without us.
#[test]
fn the_same_output_as_without_us() {
    let Some(bench) = Bench::new("the_same_output_as_without_us") else { return };
    let script = "seq 1 20000 | sort -r | head -n 50 | cksum; python3 -c 'print(sum(range(10)))'";
    let plain = Command::new("sh")
        .args(["-c", script])
        .env("LC_ALL", "C")
        .current_dir(Path::new("/"))
        .output()
        .expect("starts");
    let traced = bench.trace(&[], script);
    assert_eq!(traced.output.stdout, plain.stdout);
    assert_eq!(traced.output.status.code(), plain.status.code());
}

#[test]
fn two_traces_are_compared_per_process() {
    let Some(bench) = Bench::new("two_traces_are_compared_per_process") else { return };
    for (name, bytes) in [("a.json", 1000), ("b.json", 1500), ("c.json", 1000), ("d.json", 1500)] {
        let script = format!("/usr/bin/head -c {bytes} /dev/zero >out; exit 0");
        let traced = bench.trace_with("engine", &[], &script);
        assert_eq!(traced.report["complete"], true, "{}", traced.report);
        std::fs::rename(bench.path("counts.json"), bench.path(name)).unwrap();
    }
    let diff = |arguments: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("analyzer"));
        command.current_dir(bench.folder.path()).arg("diff").args(arguments);
        command.args(["--columns", "file_write_bytes"]).output().unwrap()
    };
    let json: Value =
        serde_json::from_slice(&diff(&["a.json", "b.json", "--format", "json"]).stdout).unwrap();
    let of = |part: &str, name: &str| {
        let all = json["changes"].as_array().unwrap().iter();
        let mut found =
            all.filter(|one| one["part"] == part && (name.is_empty() || one["name"] == name));
        found.next().unwrap().clone()
    };
    for one in [of("process", "head"), of("all", "")] {
        assert_eq!((&one["a"]["median"], &one["b"]["median"]), (&1000.into(), &1500.into()));
        assert_eq!((&one["percent"], &one["verdict"]), (&50.0.into(), &"?".into()));
    }
    let several = diff(&["a.json,c.json", "b.json,d.json", "--fail-above", "10"]);
    assert_eq!(several.status.code(), Some(1), "{several:?}");
    let table = String::from_utf8(several.stdout).unwrap();
    assert!(table.contains("process head") && table.contains("beyond noise"), "{table}");
    std::fs::write(bench.path("other.json"), "{}").unwrap();
    let wrong = diff(&["a.json", "other.json"]);
    assert_eq!(wrong.status.code(), Some(3), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("other.json"), "{wrong:?}");
}
