//! Random surroundings for programs: seccomp allow-lists and resource limits, each known by a seed and a number. Natively and
//! under `analyzer trace` a program ends, and writes, the same; it never hangs; and `complete` is true only where nothing is
//! missing.
//!
//! # Design
//! What a program calls is learned from strace. An allow-list has these calls but for a few, and some more. A first native run
//! is made plainly, a second one under strace, which also tells processes and bytes: a number whose two native runs differ is
//! left out and counted. A difference is only one if none of some more native runs ends as the counted one did.

mod programs;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use programs::{Own, Program, code, programs};
use random::Random;

use crate::artifacts::Artifacts;
use crate::call_log;
use crate::guest::{self, ANY, End, Guest, Seen, Traced};

/// Allow-lists have the numbers below, limits those from here on.
pub const FILTERS: u64 = 1000;
/// All numbers.
pub const ALL: u64 = FILTERS + 300;
/// Address space that a counted process may take more than natively.
const MARGIN: u64 = 64 << 20;
/// Native runs that are made before a difference is one.
const MORE_NATIVE_RUNS: usize = 6;

/// Who installs a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Installer {
    /// A launcher, before exec.
    Launcher,
    /// The program itself.
    Itself,
    /// A thread of the program, for itself alone or (with tsync) for all.
    Thread,
}

/// One number's surroundings.
struct Case {
    name: String,
    guest: Guest,
    /// The same with a part of the limits taken off, where address space is limited.
    with_less: Option<Guest>,
    is_steady: bool,
}

/// What became of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The same both ways; and whether it is complete.
    Same(bool),
    /// Two native runs differ.
    Varies,
    /// It hangs natively.
    NativeHang,
    /// Less address space than the margin is left natively; it may differ, and does (true) or not.
    Margin(bool),
    /// What is wrong.
    Wrong(String),
}

/// What a campaign found.
#[derive(Debug, Default)]
pub struct Report {
    /// By outcome, how many.
    pub counts: BTreeMap<&'static str, u64>,
    /// Of each program: numbers compared, and those of them that are complete.
    pub programs: BTreeMap<&'static str, (u64, u64)>,
    /// What is wrong, with its number.
    pub wrong: Vec<String>,
}

impl Report {
    /// As lines.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        for (name, count) in &self.counts {
            let _ = writeln!(text, "{count:5} {name}");
        }
        for (name, (compared, complete)) in &self.programs {
            let _ = writeln!(text, "{name}: {compared} compared, {complete} of them complete");
        }
        for wrong in &self.wrong {
            let _ = writeln!(text, "{wrong}");
        }
        text
    }
}

/// Random surroundings of a seed.
pub struct Campaign {
    artifacts: Artifacts,
    seed: u64,
    programs: Vec<Program>,
    /// Numbers of calls by program and installer, as strace saw them behind the filter.
    needed: BTreeMap<(usize, Installer), Vec<u64>>,
    _directory: tempfile::TempDir,
}

