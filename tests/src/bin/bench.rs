//! `./run bench`: CPU time of the same work natively, counted by us, under Valgrind and under QEMU, as a
//! Markdown table; `./run bench passive` measures the preloaded library where it has nothing to do.
//!
//! # Method
//! CPU time is user + system time of the process and its children, from wait4. The runs of one workload
//! go round-robin over the tools, so that a slow minute of the machine hits all of them; the table shows
//! medians of RUNS rounds (argument, default 5) and the native spread. Every workload comes in two lengths, some
//! half a second natively and ten times that; the long ones without Valgrind and QEMU unless `peers` is given. "sparkanalyzer" is the program
//! with libshim.so preloaded as `analyzer trace` does it, instructions and memory counted; the row is
//! refused when its counts are not complete. "no counts" is the same with the tracer off.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use tests::artifacts::{self, Artifacts};
use tests::cost::measure;
use tests::run::Tracing;

/// A program and its arguments.
struct Workload {
    name: String,
    /// It runs for seconds: peers that take ten times as long are left out.
    long: bool,
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Runs per measurement: short programs are measured by the dozen.
    batch: u32,
}

/// What stands before the program.
#[derive(Clone, Copy, PartialEq)]
enum Tool {
    Native,
    Counted,
    Uncounted,
    Valgrind,
    Qemu,
}

impl Tool {
    const ALL: [Self; 5] =
        [Self::Native, Self::Uncounted, Self::Counted, Self::Valgrind, Self::Qemu];

