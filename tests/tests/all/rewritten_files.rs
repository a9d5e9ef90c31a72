//! Kinds of files and how `analyzer rewrite` takes them: each runs and is counted, or is refused with the reason;
//! the input is never touched, and undoing gives back its bytes.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use records::Segment;
use tests::artifacts::{self, Artifacts};
use tests::preloaded::{compile, processes, shown};
use tests::skip::skip;

struct Stage {
    artifacts: Artifacts,
    directory: tempfile::TempDir,
}

impl Stage {
    fn new(test: &str) -> Option<Stage> {
        let artifacts = artifacts::need(test)?;
        Some(Stage { artifacts, directory: tempfile::tempdir().expect("a directory") })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `analyzer rewrite` with these arguments.
    fn analyzer(&self, arguments: &[&str], from: &Path, to: &Path) -> Output {
        let mut command = Command::new(&self.artifacts.analyzer);
        command.arg("rewrite").args(arguments).arg(from).arg("-o").arg(to);
        if arguments.contains(&"--preload") {
            command.arg("--shim").arg(&self.artifacts.shim);
        }
        command.output().expect("starts")
    }

    fn rewrite(&self, from: &Path, to: &Path) {
        let output = self.analyzer(&["--preload"], from, to);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", shown(&output));
    }

    /// Refused with exit code 5, and nothing is left; what was said.
    fn refusal(&self, from: &Path) -> String {
        let to = self.path("refused");
        let output = self.analyzer(&["--preload"], from, &to);
        assert_eq!(output.status.code(), Some(5), "{}", shown(&output));
        assert!(!to.exists());
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    /// Rewrites, undoes and runs; `from` and the undone file must be alike.
    fn there_and_back(&self, from: &Path, to: &Path) {
        let before = (digest(from), fs::metadata(from).expect("exists").mtime_nsec());
        self.rewrite(from, to);
        let back = self.path("undone");
        let output = self.analyzer(&["--undo"], to, &back);
        assert!(output.status.success(), "{}", shown(&output));
        assert_eq!(digest(&back), before.0, "{}: undone is another file", from.display());
        assert_eq!((digest(from), fs::metadata(from).expect("exists").mtime_nsec()), before);
    }

    /// Runs in an empty environment but for the place of the records; what was recorded.
    fn run(&self, program: &Path, arguments: &[&str]) -> (Output, Vec<Vec<u8>>) {
        let records = self.path("records");
        fs::remove_dir_all(&records).ok();
        fs::create_dir(&records).expect("a directory");
        let output = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("SPARKANALYZER_OUTPUT_DIR", &records)
            .output()
            .expect("starts");
        let entries = fs::read_dir(&records).expect("a directory");
        let files = entries.map(|entry| fs::read(entry.expect("an entry").path()).expect("reads"));
        (output, files.collect())
    }
}

/// Length and contents, holes skipped over.
fn digest(path: &Path) -> (u64, Vec<u8>) {
    let file = File::open(path).expect("opens");
    let length = file.metadata().expect("exists").len();
    // What is interesting of a large sparse file is at its two ends.
    const END: u64 = 8 << 20;
    let mut bytes = vec![0; length.min(END) as usize];
    file.read_exact_at(&mut bytes, 0).expect("reads");
    let mut last = vec![0; length.saturating_sub(END).min(END) as usize];
    let start = length - last.len() as u64;
    file.read_exact_at(&mut last, start).expect("reads");
    bytes.extend(last);
    (length, bytes)
}

#[test]
fn every_way_of_linking() {
    let Some(stage) = Stage::new("every_way_of_linking") else { return };
    for flags in [
        &[][..],
        &["-no-pie"],
        &["-s"],
        &["-Wl,-z,norelro"],
        &["-Wl,-z,now"],
        &["-Wl,-z,noseparate-code"],
        &["-Wl,-z,max-page-size=0x200000"],
        &["-Wl,--hash-style=sysv"],
        &["-Wl,--build-id=none"],
        &["-fcf-protection=full", "-Wl,-z,ibt,-z,shstk"],
        // No free entry in the dynamic section but the terminating one.
        &["-Wl,--spare-dynamic-tags=1"],
        &["-Wl,--spare-dynamic-tags=1", "-no-pie", "-s"],
        &["-static-pie", "-fPIE"],
        &["-static"],
    ] {
        let program = compile("gcc", "life.c", stage.directory.path(), flags);
        if flags[..].iter().any(|flag| flag.starts_with("-static")) {
            assert!(stage.refusal(&program).contains("statically linked"), "{flags:?}");
            continue;
        }
        let rewritten = stage.path("rewritten");
        stage.there_and_back(&program, &rewritten);
        let (output, files) = stage.run(&rewritten, &["writes", "3"]);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{flags:?} {}",
            shown(&output)
        );
        assert_eq!(files.len(), 1, "{flags:?}");
        let process = &processes(&stage.path("records"))[0];
        assert!(process.ended && process.total("instructions") > 0, "{flags:?} {process:?}");
        assert_eq!(process.total("file_write_calls"), 3, "{flags:?}");
    }
}

/// Where the last segment ends in the file.
fn loaded_end(bytes: &[u8]) -> usize {
    let word =
        |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize;
    let (table, count) = (word(32), usize::from(bytes[56]));
    (0..count)
        .map(|place| word(table + 56 * place + 8) + word(table + 56 * place + 32))
        .max()
        .unwrap_or(0)
}

#[test]
fn files_without_sections_and_large_ones() {
    let Some(stage) = Stage::new("files_without_sections_and_large_ones") else { return };
    let program = compile("gcc", "life.c", stage.directory.path(), &["-s"]);
    let runs = |file: &Path| {
        let rewritten = stage.path("rewritten");
        stage.there_and_back(file, &rewritten);
        let (output, files) = stage.run(&rewritten, &["writes", "3"]);
        assert!(output.status.success() && files.len() == 1, "{}", shown(&output));
        rewritten
    };

    // e_shoff, e_shnum and e_shstrndx (System V ABI, "ELF Header").
    let bare = stage.path("bare");
    let mut bytes = fs::read(&program).expect("reads");
    let sections = u64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes")) as usize;
    let table = bytes[sections..].to_vec();
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    bytes.truncate(loaded_end(&bytes));
    fs::write(&bare, &bytes).expect("writes");
    fs::set_permissions(&bare, Permissions::from_mode(0o755)).expect("own file");
    runs(&bare);

    // The section table beyond 3 GiB, a hole before it.
    let large = stage.path("large");
    fs::copy(&program, &large).expect("copies");
    let file = File::options().write(true).open(&large).expect("opens");
    let far = 3 << 30;
    file.write_all_at(&table, far).expect("the file system takes large files");
    file.write_all_at(&far.to_le_bytes(), 40).expect("writes");
    let rewritten = runs(&large);
    let found = fs::metadata(&rewritten).expect("exists");
    assert!(found.len() > far && found.blocks() * 512 < 1 << 24, "{found:?}");
}

#[test]
fn what_is_refused() {
    let Some(stage) = Stage::new("what_is_refused") else { return };
    let program = compile("gcc", "life.c", stage.directory.path(), &[]);
    let rewritten = stage.path("rewritten");
    stage.rewrite(&program, &rewritten);
    assert!(stage.refusal(&rewritten).contains("already; analyzer rewrite --undo"));
    assert!(stage.refusal(&stage.artifacts.shim).contains("is libshim.so itself"));
    assert!(
        stage.refusal(Path::new("/lib64/ld-linux-x86-64.so.2")).contains("dynamic loader itself")
    );
    assert!(stage.refusal(Path::new("/etc/passwd")).contains("headers"));
    let undone = stage.analyzer(&["--undo"], &program, &stage.path("undone"));
    assert_eq!(undone.status.code(), Some(5));
    assert!(shown(&undone).contains("was not rewritten"));

    // Changed after it was rewritten.
    let touched = stage.path("touched");
    fs::copy(&rewritten, &touched).expect("copies");
    File::options()
        .append(true)
        .open(&touched)
        .and_then(|file| file.write_at(b"x", 0).map(drop))
        .ok();
    let length = fs::metadata(&touched).expect("exists").len();
    File::options().write(true).open(&touched).expect("opens").set_len(length + 1).expect("grows");
    let undone = stage.analyzer(&["--undo"], &touched, &stage.path("undone"));
    assert!(shown(&undone).contains("changed after it was rewritten"), "{}", shown(&undone));

    // An archive behind the program, and a signature in it.
    let glued = stage.path("glued");
    fs::copy(&program, &glued).expect("copies");
    let end = fs::metadata(&glued).expect("exists").len();
    File::options()
        .write(true)
        .open(&glued)
        .expect("opens")
        .write_all_at(b"PK", end)
        .expect("writes");
    assert!(stage.refusal(&glued).contains("2 bytes behind its ELF contents"));
    let signed = stage.path("signed");
    let section = format!(".note.fdo.integrity={}", program.display());
    let objcopy = Command::new("objcopy")
        .arg("--add-section")
        .arg(section)
        .arg(&program)
        .arg(&signed)
        .status();
    assert!(objcopy.expect("binutils are there").success());
    assert!(stage.refusal(&signed).contains("section .note.fdo.integrity"));

    // The input is no output, whatever name it has.
    let link = stage.path("link");
    symlink(&program, &link).expect("links");
    for to in [&program, &link] {
        let output = stage.analyzer(&["--preload"], &program, to);
        assert_eq!(output.status.code(), Some(4), "{}", shown(&output));
    }
    let output = stage.analyzer(&["--preload"], &program, Path::new("/proc/none"));
    assert_eq!(output.status.code(), Some(4), "{}", shown(&output));
    let check = stage.analyzer(&["--preload", "--check"], &program, &stage.path("checked"));
    assert!(
        check.status.success() && shown(&check).contains("a new segment: "),
        "{}",
        shown(&check)
    );
    assert!(!stage.path("checked").exists());
}

#[test]
fn mode_owner_and_set_uid() {
    let Some(stage) = Stage::new("mode_owner_and_set_uid") else { return };
    let program = compile("gcc", "life.c", stage.directory.path(), &[]);
    let out = stage.path("out");
    fs::set_permissions(&program, Permissions::from_mode(0o751)).expect("own file");
    // SAFETY: no arguments, cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    if is_root {
        std::os::unix::fs::chown(&program, Some(65534), Some(12)).expect("root may");
    } else {
        skip("mode_owner_and_set_uid (owner)", "not root");
    }
    stage.rewrite(&program, &out);
    let (old, new) = (fs::metadata(&program).expect("exists"), fs::metadata(&out).expect("exists"));
    assert_eq!((new.mode(), new.uid(), new.gid()), (old.mode(), old.uid(), old.gid()));

