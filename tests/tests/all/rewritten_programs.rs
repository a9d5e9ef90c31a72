//! Programs of the system, rewritten to need libshim.so: the same output and exit code as the original, the
//! same counts as when preloaded, and undoing it gives back the same bytes. patchelf is the peer: whatever still
//! answers after it must answer after us.
//!
//! `./run test` takes a sample, `./run soak` all programs of /usr/bin that answer `--version` or `--help`.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tests::artifacts::{self, Artifacts};
use tests::preloaded::{Process, processes};
use tests::program_file;
use tests::skip::skip;

/// Programs in the sample of `./run test`.
const SAMPLE: usize = 40;
/// A program that has not answered by then is none that answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// As long as `SPARKANALYZER_TRACE` takes it.
const TRACE: &str = "0123456789abcdef0123456789abcdef";

/// How a program is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Natively,
    Preloaded,
    /// In an environment of the same size as a preloaded one, with other names: where things lie on the stack
    /// decides how many instructions string functions take.
    ByItself,
}

/// What was seen of a run.
#[derive(Debug)]
struct Seen {
    status: ExitStatus,
    output: (Vec<u8>, Vec<u8>),
    processes: Vec<Process>,
}

struct Stage {
    artifacts: Artifacts,
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl Stage {
    fn new(artifacts: &Artifacts, original: &Path) -> Stage {
        let directory = tempfile::tempdir().expect("a directory");
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).expect("a directory");
        let program = bin.join(original.file_name().expect("a name"));
        program_file::copy(original, &program);
        Stage { artifacts: artifacts.clone(), directory, program }
    }

    /// Runs the program; `None` if it does not end.
    fn run(&self, argument: &str, how: How, randomized: bool) -> Option<Seen> {
        let records = self.directory.path().join("records");
        std::fs::remove_dir_all(&records).ok();
        std::fs::create_dir(&records).expect("a directory");
        let file = |name: &str| self.directory.path().join(name);
        let created = |name: &str| std::fs::File::create(file(name)).expect("creates");
        let mut command = Command::new(&self.program);
        command
            .arg(argument)
            .current_dir(self.directory.path())
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("LC_ALL", "C"), ("LD_BIND_NOW", "1")])
            .envs([("PERL_HASH_SEED", "0"), ("PYTHONHASHSEED", "0"), ("TERM", "dumb")])
            .env("HOME", self.directory.path())
            .stdin(Stdio::null())
            .stdout(created("stdout"))
            .stderr(created("stderr"));
        let names = match how {
            How::Natively => None,
            How::Preloaded => Some(("LD_PRELOAD", "SPARKANALYZER_TRACE")),
            How::ByItself => Some(("LD_PRELOAX", "SPARKANALYZER_TRACX")),
        };
        if let Some((preload, trace)) = names {
            command.env(preload, &self.artifacts.shim).env(trace, TRACE);
            command.env("SPARKANALYZER_OUTPUT_DIR", &records);
        }
        // SAFETY: between fork and exec the closure makes system calls and touches no memory.
        unsafe {
            command.pre_exec(move || {
                libc::setpgid(0, 0);
                if !randomized {
                    libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
                }
                Ok(())
            });
        }
        let status = ends(command.spawn().expect("starts"))?;
        let read = |name: &str| std::fs::read(file(name)).expect("reads");
        let output = (read("stdout"), read("stderr"));
        Some(Seen { status, output, processes: processes(&records) })
    }

    /// Replaces the program by what `analyzer rewrite` makes of `from`; its complaint if it refuses.
    fn rewrite(&self, from: &Path, mode: &str) -> Result<(), String> {
        let mut command = Command::new(&self.artifacts.analyzer);
        command.args(["rewrite", mode]).arg(from).arg("-o").arg(&self.program);
        if mode == "--preload" {
            command.arg("--shim").arg(&self.artifacts.shim);
        }
        let output = command.output().expect("starts");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() && complaint.is_empty() { Ok(()) } else { Err(complaint) }
    }
}

