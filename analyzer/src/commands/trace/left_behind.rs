//! The records of a run whose program has ended, and the children that it left behind: nobody waits for them, as
//! natively, but they have a moment to come to their end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::commands::trace::output::Folder;
use crate::commands::trace::processes::{self, Process};
use crate::console::exit::Failure;

/// How long children that are left behind may take until they are said to have no end.
const MOMENT: Duration = Duration::from_secs(2);
/// Time between two looks at them.
const LOOKS_EVERY: Duration = Duration::from_millis(50);
/// How long a process in the middle of an exec is waited for until it has its variables: loading a program's file.
const LONGEST_EXEC: Duration = Duration::from_millis(200);
/// How often a process with arguments is looked at for variables that it seems not to have.
const LOOKS_IN_VAIN: u32 = 10;
/// The name of those who write for counted processes, in the same memory: they end with them.
const HELPER: &str = "sparkanalyzer";

/// What a run has left when its program has ended.
#[derive(Default)]
pub struct Remains {
    /// The processes that wrote records.
    pub processes: Vec<Process>,
    /// One line for each record file that cannot be used.
    pub unusable_files: Vec<String>,
    /// Children that go on and have not written anything: process number and name of the main thread.
    pub silent: BTreeMap<u32, String>,
}

impl Remains {
    /// Reads the records that are in `folder` and were not there `before`, when all who write them have ended or their
    /// moment is over. `mark` is the variable, `NAME=value`, by which processes of this run are known.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn read(folder: &Folder, before: &[PathBuf], mark: &[u8]) -> Result<Remains, Failure> {
        let begin = Instant::now();
        // In this order: who has ended by the time of reading has written all.
        let mut going_on = marked(mark);
        let mut remains = Remains::read_now(folder, before)?;
        let open = remains.without_end();
        if open.is_empty() && going_on.is_empty() {
            return Ok(remains);
        }
        // The mark may be gone: a process can write over the place where its variables were.
        let all_ended = |going_on: &BTreeMap<_, _>| {
            going_on.is_empty() && !open.iter().any(|pid| entry(*pid).exists())
        };
        while !all_ended(&going_on) && begin.elapsed() < MOMENT {
            std::thread::sleep(LOOKS_EVERY);
            going_on = marked(mark);
        }
        // What has gone by now may have written its end since the records were read.
        remains = Remains::read_now(folder, before)?;
        going_on.retain(|pid, name| {
            name != HELPER && remains.processes.iter().all(|process| process.pid != *pid)
        });
        remains.silent = going_on;
        Ok(remains)
    }

    fn read_now(folder: &Folder, before: &[PathBuf]) -> Result<Remains, Failure> {
        let mut files = folder.list()?;
        files.retain(|file| !before.contains(file));
        let (processes, unusable_files) = processes::read_processes(&files);
        Ok(Remains { processes, unusable_files, ..Remains::default() })
    }

    fn without_end(&self) -> Vec<u32> {
        let open = self.processes.iter().filter(|one| one.end.is_none());
        open.map(|one| one.pid).collect()
    }
}

/// The processes that were started with a variable, and are not ended: number and name of the main thread. Those of
/// other users, which cannot be looked into, are left out.
fn marked(mark: &[u8]) -> BTreeMap<u32, String> {
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_mark = |pid: &u32| variables(*pid).split(|byte| *byte == 0).any(|one| one == mark);
    let name = |pid: u32| {
        let comm = std::fs::read_to_string(entry(pid).join("comm")).unwrap_or_default();
        (pid, comm.trim_end().to_owned())
    };
    pids.filter(|pid| *pid != own).filter(has_mark).map(name).collect()
}

/// The variables that a process was started with, each ended by a zero byte; empty if they cannot be looked into.
fn variables(pid: u32) -> Vec<u8> {
    let begin = Instant::now();
    let mut without = 0;
    loop {
        let variables = read_at_once(&entry(pid).join("environ"));
        // Kernel threads and processes that have ended have no program either.
        let has_program = || entry(pid).join("exe").read_link().is_ok();
        let settled = without == LOOKS_IN_VAIN || begin.elapsed() > LONGEST_EXEC;
        if !variables.is_empty() || settled || !has_program() {
            return variables;
        }
        // In the middle of an exec the new memory has a program already, but neither arguments nor variables; and whoever
        // began to read from the old memory finds nothing. Who has arguments and no variables time and again has none.
        let arguments = std::fs::read(entry(pid).join("cmdline")).unwrap_or_default();
        without += u32::from(!arguments.is_empty());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a process's file shows of its memory, in one call: between two an exec may take the memory away. Empty if it cannot
/// be read.
fn read_at_once(path: &Path) -> Vec<u8> {
    // The kernel takes no more arguments and variables (fs/exec.c, three quarters of _STK_LIM). Only what is read is touched.
    let mut content = vec![0; 6 << 20];
    let length = File::open(path).and_then(|mut file| file.read(&mut content)).unwrap_or(0);
    content.truncate(length);
    content
}

fn entry(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn processes_are_known_by_a_variable_until_they_end() {
        let mark = format!("SPARKANALYZER_MARK_OF_A_TEST={}", std::process::id());
        let (name, value) = mark.split_once('=').expect("a variable");
        let mut child =
            Command::new("cat").env(name, value).stdin(Stdio::piped()).spawn().expect("starts");
        let found = marked(mark.as_bytes());
        assert_eq!(found, BTreeMap::from([(child.id(), "cat".to_owned())]));
        assert!(marked(&mark.as_bytes()[..mark.len() - 1]).is_empty(), "a part is not the mark");
        drop(child.stdin.take());
        child.wait().expect("ends");
        assert!(marked(mark.as_bytes()).is_empty());
    }

    #[test]
    fn a_process_has_its_variables_in_the_middle_of_an_exec() {
        const EXECS: &str = r#"[ $1 = 0 ] && exec cat; exec sh -c "$0" "$0" $(($1 - 1))"#;
        let mut child = Command::new("sh")
            .args(["-c", EXECS, EXECS, "300"])
            .env("SPARKANALYZER_MARK_OF_A_TEST", "1")
            .stdin(Stdio::piped())
            .spawn()
            .expect("starts");
        let comm = entry(child.id()).join("comm");
        let mut looks = 0;
        while std::fs::read_to_string(&comm).expect("goes on") != "cat\n" {
            let variables = variables(child.id());
            let mut all = variables.split(|byte| *byte == 0);
            assert!(all.any(|one| one == b"SPARKANALYZER_MARK_OF_A_TEST=1"), "look {looks}");
            looks += 1;
        }
        assert!(looks > 0, "it was over too soon");
        drop(child.stdin.take());
        child.wait().expect("ends");
    }
}
