//! Which process of a run came from which: the children that their parents tell of and the programs that took a
//! process's place, put beside the record files that are there. Who is told of and left none is missing.
//!
//! # Design
//!
//! A forked child repeats the number of its fork, so it is known whatever process numbers mean there. A new program
//! knows nothing of what was there before it: it has the number and the start of the process whose place it took, or
//! the number that a parent told of. Each program is claimed once, so that one with a process number used again
//! does not stand for another. Where a program says that its parent is in another PID namespace its own number is
//! not the one that the parent tells, and what is left over on both sides is taken in the order of time.

use std::ffi::OsStr;
use std::path::Path;

use crate::commands::trace::processes::{Process, Spawned};
use elf::OutOfReach;

/// Somebody who is told of and left no records.
#[derive(Debug)]
pub struct Missing<'a> {
    /// Its process number, as whoever tells of it sees it.
    pub pid: u32,
    /// Who tells of it.
    pub teller: &'a Process,
    /// What it is.
    pub what: What<'a>,
}

/// What may be missing.
#[derive(Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// A program, in this file as given; empty = not known.
    Program(&'a str),
    /// A child made by fork.
    Forked,
}

/// Records of one child that are no further apart are of one child: hooks write two.
const SAME_CHILD_NS: u64 = 5_000_000_000;
/// A parent may tell so much later than its child's program begins.
const TOLD_LATE_NS: u64 = 5_000_000_000;

/// Finds who is missing among the processes, of which the one with the number `first` was started by us.
pub fn missing(processes: &[Process], first: u32) -> Vec<Missing<'_>> {
    let mut family = Family { processes, is_claimed: vec![false; processes.len()] };
    let root = (0..processes.len()).find(|index| {
        let process = &processes[*index];
        process.pid == first && process.parent.is_none()
    });
    if let Some(root) = root {
        family.is_claimed[root] = true;
    }
    let mut missing = family.replaced();
    missing.extend(family.spawned());
    for teller in processes {
        let is_there = |number: u32| {
            let mut all = processes.iter();
            all.any(|other| other.parent == Some(teller.id) && other.parent_fork == number)
        };
        let lost = teller.forked.iter().filter(|child| !is_there(child.number));
        missing.extend(lost.map(|child| Missing { pid: child.pid, teller, what: What::Forked }));
    }
    missing
}

struct Family<'a> {
    processes: &'a [Process],
    /// Programs of which it is known where they came from.
    is_claimed: Vec<bool>,
}

impl<'a> Family<'a> {
    /// Programs of which nobody knows yet where they came from, in the order of their starts.
    fn unclaimed(&self) -> impl Iterator<Item = (usize, &'a Process)> {
        let all = self.processes.iter().enumerate();
        all.filter(|(index, process)| !self.is_claimed[*index] && process.parent.is_none())
    }

    /// Programs that took a process's place and left no records.
    fn replaced(&mut self) -> Vec<Missing<'a>> {
        let mut missing = Vec::new();
        for teller in self.processes {
            let Some(path) = &teller.exec else { continue };
            let found = self.unclaimed().find(|(_, program)| took_place(teller, program));
            if let Some((index, _)) = found {
                self.is_claimed[index] = true;
            }
            // Such a program may have executed another one, which is there.
            if found.is_none_or(|(_, program)| never_loads(path, &program.exe)) {
                missing.push(Missing { pid: teller.pid, teller, what: What::Program(path) });
            }
        }
        missing
    }

    /// Programs that were started in children without fork's copy, and left no records.
    fn spawned(&mut self) -> Vec<Missing<'a>> {
        let mut told: Vec<(&Process, &Spawned)> = Vec::new();
        for teller in self.processes {
            for (index, child) in teller.spawned.iter().enumerate() {
                let is_repeated = teller.spawned[..index].iter().any(|before| {
                    before.pid == child.pid
                        && child.mono_ns.saturating_sub(before.mono_ns) < SAME_CHILD_NS
                });
                if !is_repeated {
                    told.push((teller, child));
                }
            }
        }
        told.sort_by_key(|(_, child)| child.mono_ns);
        let mut found = vec![None; told.len()];
        let programs: Vec<_> = self.unclaimed().collect();
        for (index, program) in programs {
            // The last one before it with that number.
            let latest = program.start_mono_ns.saturating_add(TOLD_LATE_NS);
            let parent = told.iter().zip(&found).rposition(|((teller, child), found)| {
                found.is_none()
                    && child.pid == program.pid
                    && child.mono_ns <= latest
                    && teller.start_mono_ns <= program.start_mono_ns
            });
            if let Some(parent) = parent {
                found[parent] = Some(program);
                self.is_claimed[index] = true;
            }
        }
        let mut strangers: Vec<_> =
            self.unclaimed().filter(|(_, program)| program.ppid == 0).collect();
        strangers.reverse();
        for found in found.iter_mut().filter(|found| found.is_none()) {
            if let Some((index, program)) = strangers.pop() {
                *found = Some(program);
                self.is_claimed[index] = true;
            }
        }
        let all = told.into_iter().zip(found);
        let lost = all.filter(|((_, child), found)| {
            found.is_none_or(|program| never_loads(&child.path, &program.exe))
        });
        lost.map(|((teller, child), _)| {
            let what = What::Program(&child.path);
            Missing { pid: child.pid, teller, what }
        })
        .collect()
    }
}