/// Waits for a process and its group; kills them if they do not end.
fn ends(mut child: Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("waits") {
            return Some(status);
        }
        if Instant::now() > deadline {
            // SAFETY: the group of our own child, which has not been waited for yet.
            unsafe { libc::kill(-child.id().cast_signed(), libc::SIGKILL) };
            child.wait().expect("waits");
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every dynamic program of /usr/bin for 64-bit x86-64, each file once; those with rights of their own left out.
fn programs() -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let entries = std::fs::read_dir("/usr/bin").expect("Debian has it");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.retain(|path| {
        let Ok(found) = path.metadata() else { return false };
        let head = || -> std::io::Result<[u8; 20]> {
            let mut head = [0; 20];
            std::io::Read::read_exact(&mut std::fs::File::open(path)?, &mut head)?;
            Ok(head)
        };
        // 64-bit, little-endian, x86-64.
        let is_ours =
            head().is_ok_and(|head| head.starts_with(b"\x7fELF\x02\x01") && head[18] == 62);
        found.is_file()
            && found.permissions().mode() & 0o6000 == 0
            && is_ours
            && seen.insert((found.dev(), found.ino()))
    });
    paths
}

/// The option that a program answers to, and its answer.
fn answer(stage: &Stage) -> Option<(&'static str, Seen)> {
    ["--version", "--help"].into_iter().find_map(|option| {
        let seen = stage.run(option, How::Natively, false)?;
        let speaks = !seen.output.0.is_empty() || !seen.output.1.is_empty();
        (seen.status.success() && speaks).then_some((option, seen))
    })
}

/// The counts that must agree: everything but times.
fn counts(seen: &Seen) -> Option<Vec<(&'static str, u64)>> {
    let process = seen.processes.first()?;
    // One that becomes a static program has no end of its own, nor one that forbids itself to write (mandb): its counts go up
    // to its filter.
    let is_whole = process.ended || !process.execs.is_empty() || forbids_itself_to_write(seen);
    assert!(is_whole, "{process:?}");
    let totals = process.totals.iter().filter(|(name, _)| !name.ends_with("_ns"));
    Some(totals.map(|(name, value)| (*name, *value)).collect())
}

fn forbids_itself_to_write(seen: &Seen) -> bool {
    seen.processes.iter().any(|one| one.notices.contains(&records::notice::NO_SNAPSHOTS))
}

fn instructions(counts: &[(&str, u64)]) -> f64 {
    counts.iter().find(|(name, _)| *name == "instructions").map_or(0.0, |(_, value)| *value as f64)
}

/// What became of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The same counts to the unit.
    Equal,
    /// So, but for a few bytes read: masked vector comparisons of strings count the bytes behind a string's end
    /// too, as far as they are not zero, and what lies there is another.
    Masked,
    /// Its counts vary from run to run without our doing; within a twentieth.
    Varies,
    /// It does not answer, or forbids itself to write, so that its counts end where its last record does: nothing to compare.
    Silent,
    /// Without a dynamic loader.
    Static,
}

/// Whether a dynamic loader starts the program.
fn is_dynamic(program: &Path) -> bool {
    let output = Command::new("readelf").arg("-lW").arg(program).output().expect("starts");
    String::from_utf8_lossy(&output.stdout).contains("Requesting program interpreter")
}

/// The output without the order of its lines: some programs ask several others at once.
fn lines(seen: &Seen) -> Vec<&[u8]> {
    let (stdout, stderr) = &seen.output;
    let mut lines: Vec<_> =
        stdout.split(|b| *b == b'\n').chain(stderr.split(|b| *b == b'\n')).collect();
    lines.sort_unstable();
    lines
}

