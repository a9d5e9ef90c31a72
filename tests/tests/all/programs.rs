//! Programs as they come from the distribution: the same output and exit code natively and traced,
//! complete, and counts in the range that their work makes plausible.

use std::path::{Path, PathBuf};

use tests::artifacts;
use tests::run::{self, Traced, Tracing};
use tests::stepper::{self, Start};

/// Runs natively and traced; compares what can be seen; gives the traced run.
fn same_both_ways(test: &str, program: &str, arguments: &[&str]) -> Option<Traced> {
    let artifacts = artifacts::need(test)?;
    let program = Path::new(program);
    let native = run::native(program, arguments).expect("starts natively");
    let traced = Tracing::default().run(&artifacts, program, arguments).expect("starts traced");
    let complaint = String::from_utf8_lossy(&traced.captured.stderr);
    assert_eq!(traced.status.code(), native.status.code(), "{complaint}");
    assert!(
        traced.captured.stdout == native.captured.stdout,
        "other output than natively: {} bytes instead of {}; {complaint}",
        traced.captured.stdout.len(),
        native.captured.stdout.len()
    );
    assert!(traced.complete(), "{:#}\n{complaint}", traced.json["processes"]);
    Some(traced)
}

fn assert_between(traced: &Traced, metric: &str, low: u64, high: u64) {
    let total = traced.total(metric);
    assert!((low..=high).contains(&total), "{metric} = {total}, expected {low} to {high}");
}

/// A text of some 64 KiB with repetitions, the same in every run.
fn text_file(directory: &Path) -> PathBuf {
    let path = directory.join("text");
    let words = ["count", "blocks", "weigh", "later", "exactly", "per", "thread", "and", "task"];
    let text: String = (0..12_000u32)
        .map(|i| {
            let word = words[(i.wrapping_mul(2_654_435_761) >> 13) as usize % words.len()];
            if i % 9 == 8 { format!("{word} {i}\n") } else { format!("{word} ") }
        })
        .collect();
    std::fs::write(&path, text).expect("writes a temporary file");
    path
}

#[test]
fn ls() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["b", "a", "long-name-of-a-file"] {
        std::fs::write(directory.path().join(name), name).expect("writes");
    }
    let path = directory.path().to_str().expect("UTF-8").to_owned();
    let Some(traced) = same_both_ways("ls", "/bin/ls", &["-l", "--full-time", &path]) else {
        return;
    };
    // What a single step of everything, the dynamic loader included, counts.
    let all = stepper::count(Path::new("/bin/ls"), &["-l", "--full-time", &path], Start::Exec)
        .expect("the stepper runs")
        .count
        .instructions();
    assert_between(&traced, "instructions", all / 10, all);
    assert!(traced.total("memory_reads") > 0 && traced.total("memory_writes") > 0);
}

#[test]
fn sort() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = text_file(directory.path());
    let arguments = ["--parallel=1", text.to_str().expect("UTF-8")];
    let Some(traced) = same_both_ways("sort", "/usr/bin/sort", &arguments) else { return };
    // 1,333 lines of 60 bytes: some log2(1333) comparisons a line, tens to hundreds of instructions each.
    assert_between(&traced, "instructions", 300_000, 30_000_000);
}

#[test]
fn gzip_there_and_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = text_file(directory.path());
    let arguments = ["-9", "-n", "-c", text.to_str().expect("UTF-8")];
    let Some(traced) = same_both_ways("gzip", "/usr/bin/gzip", &arguments) else { return };
    let bytes = std::fs::metadata(&text).expect("exists").len();
    assert_between(&traced, "instructions", bytes * 10, bytes * 2000);
    let packed = directory.path().join("packed.gz");
    std::fs::write(&packed, &traced.captured.stdout).expect("writes");
    let arguments = ["-d", "-c", packed.to_str().expect("UTF-8")];
    let Some(back) = same_both_ways("gzip -d", "/usr/bin/gzip", &arguments) else { return };
    assert!(back.captured.stdout == std::fs::read(&text).expect("reads"), "not what went in");
}