    fn title(self) -> &'static str {
        match self {
            Self::Native => "native, s",
            Self::Counted => "sparkanalyzer",
            Self::Uncounted => "no counts",
            Self::Valgrind => "Valgrind none",
            Self::Qemu => "QEMU user",
        }
    }

    /// The program that the tool needs, if it is one.
    fn executable(self) -> Option<&'static str> {
        match self {
            Self::Valgrind => Some("valgrind"),
            Self::Qemu => Some("qemu-x86_64"),
            _ => None,
        }
    }

    fn command(self, workload: &Workload, shim: &Path, records: &Path) -> Command {
        let mut command = match self {
            Self::Native | Self::Counted | Self::Uncounted => Command::new(&workload.program),
            Self::Valgrind => {
                let mut command = Command::new("valgrind");
                command.args(["--tool=none", "-q"]).arg(&workload.program);
                command
            }
            Self::Qemu => {
                let mut command = Command::new("qemu-x86_64");
                command.arg(&workload.program);
                command
            }
        };
        if matches!(self, Self::Counted | Self::Uncounted) {
            command
                .env("LD_PRELOAD", shim)
                .env("SPARKANALYZER_TRACE", "00112233445566778899aabbccddeeff")
                .env("SPARKANALYZER_OUTPUT_DIR", records)
                .env("SPARKANALYZER_TRACER", if self == Self::Counted { "engine" } else { "none" });
        }
        command.args(&workload.arguments).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Compiles a program of tests/bench.
fn compile(name: &str, directory: &Path) -> Result<PathBuf, String> {
    let source = artifacts::repository().join("tests/bench").join(format!("{name}.c"));
    let program = directory.join(name);
    let status = Command::new("gcc")
        .args(["-O2", "-pthread", "-o"])
        .arg(&program)
        .arg(&source)
        .status()
        .map_err(|error| format!("gcc: {error}"))?;
    status.success().then_some(program).ok_or_else(|| format!("gcc failed on {}", source.display()))
}

/// Words of a made-up language, Zipf-like: compressible and sortable as text is. The seed is fixed.
fn write_text(path: &Path, bytes: usize) -> Result<(), String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut text = String::with_capacity(bytes + 64);
    while text.len() < bytes {
        for _ in 0..(3 + next(9)) {
            let limit = 1 + next(4000);
            let mut word = next(limit) * 7919 % 100_003;
            for _ in 0..(2 + word % 7) {
                text.push(char::from(b"etaoinshrdlucmfwypvbgkjq"[(word % 24) as usize]));
                word = word / 3 + 17;
            }
            text.push(' ');
        }
        text.push('\n');
    }
    File::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Every workload, `length` times half a second long natively.
fn workloads(directory: &Path, length: u32) -> Result<Vec<Workload>, String> {
    let text = directory.join(format!("text-{length}"));
    write_text(&text, length as usize * (12 << 20))?;
    let loop_py = artifacts::repository().join("tests/bench/loop.py");
    let times = length.to_string();
    let own = |name| compile(name, directory);
    let one =
        |name: &str, program: PathBuf, arguments: &[&dyn AsRef<std::ffi::OsStr>], batch| Workload {
            name: if length == 1 { name.to_owned() } else { format!("{name}, x{length}") },
            long: length > 1,
            program,
            arguments: arguments.iter().map(|argument| argument.as_ref().to_owned()).collect(),
            batch,
        };
    let mut all = vec![
        one("one-cycle loop", own("tight_loop")?, &[&times], 1),
        one("memcpy, rep movs, pointer chase", own("memory")?, &[&times], 1),
        one("bytecode interpreter, qsort", own("interpreter")?, &[&times], 1),
        one("4 threads, atomics", own("threads")?, &[&times], 1),
        one("4,096 functions that call", own("calls")?, &[&times], 1),
        one("gzip -6, 12 MB", "/usr/bin/gzip".into(), &[&"-6", &"-c", &text], 1),
        one("sort, 12 MB", "/usr/bin/sort".into(), &[&"--parallel=1", &text], 1),
        one("CPython loop", "/usr/bin/python3".into(), &[&"-S", &loop_py, &times], 1),
    ];
    if length == 1 {
        all.push(one("python3 -c pass", "/usr/bin/python3".into(), &[&"-c", &"pass"], 5));
        all.push(one("/bin/true", "/bin/true".into(), &[], 20));
    }
    Ok(all)
}

/// CPU seconds of one run (an average over the batch); `None` when the tool is not there.
fn cost_of(tool: Tool, workload: &Workload, shim: &Path) -> Result<f64, String> {
    let mut sum = 0.0;
    for _ in 0..workload.batch {
        let records = tempfile::tempdir().map_err(|error| error.to_string())?;
        sum += measure(tool.command(workload, shim, records.path()))?.cpu;
        let wrote_records =
            std::fs::read_dir(records.path()).map_err(|error| error.to_string())?.next().is_some();
        if matches!(tool, Tool::Counted | Tool::Uncounted) && !wrote_records {
            return Err(format!("{}: no record file was written", workload.name));
        }
    }
    Ok(sum / f64::from(workload.batch))
}

fn is_there(tool: Tool) -> bool {
    tool.executable().is_none_or(|name| {
        std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
        })
    })
}

/// Instructions of one counted run, in words; an error when the count is not complete.
fn instructions(artifacts: &Artifacts, workload: &Workload) -> Result<u64, String> {
    let arguments: Vec<&str> =
        workload.arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let traced = Tracing::default().run(artifacts, &workload.program, &arguments)?;
    if !traced.complete() {
        return Err(format!("not complete: {:#}", traced.json["processes"]));
    }
    Ok(traced.total("instructions"))
}