/// Does everything with one program.
fn try_program(
    artifacts: &Artifacts,
    original: &Path,
    with_readers: bool,
) -> Result<Verdict, String> {
    let stage = Stage::new(artifacts, original);
    if !is_dynamic(original) {
        return Ok(Verdict::Static);
    }
    let Some((option, native)) = answer(&stage) else { return Ok(Verdict::Silent) };
    let again = stage.run(option, How::Natively, false).ok_or("does not end")?;
    let answers_alike = lines(&again) == lines(&native);
    let preloaded = stage.run(option, How::Preloaded, false).ok_or("preloaded: does not end")?;
    let expected = counts(&preloaded).ok_or("preloaded: not counted")?;

    stage.rewrite(original, "--preload")?;
    if with_readers {
        still_read(&stage, original)?;
    }
    let rewritten = stage.run(option, How::ByItself, false).ok_or("rewritten: does not end")?;
    if rewritten.status != native.status || (answers_alike && lines(&rewritten) != lines(&native)) {
        return Err(format!("another answer: {:?} {}", rewritten.status, text(&rewritten)));
    }
    let counted = counts(&rewritten).ok_or("rewritten: not counted")?;
    let notices =
        |seen: &Seen| seen.processes[0].notices.iter().copied().collect::<BTreeSet<u16>>();
    if notices(&rewritten) != notices(&preloaded) {
        let (ours, theirs) = (notices(&rewritten), notices(&preloaded));
        return Err(format!("notices {ours:?}, preloaded {theirs:?}"));
    }

    // A few programs look at LD_PRELOAD; the library that is preloaded and needed is one.
    let both = stage.run(option, How::Preloaded, false).ok_or("both: does not end")?;
    let is_equal = counted == expected || counts(&both).as_ref() == Some(&expected);

    // The rewritten file without its note and library is the original again.
    let kept = stage.directory.path().join("rewritten");
    std::fs::copy(&stage.program, &kept).expect("copies");
    stage.rewrite(&kept, "--undo")?;
    if std::fs::read(&stage.program).expect("reads") != std::fs::read(original).expect("reads") {
        return Err("undone: not the original's bytes".to_owned());
    }
    if is_equal {
        return Ok(Verdict::Equal);
    }
    if forbids_itself_to_write(&preloaded) {
        return Ok(Verdict::Silent);
    }
    let differing = |(ours, theirs): &((&str, u64), (&str, u64))| {
        ours != theirs && !(ours.0 == "memory_bytes_read" && ours.1.abs_diff(theirs.1) < 64)
    };
    if counted.len() == expected.len()
        && !counted.iter().copied().zip(expected.iter().copied()).any(|pair| differing(&pair))
    {
        return Ok(Verdict::Masked);
    }
    // With other addresses, does it count otherwise by itself?
    let varies = (0..4)
        .filter_map(|_| stage.run(option, How::Preloaded, true))
        .any(|seen| counts(&seen).is_some_and(|counts| counts != expected));
    let ratio = instructions(&counted) / instructions(&expected);
    if varies && (0.95..1.05).contains(&ratio) {
        return Ok(Verdict::Varies);
    }
    let pairs = counted.iter().zip(&expected).filter(|(ours, theirs)| ours != theirs);
    Err(format!("other counts than preloaded: {:?}", pairs.collect::<Vec<_>>()))
}

fn text(seen: &Seen) -> String {
    let (stdout, stderr) = &seen.output;
    format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr))
}