    fs::set_permissions(&program, Permissions::from_mode(0o4755)).expect("own file");
    assert!(stage.refusal(&program).contains("is set-uid"));
    let output = stage.analyzer(&["--preload", "--allow-setuid"], &program, &out);
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(fs::metadata(&out).expect("exists").mode() & 0o7777, 0o4755);
    let (output, files) = stage.run(&out, &["writes", "3"]);
    assert!(output.status.success(), "{}", shown(&output));
    if is_root {
        assert!(files.is_empty(), "it runs as another user: the library does nothing");
    }
}

#[test]
fn roles_are_decided_as_usual() {
    let Some(stage) = Stage::new("roles_are_decided_as_usual") else { return };
    let program = compile("gcc", "life.c", stage.directory.path(), &[]);
    let role = |name: &str, arguments: &[&str]| {
        let rewritten = stage.path(name);
        stage.rewrite(&program, &rewritten);
        let all: Vec<&str> = ["writes", "3"].into_iter().chain(arguments.iter().copied()).collect();
        let (output, files) = stage.run(&rewritten, &all);
        assert!(output.status.success(), "{}", shown(&output));
        files.first().map(|file| {
            let segment = Segment::parse(file).expect("a segment");
            String::from_utf8_lossy(segment.header().role).into_owned()
        })
    };
    let role = |name: &str, arguments: &[&str]| role(name, arguments).unwrap_or_default();
    assert_eq!(role("service", &[]), "program");
    assert_eq!(role("java", &["Main"]), "program");
    assert_eq!(
        role("java", &["org.apache.spark.executor.CoarseGrainedExecutorBackend"]),
        "executor"
    );
    assert_eq!(role("java", &["org.apache.spark.deploy.SparkSubmit"]), "driver");
    assert_eq!(role("java", &["org.apache.spark.deploy.worker.Worker"]), "");
    assert_eq!(role("python3", &["-m", "pyspark.daemon"]), "python_worker");
}