impl Campaign {
    /// Looks which programs are here.
    ///
    /// # Panics
    /// When there is no directory for their input.
    pub fn new(artifacts: Artifacts, seed: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), mode).expect("sets the mode");
        let programs = programs(directory.path());
        Self { artifacts, seed, programs, needed: BTreeMap::new(), _directory: directory }
    }

    /// Programs that are here.
    pub fn programs(&self) -> usize {
        self.programs.len()
    }

    /// Tries numbers, both kinds mixed, until all are done or the time is over.
    pub fn run(&mut self, numbers: impl Iterator<Item = u64>, time: Duration) -> Report {
        let start = Instant::now();
        let mut report = Report::default();
        for number in numbers {
            if start.elapsed() > time {
                break;
            }
            let (program, outcome, name) = self.one(number);
            let word = match &outcome {
                Outcome::Same(_) => "the same natively and counted",
                Outcome::Varies => "left out: native runs differ",
                Outcome::NativeHang => "left out: hangs natively",
                Outcome::Margin(false) => "within the margin of address space, the same",
                Outcome::Margin(true) => "within the margin of address space, different",
                Outcome::Wrong(_) => "wrong",
            };
            *report.counts.entry(word).or_default() += 1;
            if let Outcome::Same(is_complete) = outcome {
                let counts = report.programs.entry(program).or_default();
                counts.0 += 1;
                counts.1 += u64::from(is_complete);
            }
            if let Outcome::Wrong(error) = outcome {
                let line = format!("--seed {} --only {number}: {name}\n    {error}", self.seed);
                eprintln!("{line}");
                report.wrong.push(line);
            }
        }
        report
    }

    /// Tries one number.
    pub fn one(&mut self, number: u64) -> (&'static str, Outcome, String) {
        let mut random = Random(self.seed ^ number.wrapping_mul(0x5851_f42d_4c95_7f2d));
        random.next();
        let program = random.below(self.programs.len() as u64) as usize;
        let case = if number < FILTERS {
            self.filter(&mut random, program)
        } else {
            self.limits(&mut random, program, number)
        };
        let outcome = try_case(&self.artifacts, &case);
        (self.programs[program].name, outcome, case.name)
    }

    fn filter(&mut self, random: &mut Random, program: usize) -> Case {
        let own = self.programs[program].own;
        let installer = match own {
            Own::Never => Installer::Launcher,
            Own::Code => {
                random.one_of(&[Installer::Launcher, Installer::Itself, Installer::Itself])
            }
            Own::Words => random.one_of(&[
                Installer::Launcher,
                Installer::Itself,
                Installer::Itself,
                Installer::Thread,
            ]),
        };
        let is_for_all = random.below(3) == 0;
        let needed = self.needed(program, installer);
        let action = random.one_of(&[
            "kill_thread",
            "kill_process",
            "trap",
            "errno-1",
            "errno-13",
            "errno-38",
            "kill_process",
        ]);
        let mut calls: BTreeSet<u64> = BTreeSet::new();
        let is_allow_list = random.below(5) > 0;
        if is_allow_list {
            calls.extend(&needed);
            let most = random.one_of(&[0, 0, 0, 0, 1, 1, 2, 3, 6]);
            for _ in 0..most {
                let nth = random.below(calls.len().max(1) as u64) as usize;
                if let Some(&call) = calls.iter().nth(nth) {
                    calls.remove(&call);
                }
            }
            for _ in 0..random.below(40) {
                let more = random.below(460);
                if !needed.contains(&more) {
                    calls.insert(more);
                }
            }
        } else {
            for _ in 0..=random.below(30) {
                let refused = random.below(460);
                if !needed.contains(&refused) || random.below(8) == 0 {
                    calls.insert(refused);
                }
            }
        }
        let list = calls.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let word = format!("{}={list}:{action}", if is_allow_list { "allow" } else { "deny" });
        let tsync = if is_for_all { "tsync " } else { "" };
        let program = &self.programs[program];
        let guest = program.guest.clone();
        let (guest, by) = match (installer, own) {
            (Installer::Launcher, _) => {
                let words: Vec<&str> = tsync.split_whitespace().chain([word.as_str()]).collect();
                (guest.under(&words), "a launcher")
            }
            (Installer::Thread, _) => (
                guest
                    .with("SURROUNDINGS", &format!("{tsync}{word}"))
                    .with("SURROUNDINGS_BY", "thread"),
                "a thread of it",
            ),
            (Installer::Itself, Own::Code) => {
                let mut guest = guest;
                guest.command.push(code(&calls, is_allow_list, action));
                guest.command.push(if is_for_all { "1" } else { "0" }.to_owned());
                (guest, "itself")
            }
            (Installer::Itself, _) => {
                (guest.with("SURROUNDINGS", &format!("{tsync}{word}")), "itself")
            }
        };
        let missing: Vec<String> = needed
            .iter()
            .filter(|call| calls.contains(call) != is_allow_list)
            .map(u64::to_string)
            .collect();
        let name = format!(
            "{} under {tsync}{word} by {by}; of its own calls refused: {missing:?}",
            program.name
        );
        Case { name, guest, with_less: None, is_steady: program.is_steady }
    }

    fn limits(&mut self, random: &mut Random, program: usize, number: u64) -> Case {
        let program = &self.programs[program];
        let (mut words, mut less) = (Vec::new(), Vec::new());
        let mut has_less = false;
        if guest::is_root() && random.below(6) == 0 {
            // A user each, whose processes are its own.
            let user = 70_000 + number;
            words.extend([format!("gid={user}"), format!("uid={user}")]);
            words.push(format!("nproc={}", random.one_of(&[1, 2, 3, 5, 8, 20, 100])));
            less.clone_from(&words);
        }
        for _ in 0..=random.below(3) {
            let kind = random.one_of(&[
                "as",
                "as",
                "data",
                "nofile",
                "nofile",
                "fsize",
                "stack",
                "memlock",
                "core",
                "cpu",
                "sigpending",
                "msgqueue",
                "locks",
                "nice",
                "rtprio",
                "rss",
                "rttime",
            ]);
            if words.iter().any(|word: &String| word.starts_with(&format!("{kind}="))) {
                continue;
            }
            let value = match kind {
                "as" | "data" => random.by_magnitude(20 << 20, 8 << 30),
                "nofile" => random.by_magnitude(3, 100),
                "fsize" => random.below(2) * random.by_magnitude(1, 4 << 20),
                "stack" => random.by_magnitude(64 << 10, 64 << 20),
                "memlock" | "msgqueue" => random.below(2) * random.by_magnitude(1, 1 << 20),
                "core" => 0,
                "cpu" => 60 + random.below(60),
                "rttime" => 1_000_000 + random.below(1_000_000),
                _ => random.below(50),
            };
            words.push(format!("{kind}={value}"));
            if kind == "as" || kind == "data" {
                has_less = true;
                less.push(format!("{kind}={}", value.saturating_sub(MARGIN).max(1 << 20)));
            } else {
                less.push(format!("{kind}={value}"));
            }
        }
        let under = |words: &[String]| {
            program.guest.clone().under(&words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        Case {
            name: format!("{} under {}", program.name, words.join(" ")),
            guest: under(&words),
            with_less: has_less.then(|| under(&less)),
            is_steady: program.is_steady,
        }
    }

    /// The numbers of the calls that a program makes behind a filter.
    fn needed(&mut self, program: usize, installer: Installer) -> Vec<u64> {
        if let Some(needed) = self.needed.get(&(program, installer)) {
            return needed.clone();
        }
        // A filter that refuses nothing that there is.
        let nothing = "deny=499:errno-1";
        let one = &self.programs[program];
        let guest = one.guest.clone();
        let guest = match (installer, one.own) {
            (Installer::Launcher, _) => guest.under(&[nothing]),
            (Installer::Itself, Own::Code) => {
                let mut guest = guest;
                guest
                    .command
                    .extend([code(&BTreeSet::from([499]), false, "errno-1"), "0".to_owned()]);
                guest
            }
            (Installer::Itself, _) => guest.with("SURROUNDINGS", nothing),
            (Installer::Thread, _) => {
                guest.with("SURROUNDINGS", nothing).with("SURROUNDINGS_BY", "thread")
            }
        };
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-n", "-s", "0", "-o"]).arg(&log).args(&guest.command);
        guest.run(command, directory.path());
        let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
        let behind =
            text.find("] seccomp(").and_then(|at| Some(at + text[at..].find('\n')?)).unwrap_or(0);
        let numbers: BTreeSet<u64> = text[behind..]
            .lines()
            .filter_map(|line| line.split_once('[')?.1.split_once(']')?.0.trim().parse().ok())
            .collect();
        let needed: Vec<u64> = numbers.into_iter().collect();
        assert!(needed.len() > 2, "{}: strace saw {needed:?}", one.name);
        self.needed.insert((program, installer), needed.clone());
        needed
    }
}

/// What strace saw of a native run.
struct Witness {
    seen: Seen,
    processes: usize,
    written: u64,
}

fn witness(guest: &Guest) -> Witness {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let mut command = Command::new("strace");
    let traced = "trace=execve,clone,clone3,fork,vfork,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,exit_group";
    command
        .args(["-f", "-q", "-s", "0", "-e", "signal=none", "-e", traced, "-o"])
        .arg(&log)
        .args(&guest.command);
    let seen = guest.run(command, directory.path());
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    let processes = call_log::read(&text, &guest.command[0]).map_or(1, |task| task.processes());
    let written = text
        .lines()
        .filter(|line| {
            ["write", "pwrite", "send"].iter().any(|name| {
                line.contains(&format!(" {name}")) || line.contains(&format!("<... {name}"))
            })
        })
        .filter_map(|line| line.rsplit_once(" = ")?.1.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Witness { seen, processes, written }
}

fn try_case(artifacts: &Artifacts, case: &Case) -> Outcome {
    let natively = case.guest.clone().within(Duration::from_secs(15));
    let native = natively.native();
    if native.end == End::Hung {
        return Outcome::NativeHang;
    }
    let witness = witness(&natively.clone().within(Duration::from_secs(60)));
    if witness.seen != native {
        return Outcome::Varies;
    }
    let has_room = case
        .with_less
        .as_ref()
        .is_none_or(|less| less.clone().within(Duration::from_secs(15)).native() == native);
    let limit = Duration::from_secs(if case.is_steady { 30 } else { 90 });
    let traced = case.guest.clone().within(limit).traced(artifacts);
    let is_same = traced.seen == native;
    if !is_same && traced.seen.end != End::Hung {
        if !has_room {
            return Outcome::Margin(true);
        }
        if (0..MORE_NATIVE_RUNS).any(|_| natively.native() == traced.seen) {
            return Outcome::Varies;
        }
    }
    let mut wrong = Vec::new();
    if !is_same {
        wrong.push(format!("natively {}\n    counted {}", native.shown(), traced.seen.shown()));
    }
    wrong.extend(guest::complaint_of_loader(&traced, &native));
    wrong.extend(guest::too_many_files(&traced));
    let known = guest::Known { processes: witness.processes, ..ANY };
    wrong.extend(guest::wrong_completeness(&traced, known));
    wrong.extend(missing_bytes(&traced, &witness, case.is_steady));
    if wrong.is_empty() {
        return if has_room { Outcome::Same(traced.is_complete()) } else { Outcome::Margin(false) };
    }
    wrong.push(format!("{}, messages {:?}", traced.remarks(), traced.messages));
    Outcome::Wrong(wrong.join("\n    "))
}

fn missing_bytes(traced: &Traced, witness: &Witness, is_steady: bool) -> Option<String> {
    let counted = traced.over_classes("write_bytes") + traced.over_classes("send_bytes");
    let is_less = traced.is_complete() && is_steady && counted < witness.written;
    is_less.then(|| {
        format!(
            "says complete, but counted {counted} of {} bytes that strace saw written",
            witness.written
        )
    })
}

/// All numbers, filters and limits mixed.
pub fn mixed(from: u64) -> impl Iterator<Item = u64> {
    // 617 and 1300 have no common factor: every number comes once.
    (from..ALL).map(|i| i * 617 % ALL)
}
