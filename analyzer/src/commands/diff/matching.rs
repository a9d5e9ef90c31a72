//! Which stages of several runs are the same.
//!
//! # Design
//!
//! Spark gives ids in the order of submission, and stages that do not depend on each other swap theirs between runs of
//! one program. So a stage is told by what it does: its operators or its call, with and without what differs between
//! runs of the same code (names of files, numbers of lines), its number of tasks, and the same of the stages that it
//! reads and that read it, some steps far. The keys go from the most to the least telling; a key that one stage alone
//! has in each of two runs makes them one. Stages that no key tells apart (a loop's, say) are compared as a group.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::report::answer::Answer;
use crate::report::stage_names::StageName;

/// How far the stages around one are looked at.
const STEPS: usize = 4;
/// Keys of a stage, the most telling first.
const KEYS: usize = 5;

/// Places among all, and stages of a run, that have one key.
type Alike = (Vec<usize>, Vec<usize>);

/// A stage of a run, all attempts together.
#[derive(Clone, Debug)]
struct Known {
    keys: [u64; KEYS],
    name: String,
}

/// The stages of any number of runs, matched with each other.
#[derive(Debug, Default)]
pub struct Matching {
    /// What was found, in the order of the first run that has it.
    all: Vec<Known>,
    /// The one that stands for it: the least place of its group.
    group: Vec<usize>,
    /// Of each run: stage id -> place in `all`.
    runs: Vec<HashMap<i64, usize>>,
}