/// With no variable at all: the conf file says where the records go, and which roles are counted.
#[test]
fn the_conf_comes_from_its_file() {
    let Some(stage) = Stage::new("the_conf_comes_from_its_file") else { return };
    let program = compile("gcc", "life.c", stage.directory.path(), &[]);
    let rewritten = stage.path("service");
    stage.rewrite(&program, &rewritten);
    let records = stage.path("from-conf");
    let counted = |more: &str| {
        fs::remove_dir_all(&records).ok();
        fs::create_dir(&records).expect("a directory");
        let line = format!(
            "mount -t tmpfs none /etc && mkdir -p /etc/sparkanalyzer && \
             printf 'output_dir = \"%s\"\\n{more}\\n' {} >/etc/sparkanalyzer/sparkanalyzer.toml && \
             exec env -i {} writes 3",
            records.display(),
            rewritten.display()
        );
        let output = Command::new("unshare").args(["-m", "sh", "-c", &line]).output().ok()?;
        output.status.success().then(|| processes(&records).len())
    };
    let Some(one) = counted("") else {
        return skip("the_conf_comes_from_its_file", "cannot make a mount namespace");
    };
    assert_eq!(one, 1);
    assert_eq!(counted("roles = [\"executor\"]"), Some(0));
}

/// A library that was rewritten brings the counting into every program that loads it, behind libc.
#[test]
fn a_rewritten_library() {
    let Some(stage) = Stage::new("a_rewritten_library") else { return };
    let source = stage.path("lib.c");
    fs::write(&source, "int twice(int n) { return 2 * n; }\n").expect("writes");
    let main = stage.path("main.c");
    fs::write(&main, "int twice(int); int main(int argc, char **argv) { (void)argv; return twice(argc) + 40; }\n")
        .expect("writes");
    let (library, program) = (stage.path("libtwice.so"), stage.path("main"));
    let gcc = |arguments: &[&std::ffi::OsStr]| {
        assert!(Command::new("gcc").args(arguments).status().expect("starts").success());
    };
    gcc(&["-shared".as_ref(), "-fPIC".as_ref(), "-o".as_ref(), library.as_ref(), source.as_ref()]);
    let run_path = format!("-Wl,-rpath,{}", stage.directory.path().display());
    gcc(&["-o".as_ref(), program.as_ref(), main.as_ref(), library.as_ref(), run_path.as_ref()]);
    let (output, files) = stage.run(&program, &[]);
    assert_eq!((output.status.code(), files.len()), (Some(42), 0));
    let rewritten = stage.path("new.so");
    stage.there_and_back(&library, &rewritten);
    fs::rename(&rewritten, &library).expect("renames");
    let (output, files) = stage.run(&program, &[]);
    assert_eq!((output.status.code(), files.len()), (Some(42), 1), "{}", shown(&output));
    let process = &processes(&stage.path("records"))[0];
    assert!(process.ended && process.total("instructions") > 100, "{process:?}");
}