/// readelf, ldd and gdb take the rewritten file as they take the original.
fn still_read(stage: &Stage, original: &Path) -> Result<(), String> {
    let say = |program: &str, arguments: &[&str], file: &Path| {
        let output = Command::new(program).args(arguments).arg(file).output().expect("starts");
        let all = [output.stdout, output.stderr.clone()].concat();
        (output.status, String::from_utf8_lossy(&all).into_owned(), output.stderr)
    };
    for (program, arguments) in [
        ("readelf", &["-aW"][..]),
        ("ldd", &[]),
        ("gdb", &["-nx", "-batch", "-ex", "info files", "-ex", "maintenance info sections"]),
    ] {
        let (before, _, complaint) = say(program, arguments, original);
        let (after, shown, new_complaint) = say(program, arguments, &stage.program);
        if after != before || (complaint.is_empty() && !new_complaint.is_empty()) {
            return Err(format!("{program}: {}", String::from_utf8_lossy(&new_complaint)));
        }
        if program == "ldd" && !shown.contains("libshim.so") {
            return Err(format!("ldd does not see the library: {shown}"));
        }
    }
    Ok(())
}

/// Whether patchelf's version still answers as the original does; `None` without patchelf.
fn patchelf(artifacts: &Artifacts, original: &Path) -> Option<bool> {
    let stage = Stage::new(artifacts, original);
    let (option, native) = answer(&stage)?;
    let done = Command::new("patchelf")
        .arg("--add-needed")
        .arg(&artifacts.shim)
        .arg(&stage.program)
        .stderr(Stdio::null())
        .status();
    let done = done.ok()?.success();
    let same = |seen: Seen| seen.status == native.status && lines(&seen) == lines(&native);
    Some(done && stage.run(option, How::ByItself, false).is_some_and(same))
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Tries the programs and says what became of them; the number of those that answer.
fn try_all(test: &str, programs: &[PathBuf]) -> usize {
    let Some(artifacts) = artifacts::need(test) else { return usize::MAX };
    for tool in ["patchelf", "gdb"] {
        if !has(tool) {
            skip(&format!("{test} ({tool})"), "is not installed here");
        }
    }
    let (has_patchelf, with_readers) = (has("patchelf"), has("gdb"));
    let mut failures = Vec::new();
    let (mut equal, mut varying, mut silent) = (0, Vec::new(), 0);
    for program in programs {
        let verdict = try_program(&artifacts, program, with_readers);
        let peer = (has_patchelf && !matches!(verdict, Ok(Verdict::Silent | Verdict::Static)))
            .then(|| patchelf(&artifacts, program))
            .flatten();
        let peer = match peer {
            Some(true) => "answers",
            Some(false) => "FAILS",
            None => "-",
        };
        println!("{:<40} {verdict:?}; patchelf's {peer}", program.display());
        match verdict {
            Ok(Verdict::Equal | Verdict::Masked) => equal += 1,
            Ok(Verdict::Varies) => varying.push(program.display().to_string()),
            Ok(Verdict::Silent | Verdict::Static) => silent += 1,
            Err(why) => failures.push(format!("{}: {why}", program.display())),
        }
    }
    println!(
        "{equal} equal, {silent} silent or static, {} vary by themselves: {varying:?}",
        varying.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
    // A program whose counts vary shows little: few of them may.
    assert!(varying.len() * 5 <= equal, "{varying:?}");
    equal + varying.len()
}

#[test]
fn a_sample_of_programs() {
    let all = programs();
    let step = all.len().div_ceil(SAMPLE).max(1);
    let sure = ["bash", "gzip", "ls", "python3", "sed", "sort"]
        .map(|name| PathBuf::from("/usr/bin").join(name));
    let sample =
        all.iter().step_by(step).cloned().chain(sure.into_iter().filter(|path| path.exists()));
    assert!(try_all("a_sample_of_programs", &sample.collect::<Vec<_>>()) >= 20);
}

/// $REWRITTEN_PROGRAMS names some by their paths, separated by spaces.
#[test]
#[ignore = "all programs of the system: ./run soak"]
fn all_programs() {
    if let Ok(chosen) = std::env::var("REWRITTEN_PROGRAMS") {
        try_all("all_programs", &chosen.split(' ').map(PathBuf::from).collect::<Vec<_>>());
        return;
    }
    assert!(try_all("all_programs", &programs()) >= 100);
}
