//! Bytes that move without read and write: each is counted as strace sees it, or named as a gap.

use std::path::Path;
use std::process::Command;

use tests::artifacts::{self, Artifacts};
use tests::guest::{self, ANY, Failures, Guest, Traced, compare};
use tests::skip::skip;

/// Calls and bytes of one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    calls: u64,
    bytes: u64,
}

/// What a log of strace says of reading, writing, sending and receiving, loader's calls left out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    read: Sum,
    write: Sum,
    send: Sum,
    recv: Sum,
}

const TRACED: &str = "read,pread64,readv,preadv,preadv2,write,pwrite64,writev,pwritev,pwritev2,sendfile,splice,\
                      copy_file_range,tee,vmsplice,sendto,sendmsg,sendmmsg,recvfrom,recvmsg,recvmmsg,openat,io_getevents,\
                      io_pgetevents,prlimit64";

fn sums(log: &str) -> Sums {
    let mut sums = Sums::default();
    // The loader's reads of libraries lie before its prlimit64.
    let begun = log.find("prlimit64(").unwrap_or(0);
    for line in log[begun..].lines() {
        let line = line.split_once(' ').map_or(line, |(_, rest)| rest.trim_start());
        let (Some((name, arguments)), Some((_, result))) =
            (line.split_once('('), line.rsplit_once(" = "))
        else {
            continue;
        };
        let Some(result) = result.split(' ').next().and_then(|word| word.parse::<i64>().ok())
        else {
            continue;
        };
        let moved = u64::try_from(result).unwrap_or(0);
        let add = |sum: &mut Sum, bytes: u64| {
            sum.calls += 1;
            sum.bytes += bytes;
        };
        // The lengths of messages stand in the array that was given.
        let lengths = || -> u64 {
            arguments
                .split("msg_len=")
                .skip(1)
                .filter_map(|rest| {
                    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
                })
                .sum()
        };
        match name {
            "read" | "pread64" | "readv" | "preadv" | "preadv2" => add(&mut sums.read, moved),
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => add(&mut sums.write, moved),
            "sendfile" | "splice" | "copy_file_range" | "tee" => {
                add(&mut sums.read, moved);
                add(&mut sums.write, moved);
            }
            "vmsplice" => add(&mut sums.write, moved),
            "sendto" | "sendmsg" => add(&mut sums.send, moved),
            "recvfrom" | "recvmsg" => add(&mut sums.recv, moved),
            "sendmmsg" => add(&mut sums.send, lengths()),
            "recvmmsg" => add(&mut sums.recv, lengths()),
            _ => {}
        }
    }
    sums
}

fn seen_by_strace(guest: &Guest) -> Result<Sums, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-q", "-s", "8", "-e", "signal=none", "-e"])
        .arg(format!("trace={TRACED}"))
        .arg("-o")
        .arg(&log);
    command.args(&guest.command);
    let seen = guest.run(command, directory.path());
    if seen.end != guest::End::Code(0) {
        return Err(format!("natively {}", seen.shown()));
    }
    Ok(sums(&String::from_utf8_lossy(&std::fs::read(&log).expect("the log"))))
}

fn counted(traced: &Traced) -> Sums {
    let sum = |operation: &str| Sum {
        calls: traced.over_classes(&format!("{operation}_calls")),
        bytes: traced.over_classes(&format!("{operation}_bytes")),
    };
    Sums { read: sum("read"), write: sum("write"), send: sum("send"), recv: sum("recv") }
}

/// Ways of `tests/guest/other_io.c` whose calls say themselves what they moved.
const OTHER: &[&str] = &[
    "sendfile",
    "copy_file_range",
    "splice",
    "tee",
    "vmsplice",
    "vectors",
    "posixaio",
    "messages",
];

#[test]
fn other_calls_are_counted_as_strace_sees_them() {
    const TEST: &str = "other_calls_are_counted_as_strace_sees_them";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if guest::program("strace").is_none() {
        return skip(TEST, "strace is not installed");
    }
    let place = tempfile::tempdir().expect("a directory");
    let mut failures = Failures::default();
    for mode in OTHER {
        let guest =
            Guest::new(&guest::compile("other_io"), &[mode, place.path().to_str().expect("UTF-8")]);
        let seen = match seen_by_strace(&guest) {
            Ok(seen) => seen,
            Err(error) => {
                failures.add(mode, Err::<(), _>(error));
                continue;
            }
        };
        let Some(traced) = failures.add(mode, compare(&artifacts, &guest, ANY)) else { continue };
        let counted = counted(&traced);
        // What is not counted may only be missing where that is said.
        failures.check(mode, counted == seen || !traced.is_complete(), || {
            format!("counted {counted:?}\n    strace {seen:?}\n    {}", traced.remarks())
        });
        let named = traced.json["gaps"].to_string();
        failures.check(mode, counted == seen || named.contains(mode), || {
            format!("not counted, and no gap names {mode}: {named}\n    counted {counted:?}\n    strace {seen:?}")
        });
        println!("{mode}: {seen:?}");
    }
    failures.finish();
}