/// Another copy of the library than the one that the program needs would be counted as the program's code.
#[test]
fn trace_uses_the_copy_that_is_needed() {
    let Some(stage) = Stage::new("trace_uses_the_copy_that_is_needed") else { return };
    let program = compile("gcc", "life.c", stage.directory.path(), &[]);
    let rewritten = stage.path("rewritten");
    stage.rewrite(&program, &rewritten);
    let copy = stage.path("libshim.so");
    fs::copy(&stage.artifacts.shim, &copy).expect("copies");
    let json = stage.path("json");
    let trace = |program: &Path, shim: &Path| {
        let mut command = Command::new(&stage.artifacts.analyzer);
        command.args(["trace", "--shim"]).arg(shim).arg("--json").arg(&json).arg("--").arg(program);
        command.args(["writes", "3"]).output().expect("starts")
    };
    let refused = trace(&rewritten, &copy);
    assert_eq!(refused.status.code(), Some(6), "{}", shown(&refused));
    assert!(shown(&refused).contains("another copy of the library"), "{}", shown(&refused));
    let traced = trace(&rewritten, &stage.artifacts.shim);
    assert!(traced.status.success(), "{}", shown(&traced));
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(&json).expect("reads")).expect("JSON");
    assert_eq!(json["processes"].as_array().map(Vec::len), Some(1), "{json:#}");
    assert_eq!(json["totals"]["file_write_calls"], 3, "{json:#}");

    // Whoever preloads it by hand: one copy counts, and the program runs.
    let output = Command::new(&rewritten)
        .args(["writes", "3"])
        .env("LD_PRELOAD", &copy)
        .env("SPARKANALYZER_OUTPUT_DIR", stage.path("records"))
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(processes(&stage.path("records")).len(), 1);
}

/// The java launcher finds its libraries from its own place; its threads run code made at run time.
#[test]
fn the_java_launcher() {
    let Some(stage) = Stage::new("the_java_launcher") else { return };
    let Some(java) = ["/usr/bin/java"].iter().find_map(|path| fs::canonicalize(path).ok()) else {
        return skip("the_java_launcher", "no /usr/bin/java");
    };
    let home = java.parent().and_then(Path::parent).expect("bin/java");
    let own = stage.path("jdk");
    fs::create_dir_all(own.join("bin")).expect("a directory");
    for entry in fs::read_dir(home).expect("a JDK") {
        let entry = entry.expect("an entry");
        if entry.file_name() != "bin" {
            symlink(entry.path(), own.join(entry.file_name())).expect("links");
        }
    }
    let rewritten = own.join("bin/java");
    stage.there_and_back(&java, &rewritten);
    let native = Command::new(&java).arg("-version").env_clear().output().expect("starts");
    let (output, files) = stage.run(&rewritten, &["-version"]);
    assert_eq!(
        (output.status, &output.stderr),
        (native.status, &native.stderr),
        "{}",
        shown(&output)
    );
    assert!(!files.is_empty());
}
