//! The counts of system calls against a full log of strace: the same calls, the same bytes, the same errors, in
//! threads, children and libraries' own insides, from the constructor to the end.

use std::path::{Path, PathBuf};

use tests::artifacts::{self, Artifacts};
use tests::build::{Linking, Source};
use tests::elf::Executable;
use tests::run::Quiet;
use tests::skip::skip;
use tests::system_calls::{Log, Sum, TRACED, read};

const OPERATIONS: [&str; 6] = ["open", "close", "read", "write", "send", "recv"];
const TEST: &str = "counts_equal_the_log_of_strace";

/// Runs a program under `analyzer trace` under strace; what both saw.
fn logged(artifacts: &Artifacts, program: &Path, arguments: &[&str]) -> (Log, serde_json::Value) {
    let mut quiet = Quiet::new(Path::new("/usr/bin/timeout"), &[]).expect("a directory");
    let (log, json) = (quiet.directory().join("log"), quiet.directory().join("json"));
    let (out, home) = (quiet.directory().join("out"), quiet.directory().to_path_buf());
    quiet
        .command()
        .args(["-k", "5", "120", "strace", "-f", "-i", "-q", "-s", "0", "-e", "signal=none", "-e"])
        .arg(format!("trace={TRACED}"))
        .arg("-o")
        .arg(&log)
        .arg(&artifacts.analyzer)
        .args(["trace", "--shim"])
        .arg(&artifacts.shim)
        .arg("--json")
        .arg(&json)
        .arg("--out")
        .arg(&out)
        .arg("--")
        .arg(program)
        .args(arguments)
        .current_dir(&home)
        .env("HOME", &home);
    let status = quiet.command().status().expect("timeout and strace start");
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    let captured = quiet.captured().expect("its output");
    let complaint = String::from_utf8_lossy(&captured.stderr);
    assert!(status.success(), "{} {arguments:?}: {status}\n{complaint}", program.display());
    let json = std::fs::read(&json).unwrap_or_else(|error| panic!("--json: {error}\n{complaint}"));
    let library = Executable::read(&artifacts.shim).expect("the library");
    let instruction = library.symbol("engine_syscall_after").expect("the engine's system call");
    let length = library.last_symbol().next_multiple_of(4096);
    (read(&text, instruction, length), serde_json::from_slice(&json).expect("JSON"))
}

fn counted(totals: &serde_json::Value, operation: &str) -> Sum {
    let sum = |quantity: &str| {
        ["file", "pipe", "socket", "other"]
            .iter()
            .filter_map(|class| totals[format!("{class}_{operation}_{quantity}")].as_u64())
            .sum()
    };
    Sum { calls: sum("calls"), bytes: sum("bytes"), errors: sum("errors") }
}

/// A file of some 200 KiB that compresses, and a script that works in the current directory.
fn inputs(directory: &Path) -> PathBuf {
    let text: String =
        (0..20_000u32).map(|i| format!("{} {}\n", i.wrapping_mul(2_654_435_761), i % 97)).collect();
    let path = directory.join("text");
    std::fs::write(&path, text).expect("writes");
    path
}

#[test]
fn counts_equal_the_log_of_strace() {
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !Path::new("/usr/bin/strace").exists() {
        return skip(TEST, "strace is not installed");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let text = inputs(directory.path());
    let text = text.to_str().expect("UTF-8");
    let threads = Source::named("thread_ways.c").build(Linking::Pie);
    let children = Source::named("children.c").build(Linking::Pie);
    let (threads, children) = (threads.to_str().expect("UTF-8"), children.to_str().expect("UTF-8"));
    let git = "git init -q . && echo a > a && git add a && git -c user.name=n -c user.email=e commit -qm m && git log";
    let sqlite = "CREATE TABLE t(a, b); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
                  INSERT INTO t SELECT i, hex(i * 7919) FROM n; SELECT count(*), max(b) FROM t;";
    let python = "import subprocess, threading, socket, os\n\
                  a, b = socket.socketpair()\n\
                  t = threading.Thread(target=lambda: a.sendall(b'x' * 100000)); t.start()\n\
                  n = 0\n\
                  while n < 100000: n += len(b.recv(65536))\n\
                  t.join()\n\
                  print(n, subprocess.run(['/bin/echo', 'hi'], capture_output=True).stdout)\n\
                  p = os.fork()\n\
                  if p == 0: os.write(1, b'child'); os._exit(0)\n\
                  os.waitpid(p, 0)";
    std::fs::write(
        directory.path().join("p.c"),
        "#include <stdio.h>\nint main(void) { return puts(\"\"); }\n",
    )
    .expect("writes");
    let source = directory.path().join("p.c");
    let source = source.to_str().expect("UTF-8");
    let script = format!(
        "for i in 1 2 3; do seq 1 3000 | sort -rn | cat > f$i; done; cat f* | wc -l; cat {text} | md5sum"
    );
    let commands: &[(&str, &[&str])] = &[
        ("/bin/gzip", &["-c", text]),
        ("/bin/tar", &["czf", "archive.tar.gz", "-C", "/usr/include/linux", "."]),
        ("/usr/bin/sort", &["--parallel=4", "-S", "100K", "-n", text]),
        ("/bin/bash", &["-c", git]),
        ("/usr/bin/python3", &["-c", python]),
        ("/usr/bin/gcc", &["-O1", "-o", "p", source]),
        ("/usr/bin/sqlite3", &["db", sqlite]),
        ("/usr/bin/xz", &["-T2", "-1", "-c", text]),
        (
            "/usr/bin/perl",
            &["-e", "print `cat /etc/hostname`; open(F, '>', 'f'); print F 'x' x 9999; close F"],
        ),
        ("/bin/bash", &["-c", &script]),
        ("/usr/bin/find", &["/usr/share/doc", "-maxdepth", "2", "-name", "copyright"]),
        ("/bin/dd", &["if=/dev/zero", "of=zeros", "bs=4096", "count=200", "conv=fsync"]),
        ("/bin/cp", &["-r", "/usr/include/linux", "copied"]),
        (threads, &["raw"]),
        (threads, &["fork"]),
        (threads, &["daemon"]),
        (children, &["sigchld"]),
    ];
    let (mut failures, mut table, mut compared) = (Vec::new(), String::new(), 0);
    for (program, arguments) in commands {
        if !Path::new(program).exists() {
            skip(TEST, &format!("{program} is not installed"));
            continue;
        }
        let (log, json) = logged(&artifacts, Path::new(program), arguments);
        let name = format!("{program} {}", arguments.first().unwrap_or(&""));
        if !log.escaped.is_empty() {
            failures.push(format!(
                "{name}: {} escaped, the first: {}",
                log.escaped.len(),
                log.escaped[0]
            ));
        }
        for operation in OPERATIONS {
            let seen = log.sums.get(operation).copied().unwrap_or_default();
            let ours = counted(&json["totals"], operation);
            if seen != ours {
                failures.push(format!("{name}: {operation}: strace {seen:?}, counted {ours:?}"));
            }
        }
        let calls: u64 = log.sums.values().map(|sum| sum.calls).sum();
        let bytes: u64 = log.sums.values().map(|sum| sum.bytes).sum();
        let errors: u64 = log.sums.values().map(|sum| sum.errors).sum();
        table += &format!("{name}: {calls} calls, {bytes} bytes, {errors} errors\n");
        compared += 1;
        assert!(calls > 0, "{name}: strace saw nothing");
    }
    println!("the same by strace and by count:\n{table}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(compared >= 10, "only {compared} programs are installed");
}
