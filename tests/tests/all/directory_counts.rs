//! Reads and writes per directory: against what a program is known to do, and against strace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use records::metric::by_name;
use records::{Event, Segment, notice};
use tests::artifacts::{self, Artifacts};
use tests::preloaded::{compile, counted, shown};
use tests::skip::skip;

/// Calls and bytes read, calls and bytes written.
type Used = [u64; 4];

const METRICS: [&str; 4] =
    ["file_read_calls", "file_read_bytes", "file_write_calls", "file_write_bytes"];
/// System calls only, and every thread followed.
const WAYS: [&str; 2] = ["none", "engine"];

/// Number of a directory -> its path, and what was done there.
type Numbered = BTreeMap<u16, (String, Used)>;

/// One process's record files.
#[derive(Debug, Default)]
struct Recorded {
    is_child: bool,
    /// Directory -> what was done there. Directories outside the program's folder are left out.
    directories: BTreeMap<String, Used>,
    /// All directories.
    sum: Used,
    totals: Used,
    notices: Vec<u16>,
}

fn recorded(folder: &Path, work: &Path) -> Vec<Recorded> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut processes: BTreeMap<[u8; 16], (Recorded, Numbered)> = BTreeMap::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        // It may just have been made.
        let Ok(segment) = Segment::parse(&bytes) else { continue };
        let (process, directories) = processes.entry(segment.header().process_id).or_default();
        process.is_child = segment.header().parent_process.is_some();
        for group in segment.groups() {
            let used = group
                .values
                .as_ref()
                .map(|values| METRICS.map(|name| values.get(by_name(name).unwrap()).unwrap_or(0)));
            match (group.event, used) {
                (Event::Directory { number, path }, Some(used)) => {
                    let path = String::from_utf8_lossy(path).into_owned();
                    directories.insert(number, (path, used));
                }
                (Event::Notice { code, .. }, _) => process.notices.push(code),
                (_, Some(used)) if group.tid == 0 => process.totals = used,
                _ => {}
            }
        }
    }
    let process = |(mut process, directories): (Recorded, Numbered)| {
        for (path, used) in directories.into_values() {
            add(&mut process.sum, used);
            let inside = Path::new(&path).strip_prefix(work).ok().filter(|_| used != [0; 4]);
            if let Some(inside) = inside {
                let inside = inside.to_str().unwrap().to_owned();
                add(process.directories.entry(inside).or_default(), used);
            } else if path.starts_with('(') {
                process.directories.insert(path, used);
            }
        }
        process
    };
    processes.into_values().map(process).collect()
}

fn add(sum: &mut Used, used: Used) {
    for (sum, used) in sum.iter_mut().zip(used) {
        *sum += used;
    }
}

struct Place {
    _directory: tempfile::TempDir,
    program: PathBuf,
    work: PathBuf,
    records: PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let (work, records) = (root.join("work"), root.join("records"));
    std::fs::create_dir(&work).unwrap();
    let program = compile("gcc", "directories.c", &root, &[]);
    Place { _directory: directory, program, work, records }
}

