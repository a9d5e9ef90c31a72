//! What the threads of a process did outside tasks.

use std::collections::{BTreeMap, HashMap};

use records::METRIC_COUNT;

use crate::report::key::Thread;
use crate::report::rated::{Rated, read};
use crate::report::rows::Counted;
use crate::store::{Store, StoreError, Table};

/// The threads of all processes, less what their tasks did.
#[derive(Debug, Default)]
pub struct Threads {
    /// Process -> thread number -> name and what is left.
    of: HashMap<String, BTreeMap<i64, (Option<String>, Counted)>>,
}

impl Threads {
    /// Reads them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(store: &dyn Store) -> Result<Threads, StoreError> {
        let mut threads = Threads::default();
        let Some(frame) = read(store, Table::Threads)? else { return Ok(threads) };
        let rows = Rated::of(frame)?;
        for at in 0..rows.len() {
            let (Some(process), Some(tid)) = (rows.text("process_id", at), rows.signed("tid", at))
            else {
                continue;
            };
            let (name, counted) = (rows.text("name", at), rows.counted(at));
            let lives = threads.of.entry(process).or_default();
            match lives.get_mut(&tid) {
                // The system gives numbers of ended threads to new ones.
                Some((last_name, sum)) => {
                    *last_name = name.or(last_name.take());
                    sum.is_partial |= counted.is_partial;
                    sum.is_exact &= counted.is_exact;
                    for (sum, value) in sum.values.iter_mut().zip(counted.values) {
                        *sum = sum.zip(value).map(|(one, other)| one.saturating_add(other));
                    }
                }
                None => {
                    lives.insert(tid, (name, counted));
                }
            }
        }
        Ok(threads)
    }

    /// A thread with its name.
    pub fn named(&self, process: &str, tid: i64) -> Thread {
        let of = self.of.get(process).and_then(|threads| threads.get(&tid));
        Thread { tid, name: of.and_then(|(name, _)| name.clone()) }
    }

    /// Takes what tasks did from their thread.
    pub fn take(&mut self, process: &str, tid: i64, values: &[u64; METRIC_COUNT]) {
        let thread = self.of.get_mut(process).and_then(|threads| threads.get_mut(&tid));
        if let Some((_, left)) = thread {
            left.subtract(values);
        }
    }

    /// What is left of a process's threads. Of one whose end was not seen, and that wrote nothing before, nothing is known; what
    /// it did is in the rest of the process.
    pub fn outside(&mut self, process: &str) -> Vec<(Thread, Counted)> {
        let threads = self.of.remove(process).unwrap_or_default().into_iter();
        let is_known = |(_, (_, left)): &(i64, (Option<String>, Counted))| {
            left.values.iter().any(Option::is_some)
        };
        threads.filter(is_known).map(|(tid, (name, left))| (Thread { tid, name }, left)).collect()
    }
}