/// Can this be the program that a process executed as its last deed?
fn took_place(before: &Process, program: &Process) -> bool {
    let ticks = [before.start_ticks, program.start_ticks];
    before.pid == program.pid
        && before.id != program.id
        && before.exec_mono_ns <= program.start_mono_ns
        && (ticks.contains(&0) || ticks[0] == ticks[1])
}

/// Is the file, given with its whole path, of a kind that no library is preloaded into, whoever starts it? `seen` is
/// the executable that was found in its place.
fn never_loads(path: &str, seen: &str) -> bool {
    fn is_certain(reason: &OutOfReach) -> bool {
        match reason {
            OutOfReach::Static { .. }
            | OutOfReach::StaticPie { .. }
            | OutOfReach::ThirtyTwoBit { .. }
            | OutOfReach::Foreign { .. } => true,
            OutOfReach::Interpreter { reason, .. } => is_certain(reason),
            _ => false,
        }
    }
    let file = Path::new(path);
    file.is_absolute()
        && file.canonicalize().is_ok_and(|file| file != Path::new(seen))
        && elf::examine(OsStr::new(path), None).is_err_and(|reason| is_certain(&reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::trace::processes::Forked;
    use crate::model::counts::Counts;

    const NOBODY: [u32; 0] = [];

    fn process(id: u8, pid: u32, start_mono_ns: u64) -> Process {
        let whole = Process::whole(pid, "prog", Counts::default());
        Process { id: [id; 16], start_mono_ns, start_ticks: u64::from(pid), ..whole }
    }

    fn spawned(pid: u32, mono_ns: u64) -> Spawned {
        Spawned { pid, path: String::new(), mono_ns }
    }

    fn pids(processes: &[Process]) -> Vec<u32> {
        missing(processes, 100).iter().map(|missing| missing.pid).collect()
    }

    #[test]
    fn forked_children_are_known_by_their_number_alone() {
        let mut parent = process(1, 100, 1);
        parent.forked =
            [(101, 1), (102, 2), (103, 4)].map(|(pid, number)| Forked { pid, number }).to_vec();
        // In a PID namespace of its own, with a number that means somebody else outside.
        let child = |id, pid, parent_fork| {
            let parent = Some([1; 16]);
            Process { parent, parent_fork, ..process(id, pid, 5) }
        };
        let all = [parent.clone(), child(2, 102, 1), child(3, 103, 4)];
        assert_eq!(pids(&all), [102]);
        assert_eq!(pids(&[parent, child(2, 1, 1), child(3, 1, 2), child(4, 1, 4)]), NOBODY);
    }

    #[test]
    fn a_program_takes_the_place_of_its_own_process() {
        let mut before = process(1, 100, 1);
        (before.exec, before.exec_mono_ns) = (Some("prog".to_owned()), 10);
        assert_eq!(pids(std::slice::from_ref(&before)), [100]);
        assert_eq!(pids(&[before.clone(), process(2, 100, 11)]), NOBODY);
        let reused = Process { start_ticks: 7, ..process(2, 100, 11) };
        assert_eq!(pids(&[before.clone(), reused]), [100], "another process of that number");
        assert_eq!(pids(&[process(2, 100, 0), before]), [100], "it was there before");
    }

    #[test]
    fn each_program_stands_for_one_child() {
        let mut parent = process(1, 100, 1);
        parent.spawned = vec![spawned(101, 10), spawned(101, 20_000_000_000)];
        let late = process(2, 101, 20_000_000_100);
        let found: Vec<_> = [parent.clone(), late.clone()].to_vec();
        let lost = missing(&found, 100);
        assert_eq!(lost.len(), 1);
        assert_eq!(pids(&[parent, process(3, 101, 9), late]), NOBODY);
    }

    #[test]
    fn two_records_of_one_child_are_one() {
        let mut parent = process(1, 100, 1);
        parent.spawned = vec![spawned(101, 10), spawned(101, 11)];
        assert_eq!(pids(&[parent.clone()]), [101]);
        assert_eq!(pids(&[parent, process(2, 101, 9)]), NOBODY);
    }

    #[test]
    fn children_in_other_namespaces_are_taken_in_order() {
        let mut parent = process(1, 100, 1);
        parent.spawned = vec![spawned(101, 10), spawned(105, 11)];
        let inner = Process { ppid: 0, ..process(2, 1, 12) };
        assert_eq!(pids(&[parent.clone(), inner.clone()]), [105]);
        let foreign = Process { ppid: 3, ..inner };
        assert_eq!(pids(&[parent, foreign]), [101, 105]);
    }

    #[test]
    fn a_static_program_is_missing_although_what_it_executed_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("p.c");
        std::fs::write(&source, "int main(void) { return 0; }\n").expect("room");
        let file = folder.path().join("p");
        let mut compiler = std::process::Command::new("cc");
        let built = compiler.arg("-static").arg(&source).arg("-o").arg(&file).status();
        assert!(built.expect("a compiler").success());
        let mut before = process(1, 100, 1);
        (before.exec, before.exec_mono_ns) = (Some(file.to_string_lossy().into_owned()), 10);
        let after = Process { exe: "/usr/bin/dash".to_owned(), ..process(2, 100, 11) };
        assert_eq!(pids(&[before.clone(), after.clone()]), [100]);
        before.exec = Some("/bin/sh".to_owned());
        assert_eq!(pids(&[before, after]), NOBODY);
    }
}