fn table_of_tools(artifacts: &Artifacts, rounds: usize, peers: bool) -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let tools: Vec<Tool> = Tool::ALL.into_iter().filter(|tool| is_there(*tool)).collect();
    for missing in Tool::ALL.into_iter().filter(|tool| !tools.contains(tool)) {
        eprintln!("{} is not installed: its column is left out", missing.title());
    }
    print!("| workload | instructions |");
    for tool in &tools {
        print!(" {} |", tool.title());
    }
    println!("\n|---|---|{}", "---|".repeat(tools.len()));
    let lengths = [workloads(directory.path(), 1)?, workloads(directory.path(), 10)?];
    for workload in lengths.into_iter().flatten() {
        let counted = match instructions(artifacts, &workload) {
            Ok(count) => format!("{:.1} M", count as f64 / 1e6),
            Err(error) => format!("({})", error.lines().next().unwrap_or_default()),
        };
        let mut costs: Vec<Vec<f64>> = vec![Vec::new(); tools.len()];
        let mut errors = vec![None; tools.len()];
        for _ in 0..rounds {
            for (index, tool) in tools.iter().enumerate() {
                let peer = matches!(tool, Tool::Valgrind | Tool::Qemu);
                if errors[index].is_some() || (peer && workload.long && !peers) {
                    continue;
                }
                match cost_of(*tool, &workload, &artifacts.shim) {
                    Ok(cost) => costs[index].push(cost),
                    Err(error) => {
                        eprintln!("{}, {}: {error}", workload.name, tool.title());
                        errors[index] = Some(error);
                    }
                }
            }
        }
        print!("| {} | {counted} |", workload.name);
        let native = median(costs[0].clone());
        for (index, tool) in tools.iter().enumerate() {
            if errors[index].is_some() {
                print!(" failed |");
            } else if costs[index].is_empty() {
                print!(" - |");
            } else if *tool == Tool::Native {
                let (low, high) = costs[0].iter().fold((f64::MAX, 0.0_f64), |(low, high), cost| {
                    (low.min(*cost), high.max(*cost))
                });
                print!(
                    " {native:.4} ({:+.0} {:+.0} %) |",
                    (low / native - 1.0) * 100.0,
                    (high / native - 1.0) * 100.0
                );
            } else {
                print!(" {:.2} |", median(costs[index].clone()) / native);
            }
        }
        println!();
    }
    Ok(())
}

/// What the preloaded library costs in processes that it leaves alone: no role of theirs is asked for.
fn table_of_passive_cost(artifacts: &Artifacts, rounds: usize) -> Result<(), String> {
    let mut programs: Vec<(&str, PathBuf, Vec<&str>, u32)> = vec![
        ("/bin/true", "/bin/true".into(), vec![], 50),
        ("bash -c :", "/bin/bash".into(), vec!["-c", ":"], 50),
    ];
    if Path::new("/usr/bin/java").exists() {
        programs.push(("java -version", "/usr/bin/java".into(), vec!["-version"], 5));
    }
    println!(
        "| program | native, ms (median, least) | preloaded, ms | ratio of medians | least difference, ms | runs |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, program, arguments, batch) in programs {
        let once = |preloaded: bool| -> Result<f64, String> {
            let mut command = Command::new(&program);
            command.args(&arguments).env_clear().env("PATH", "/usr/bin:/bin");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if preloaded {
                command.env("LD_PRELOAD", &artifacts.shim);
            }
            Ok(measure(command)?.wall * 1e3)
        };
        let runs = rounds * batch as usize;
        let (mut native, mut preloaded) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
        // Alternating single runs: a busy moment of the machine hits both alike.
        for _ in 0..runs {
            native.push(once(false)?);
            preloaded.push(once(true)?);
        }
        let least = |values: &[f64]| values.iter().copied().fold(f64::MAX, f64::min);
        let (least_native, least_preloaded) = (least(&native), least(&preloaded));
        let (native, preloaded) = (median(native), median(preloaded));
        println!(
            "| {name} | {native:.3}, {least_native:.3} | {preloaded:.3}, {least_preloaded:.3} | {:.3} | {:+.3} | 2 x {runs} |",
            preloaded / native,
            least_preloaded - least_native
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(artifacts) = artifacts::find() else {
        eprintln!("bench: no analyzer and libshim.so: ./run build first");
        return ExitCode::from(6);
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok());
    let given = |word: &str| arguments.iter().any(|argument| argument == word);
    let result = if given("passive") {
        table_of_passive_cost(&artifacts, rounds.unwrap_or(21))
    } else {
        table_of_tools(&artifacts, rounds.unwrap_or(5), given("peers"))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(1)
        }
    }
}