/// Runs the program; what it printed.
fn run(
    artifacts: &Artifacts,
    place: &Place,
    arguments: &[&str],
    settings: &[(&str, &str)],
) -> String {
    let mut command = counted(artifacts, &place.program, &place.records);
    let output =
        command.arg(&place.work).args(arguments).envs(settings.iter().copied()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", shown(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_directory_has_its_bytes() {
    let Some(artifacts) = artifacts::need("every_directory_has_its_bytes") else { return };
    for way in WAYS {
        let place = place();
        let has_nameless = run(&artifacts, &place, &[], &[("SPARKANALYZER_TRACER", way)]) == "1\n";
        let thread = [1000, 50_000, 2000, 200_000];
        let and = |read: [u64; 2], written: [u64; 2]| {
            let mut used = thread;
            add(&mut used, [read[0], read[1], written[0], written[1]]);
            used
        };
        let nameless = u64::from(has_nameless);
        let expected = BTreeMap::from([
            ("a".to_owned(), and([1, 1000], [2 + 50, 1 + 2 + 50 * 16])),
            ("b".to_owned(), and([0, 0], [3 + nameless, 4 + 8 + 1000 + 256 * nameless])),
            ("c".to_owned(), and([0, 0], [50, 50 * 32])),
            ("gone".to_owned(), [0, 0, 1, 64]),
            ("token=*********(redacted)".to_owned(), [0, 0, 1, 128]),
        ]);
        let mut processes = recorded(&place.records, &place.work);
        processes.sort_by_key(|process| process.is_child);
        let [parent, child] = processes.as_slice() else { panic!("{way}: {processes:?}") };
        assert_eq!(parent.directories, expected, "{way}");
        assert_eq!(child.directories, BTreeMap::from([("c".to_owned(), [0, 0, 1, 1024])]));
        assert!(parent.notices.is_empty(), "{way}: {:?}", parent.notices);
        // The line on standard output, and memory, are files of no directory.
        let mut rest = parent.totals;
        rest.iter_mut().zip(parent.sum).for_each(|(rest, sum)| *rest -= sum);
        assert_eq!(rest, [0, 0, 1, 512], "{way}");
    }
}

#[test]
fn more_directories_than_there_is_room_for() {
    let Some(artifacts) = artifacts::need("more_directories") else { return };
    for way in WAYS {
        let place = place();
        run(&artifacts, &place, &["many"], &[("SPARKANALYZER_TRACER", way)]);
        let processes = recorded(&place.records, &place.work);
        let [process] = processes.as_slice() else { panic!("{way}: {processes:?}") };
        assert_eq!(process.notices, [notice::TABLE_FULL], "{way}");
        let mut directories = process.directories.clone();
        let other = directories.remove("(other directories)").expect("there is no room for all");
        assert!((400..=512).contains(&directories.len()), "{way}: {}", directories.len());
        assert!(directories.values().all(|used| *used == [0, 0, 1, 10]), "{way}");
        let written = other[3] + 10 * directories.len() as u64;
        assert_eq!(written, 7000, "{way}: nothing is lost");
    }
}

#[test]
fn a_killed_process_has_told_its_directories() {
    let Some(artifacts) = artifacts::need("a_killed_process") else { return };
    let place = place();
    let mut child = counted(&artifacts, &place.program, &place.records)
        .arg(&place.work)
        .arg("waits")
        .env("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "20")
        .spawn()
        .unwrap();
    let expected =
        BTreeMap::from([("a".to_owned(), [0, 0, 2, 110]), ("b".to_owned(), [0, 0, 1, 1000])]);
    let told = || match place.records.exists() {
        true => recorded(&place.records, &place.work).pop().unwrap_or_default().directories,
        false => BTreeMap::new(),
    };
    let until = Instant::now() + Duration::from_secs(30);
    while told() != expected && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told(), expected);
}

#[test]
fn directories_can_be_left_out() {
    let Some(artifacts) = artifacts::need("directories_can_be_left_out") else { return };
    let place = place();
    run(&artifacts, &place, &["many"], &[("SPARKANALYZER_PER_DIRECTORY", "false")]);
    let processes = recorded(&place.records, &place.work);
    assert!(processes[0].directories.is_empty() && processes[0].notices.is_empty());
    assert!(processes[0].totals[3] >= 7000);
}

/// Sums of a log by `strace -f -y`: it names the file of every descriptor.
fn logged(log: &str, work: &Path) -> BTreeMap<String, Used> {
    let mut directories: BTreeMap<String, Used> = BTreeMap::new();
    let mut unfinished: BTreeMap<&str, String> = BTreeMap::new();
    for line in log.lines() {
        let (thread, call) = line.split_once(' ').expect("a thread's number");
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, start.to_owned());
            continue;
        }
        let call = match call.split_once(" resumed>") {
            Some((_, end)) => unfinished.remove(thread).expect("it began") + end,
            None => call.to_owned(),
        };
        let Some((name, rest)) = call.split_once('(') else { continue };
        let Some(result) = call
            .rsplit_once(" = ")
            .and_then(|(_, result)| result.split(['<', ' ']).next()?.parse::<u64>().ok())
        else {
            continue;
        };
        // The descriptors in the order of the arguments.
        let files: Vec<_> =
            rest.split('<').skip(1).filter_map(|part| part.split('>').next()).collect();
        let halves: &[(usize, usize)] = match name {
            "read" | "pread64" => &[(0, 0)],
            "write" => &[(0, 2)],
            "copy_file_range" => &[(0, 0), (1, 2)],
            _ => continue,
        };
        for (file, first) in halves {
            let directory =
                Path::new(files[*file]).parent().and_then(|path| path.strip_prefix(work).ok());
            if let Some(directory) = directory {
                let used = directories.entry(directory.to_str().unwrap().to_owned()).or_default();
                used[*first] += 1;
                used[*first + 1] += result;
            }
        }
    }
    directories
}

#[test]
fn directories_equal_the_log_of_strace() {
    const TEST: &str = "directories_equal_the_log_of_strace";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        return skip(TEST, "strace is not installed");
    }
    let place = place();
    let log = place.work.with_file_name("log");
    std::fs::create_dir_all(&place.records).unwrap();
    let output = Command::new("strace")
        .args(["-f", "-y", "-qq", "-s0", "-e", "signal=none", "-e"])
        .arg("trace=read,pread64,write,copy_file_range")
        .arg("-o")
        .arg(&log)
        .args(["-E", &format!("LD_PRELOAD={}", artifacts.shim.display())])
        .args(["-E", "SPARKANALYZER_TRACE=0123456789abcdef0123456789abcdef"])
        .args(["-E", &format!("SPARKANALYZER_OUTPUT_DIR={}", place.records.display())])
        .arg(&place.program)
        .arg(&place.work)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let mut ours: BTreeMap<String, Used> = BTreeMap::new();
    for process in recorded(&place.records, &place.work) {
        for (path, used) in process.directories {
            let path = path.replace("*********(redacted)", "hidden");
            add(ours.entry(path).or_default(), used);
        }
    }
    let seen = logged(&std::fs::read_to_string(&log).unwrap(), &place.work);
    assert_eq!(ours, seen);
    assert!(seen["b"][3] > 200_000 && seen.len() == 5, "{seen:?}");
}