fn hash(parts: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

impl Matching {
    /// Adds a run: an application with its stages and their numbers of tasks. Runs are numbered as they come.
    pub fn add(&mut self, answer: &Answer, application: &str, stages: &BTreeMap<i64, u64>) {
        let named = |stage: i64| {
            let key = |attempt| (application.to_owned(), stage, attempt);
            let mut found = answer.stage_names.range(key(i64::MIN)..=key(i64::MAX));
            found.next().map(|(_, name)| name)
        };
        let parents = |stage: i64| {
            let key = |attempt| (application.to_owned(), stage, attempt);
            let mut found = answer.jobs.parents.range(key(i64::MIN)..=key(i64::MAX));
            found.next().map(|(_, parents)| parents.clone()).unwrap_or_default()
        };
        let known: Vec<_> = stages
            .iter()
            .map(|(stage, tasks)| Stage {
                id: *stage,
                tasks: *tasks,
                name: named(*stage).cloned(),
                parents: parents(*stage),
            })
            .collect();
        self.add_run(&known);
    }

    fn add_run(&mut self, stages: &[Stage]) {
        let run = known(stages);
        let mut places: Vec<Option<usize>> = vec![None; run.len()];
        let mut free: Vec<usize> = (0..self.all.len()).collect();
        for level in 0..KEYS {
            for (key, (ours, theirs)) in self.alike(level, &free, &run, &places) {
                debug_assert!(self.all[ours[0]].keys[level] == key);
                if let ([one], [other]) = (&ours[..], &theirs[..]) {
                    places[*other] = Some(*one);
                    free.retain(|place| place != one);
                }
            }
        }
        // What is left has counterparts that nothing tells apart.
        for level in 0..KEYS {
            for (_, (ours, theirs)) in self.alike(level, &free, &run, &places) {
                let first = ours.iter().map(|place| self.group[*place]).min().unwrap_or(ours[0]);
                for place in &ours {
                    let old = self.group[*place];
                    self.group.iter_mut().filter(|one| **one == old).for_each(|one| *one = first);
                }
                theirs.iter().for_each(|at| places[*at] = Some(ours[0]));
                free.retain(|place| !ours.contains(place));
            }
        }
        let mut of_run = HashMap::new();
        for ((stage, known), place) in stages.iter().zip(run).zip(places) {
            let place = place.unwrap_or_else(|| {
                self.all.push(known);
                self.group.push(self.all.len() - 1);
                self.all.len() - 1
            });
            of_run.insert(stage.id, place);
        }
        self.runs.push(of_run);
    }

    /// By a key of this level: places that are free, and stages of the run that have none yet; both are some.
    fn alike(
        &self,
        level: usize,
        free: &[usize],
        run: &[Known],
        places: &[Option<usize>],
    ) -> Vec<(u64, Alike)> {
        let mut by_key: BTreeMap<u64, Alike> = BTreeMap::new();
        for place in free {
            by_key.entry(self.all[*place].keys[level]).or_default().0.push(*place);
        }
        for (at, known) in run.iter().enumerate().filter(|(at, _)| places[*at].is_none()) {
            by_key.entry(known.keys[level]).or_default().1.push(at);
        }
        let both = |(_, (ours, theirs)): &(u64, Alike)| !ours.is_empty() && !theirs.is_empty();
        by_key.into_iter().filter(both).collect()
    }

    /// What a stage of a run is compared as: its place among all, its name, and how many stages of a run stand together
    /// there at most.
    pub fn of(&self, run: usize, stage: i64) -> Option<(usize, &str, usize)> {
        let place = *self.runs.get(run)?.get(&stage)?;
        let group = self.group[place];
        let count = |run: &HashMap<i64, usize>| {
            run.values().filter(|place| self.group[**place] == group).count()
        };
        let alike = self.runs.iter().map(count).max().unwrap_or(1);
        Some((group, &self.all[group].name, alike))
    }
}

/// What is known of a stage.
#[derive(Clone, Debug)]
struct Stage {
    id: i64,
    tasks: u64,
    name: Option<StageName>,
    parents: Vec<i64>,
}

fn known(stages: &[Stage]) -> Vec<Known> {
    let place = |id: &i64| stages.iter().position(|stage| stage.id == *id);
    let parents: Vec<Vec<usize>> =
        stages.iter().map(|stage| stage.parents.iter().filter_map(place).collect()).collect();
    let children: Vec<Vec<usize>> = (0..stages.len())
        .map(|at| (0..stages.len()).filter(|one| parents[*one].contains(&at)).collect())
        .collect();
    let own = |stage: &Stage| -> [u64; KEYS] {
        let Some(name) = &stage.name else { return [hash(&stage.id); KEYS] };
        [
            hash(&(name.full(), stage.tasks)),
            hash(&name.full()),
            hash(&(&name.kind, stage.tasks)),
            hash(&name.kind),
            hash(&name.kind),
        ]
    };
    let mut keys: Vec<[u64; KEYS]> = stages.iter().map(own).collect();
    for _ in 0..STEPS {
        let around = |places: &[usize], level: usize| {
            let mut all: Vec<u64> = places.iter().map(|at| keys[*at][level]).collect();
            all.sort_unstable();
            all
        };
        let next = |at: usize| {
            std::array::from_fn(|level| {
                // The last one is of the stage alone.
                if level == KEYS - 1 {
                    return keys[at][level];
                }
                let skipped = stages[at].parents.len() - parents[at].len();
                let before = around(&parents[at], level);
                hash(&(keys[at][level], before, skipped, around(&children[at], level)))
            })
        };
        keys = (0..stages.len()).map(next).collect();
    }
    let named = |stage: &Stage| stage.name.as_ref().map(StageName::full).unwrap_or_default();
    stages.iter().zip(keys).map(|(stage, keys)| Known { keys, name: named(stage) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(id: i64, work: &str, tasks: u64, parents: &[i64]) -> Stage {
        let (work, kind) = (work.to_owned(), work.split(':').next().unwrap_or_default().to_owned());
        let name = Some(StageName { description: None, work, kind });
        Stage { id, tasks, name, parents: parents.to_vec() }
    }

    fn matched(runs: &[&[Stage]]) -> Vec<Vec<(i64, usize, usize)>> {
        let mut matching = Matching::default();
        runs.iter().for_each(|run| matching.add_run(run));
        let of = |(number, run): (usize, &&[Stage])| {
            let of = |stage: &Stage| {
                let (place, _, alike) = matching.of(number, stage.id).unwrap();
                (stage.id, place, alike)
            };
            run.iter().map(of).collect()
        };
        runs.iter().enumerate().map(of).collect()
    }

    #[test]
    fn parallel_stages_that_swap_their_ids_are_found() {
        let a =
            [stage(0, "scan:x", 3, &[]), stage(1, "scan:y", 9, &[]), stage(2, "join", 8, &[0, 1])];
        let b =
            [stage(0, "scan:y", 9, &[]), stage(1, "scan:x", 3, &[]), stage(2, "join", 8, &[0, 1])];
        assert_eq!(
            matched(&[&a, &b]),
            [[(0, 0, 1), (1, 1, 1), (2, 2, 1)], [(0, 1, 1), (1, 0, 1), (2, 2, 1)]]
        );
    }

    #[test]
    fn stages_of_one_name_are_told_by_what_is_around_them() {
        let of = |one: i64, other: i64| {
            [
                stage(one, "read", 4, &[]),
                stage(other, "read", 4, &[]),
                stage(7, "sum", 4, &[one]),
                stage(8, "sort", 4, &[other]),
            ]
        };
        let found = matched(&[&of(0, 1), &of(1, 0)]);
        assert_eq!(found[0][..2], [(0, 0, 1), (1, 1, 1)]);
        assert_eq!(found[1][..2], [(1, 0, 1), (0, 1, 1)]);
    }

    #[test]
    fn what_nothing_tells_apart_is_a_group() {
        let a = [stage(0, "step", 2, &[]), stage(1, "step", 2, &[]), stage(2, "end", 1, &[])];
        let b = [
            stage(0, "step", 2, &[]),
            stage(1, "step", 2, &[]),
            stage(2, "step", 2, &[]),
            stage(3, "end", 1, &[]),
        ];
        let found = matched(&[&a, &b]);
        assert_eq!(found[0], [(0, 0, 3), (1, 0, 3), (2, 2, 1)]);
        assert_eq!(found[1], [(0, 0, 3), (1, 0, 3), (2, 0, 3), (3, 2, 1)]);
    }

    #[test]
    fn other_files_other_lines_and_new_stages() {
        let a = [stage(0, "scan:monday", 3, &[]), stage(1, "sum", 1, &[0])];
        let b =
            [stage(5, "scan:tuesday", 4, &[]), stage(6, "sum", 1, &[5]), stage(9, "new", 1, &[])];
        let found = matched(&[&a, &b]);
        assert_eq!(found[1], [(5, 0, 1), (6, 1, 1), (9, 2, 1)]);
    }
}