/// Bytes that the kernel moves behind the calls: counted as the program says they moved, or named.
fn counted_or_named(
    artifacts: &Artifacts,
    guest: &Guest,
    name: &str,
    read: u64,
    written: u64,
) -> Result<(), String> {
    let traced = compare(artifacts, guest, ANY)?;
    let counted = counted(&traced);
    let has_all = counted.read.bytes + counted.recv.bytes >= read
        && counted.write.bytes + counted.send.bytes >= written;
    let too_much = counted.read.bytes + counted.recv.bytes > read + 4096
        || counted.write.bytes + counted.send.bytes > written + 4096;
    let gaps = traced.json["gaps"].to_string();
    if too_much {
        Err(format!("counted {counted:?}, {read} were read and {written} written"))
    } else if has_all {
        Ok(())
    } else if traced.is_complete() {
        Err(format!("says complete; counted {counted:?}, {read} were read and {written} written"))
    } else if !gaps.contains(name) {
        Err(format!("no gap names {name}: {gaps}; counted {counted:?}"))
    } else {
        Ok(())
    }
}

#[test]
fn bytes_that_the_kernel_moves_by_itself() {
    const TEST: &str = "bytes_that_the_kernel_moves_by_itself";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let place = tempfile::tempdir().expect("a directory");
    let folder = place.path().to_str().expect("UTF-8");
    let ring_file = place.path().join("ring");
    let mut failures = Failures::default();
    const FILE: u64 = 16 * 65536;
    for (mode, read, written) in [
        ("plain", FILE, FILE),
        ("polled", FILE, FILE),
        ("vectors", FILE, FILE),
        ("fixed", FILE, FILE),
        ("linked", FILE, FILE),
        ("threads", FILE, FILE),
        ("socket", FILE / 16, FILE / 16),
    ] {
        let guest =
            Guest::new(&guest::compile("ring_io"), &[ring_file.to_str().expect("UTF-8"), mode]);
        let native = guest.native();
        if native.end == guest::End::Code(3) {
            skip(TEST, &format!("no io_uring here: {}", String::from_utf8_lossy(&native.stdout)));
            break;
        }
        failures.add(
            &format!("io_uring, {mode}"),
            counted_or_named(&artifacts, &guest, "io_uring", read, written),
        );
    }
    const ASYNCHRONOUS: u64 = 1_000_000;
    for (mode, read, written) in [
        ("libaio", ASYNCHRONOUS, 0),
        ("libaio-vectors", ASYNCHRONOUS, 0),
        ("libaio-write", 0, ASYNCHRONOUS),
    ] {
        let guest = Guest::new(&guest::compile("other_io"), &[mode, folder]);
        failures.add(mode, counted_or_named(&artifacts, &guest, "io_submit", read, written));
    }
    failures.finish();
}

/// A ring that is made and not used, and memory that is mapped and copied, take nothing from completeness.
#[test]
fn what_moves_no_bytes_by_calls_stays_complete() {
    let Some(artifacts) = artifacts::need("what_moves_no_bytes_by_calls_stays_complete") else {
        return;
    };
    let place = tempfile::tempdir().expect("a directory");
    let folder = place.path().to_str().expect("UTF-8");
    let mut failures = Failures::default();
    for mode in ["mmap", "process_vm"] {
        let guest = Guest::new(&guest::compile("other_io"), &[mode, folder]);
        failures.add(mode, compare(&artifacts, &guest, ANY.complete()));
    }
    failures.finish();
}

/// Programs of every day that copy by such calls.
#[test]
fn programs_that_copy() {
    const TEST: &str = "programs_that_copy";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if guest::program("strace").is_none() {
        return skip(TEST, "strace is not installed");
    }
    let place = tempfile::tempdir().expect("a directory");
    let from = place.path().join("from");
    std::fs::write(&from, vec![b'x'; 3_000_000]).expect("writes");
    let (from, to) = (from.to_str().expect("UTF-8").to_owned(), place.path().join("to"));
    let to = to.to_str().expect("UTF-8");
    let mut failures = Failures::default();
    let copy =
        format!("import shutil; shutil.copyfile({from:?}, {to:?}); open({to:?}, 'rb').read()");
    let send = format!(
        "import os; i = os.open({from:?}, os.O_RDONLY); o = os.open({to:?}, os.O_WRONLY | os.O_CREAT); \
         print(os.sendfile(o, i, 0, 1 << 20), os.copy_file_range(i, o, 1 << 20))"
    );
    for (program, arguments) in [
        ("/bin/cp", &["--reflink=never", &from, to][..]),
        ("/bin/cat", &[&from]),
        ("/bin/dd", &["status=none", "bs=64k", &format!("if={from}"), &format!("of={to}")]),
        ("/usr/bin/python3", &["-S", "-c", &copy]),
        ("/usr/bin/python3", &["-S", "-c", &send]),
        ("/bin/tar", &["cf", to, &from]),
    ] {
        if !Path::new(program).exists() {
            skip(TEST, &format!("{program} is not installed"));
            continue;
        }
        let name = format!("{program} {}", arguments.join(" "));
        let guest = Guest::new(Path::new(program), arguments);
        let Some(seen) = failures.add(&name, seen_by_strace(&guest)) else { continue };
        let Some(traced) = failures.add(&name, compare(&artifacts, &guest, ANY)) else { continue };
        let counted = counted(&traced);
        failures.check(
            &name,
            counted.write == seen.write && counted.read.bytes == seen.read.bytes,
            || format!("counted {counted:?}\n    strace {seen:?}\n    {}", traced.remarks()),
        );
    }
    failures.finish();
}