#[test]
fn python() {
    let artifacts = artifacts::need("python");
    let Some(artifacts) = artifacts else { return };
    let code = |n: u32| {
        format!(
            "import sys, re\nt = 0\nfor i in range({n}):\n    t = (t * 31 + i) % 1000003\nprint(t, re.sub('a+', 'b', 'caaat'))"
        )
    };
    let (few, many) = (code(10_000), code(90_000));
    let Some(short) = same_both_ways("python", "/usr/bin/python3", &["-c", &few]) else { return };
    assert_between(&short, "instructions", 5_000_000, 500_000_000);
    let long = Tracing::default()
        .run(&artifacts, Path::new("/usr/bin/python3"), &["-c", &many])
        .expect("starts");
    // 80,000 rounds of five bytecodes: 50 to 2,000 machine instructions each round.
    let difference = long.total("instructions") - short.total("instructions");
    assert!((80_000 * 50..=80_000 * 2000).contains(&difference), "{difference}");
}

#[test]
fn python_reports_its_exceptions() {
    let arguments = ["-c", "import sys; sys.exit(int(str(len({1: 2}))) + 41)"];
    let Some(traced) = same_both_ways("python", "/usr/bin/python3", &arguments) else { return };
    assert_eq!(traced.status.code(), Some(42));
}

#[test]
fn small_programs_of_every_day() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = text_file(directory.path());
    let text = text.to_str().expect("UTF-8");
    for (program, arguments) in [
        ("/bin/true", &[][..]),
        ("/bin/false", &[]),
        ("/bin/cat", &[text]),
        ("/usr/bin/wc", &[text]),
        ("/usr/bin/sha256sum", &[text]),
        ("/usr/bin/md5sum", &[text]),
        (
            "/usr/bin/awk",
            &["{ n[$1]++ } END { for (w in n) print w, n[w] | \"cat\" }", "/dev/null"],
        ),
        ("/bin/grep", &["-c", "tas[k]", text]),
        ("/bin/sed", &["-n", "s/count \\(.*\\)/\\1/p", text]),
        ("/usr/bin/od", &["-An", "-tx1", "-N", "4000", text]),
        ("/usr/bin/seq", &["-f", "%.3f", "1", "0.5", "300"]),
        ("/bin/date", &["-u", "-d", "@86400"]),
        ("/bin/expr", &["12345", "*", "678"]),
        ("/bin/bash", &["-c", "x=0; for i in {1..200}; do ((x += i * i)); done; echo $x"]),
        (
            "/usr/bin/perl",
            &[
                "-e",
                "my %h; $h{$_ % 97} .= $_ for 1..3000; print join(',', map {\"$_$h{$_}\"} sort keys %h)",
            ],
        ),
    ] {
        if !Path::new(program).exists() {
            tests::skip::skip(program, "is not installed here");
            continue;
        }
        println!("{program} {arguments:?}");
        if same_both_ways("small_programs_of_every_day", program, arguments).is_none() {
            return;
        }
    }
}

/// Programs with children and threads of their own: every one of them is followed.
#[test]
fn compilers_and_parallel_programs() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("program.cpp");
    std::fs::write(
        &source,
        "#include <map>\n#include <string>\nint main() { std::map<std::string, int> m; return m[\"a\"]; }\n",
    )
    .expect("writes");
    let source = source.to_str().expect("UTF-8");
    let text = text_file(directory.path());
    let text = text.to_str().expect("UTF-8");
    // A pool that is not closed and joined ends its workers by SIGTERM, if they have not ended yet.
    let processes = "import multiprocessing as m; p = m.Pool(3); r = p.map(abs, range(-50, 50)); \
                     p.close(); p.join(); print(sum(r))";
    for (program, arguments) in [
        ("/usr/bin/g++", &["-O1", "-S", "-o", "-", source][..]),
        ("/usr/bin/python3", &["-c", processes]),
        ("/usr/bin/xz", &["-T2", "-c", text]),
        ("/bin/tar", &["czf", "-", "-C", "/usr/include", "linux"]),
        ("/usr/bin/sort", &["--parallel=4", "-r", text]),
    ] {
        if !Path::new(program).exists() {
            tests::skip::skip(program, "is not installed here");
            continue;
        }
        println!("{program} {arguments:?}");
        if same_both_ways("compilers_and_parallel_programs", program, arguments).is_none() {
            return;
        }
    }
}
