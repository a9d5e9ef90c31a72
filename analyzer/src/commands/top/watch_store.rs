//! A store that somebody fills.

use crate::commands::top::threads::{Process, Threads};
use crate::console::exit::Failure;
use crate::report::rated::Rated;
use crate::report::rows::Counted;
use crate::store::{self, Address, Store, StoreError, Table};

/// The threads of a store.
pub struct StoredThreads {
    address: Address,
}

impl StoredThreads {
    /// Opens the store.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    pub fn open(address: &Address) -> Result<StoredThreads, Failure> {
        store::open(address)?;
        Ok(StoredThreads { address: address.clone() })
    }

    /// Reads it anew. A thread that is new has its mean rate, one that was there its latest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn look(&mut self, threads: &mut Threads) -> Result<(), Failure> {
        // An open store shows one state and keeps writers waiting.
        Ok(read(store::open(&self.address)?.as_ref(), threads)?)
    }
}

fn read(store: &dyn Store, threads: &mut Threads) -> Result<(), StoreError> {
    if let Some(frame) = store.frame(Table::Processes, None)? {
        let finals = frame.column("is_final")?.bool()?.clone();
        let rows = Rated::of(frame)?;
        for at in 0..rows.len() {
            let process = Process {
                node: rows.text("node", at),
                pid: rows.signed("pid", at).unwrap_or(-1),
                role: rows.text("role", at),
                application: rows.text("application_id", at),
                executor: rows.text("executor_id", at),
                has_ended: finals.get(at).unwrap_or(false),
                last_ns: nanoseconds(rows.signed("last_real_ns", at)),
            };
            let id = rows.text("process_id", at).unwrap_or_default();
            threads.processes.insert(id, process);
        }
    }
    let Some(frame) = store.frame(Table::Threads, None)? else { return Ok(()) };
    let ended = frame.column("has_ended")?.bool()?.clone();
    let rows = Rated::of(frame)?;
    for at in 0..rows.len() {
        let (Some(process), Some(tid)) = (rows.text("process_id", at), rows.signed("tid", at))
        else {
            continue;
        };
        let counted = rows.counted(at);
        let thread = threads.threads.entry((process, tid)).or_default();
        if thread.last_ns().is_none() {
            let nothing = counted.values.map(|value| value.map(|_| 0));
            let before = Counted { values: nothing, ..counted.clone() };
            thread.sample(nanoseconds(rows.signed("first_real_ns", at)), before);
        }
        thread.name = rows.text("name", at);
        thread.has_ended = ended.get(at).unwrap_or(false);
        thread.sample(nanoseconds(rows.signed("last_real_ns", at)), counted);
    }
    Ok(())
}

fn nanoseconds(value: Option<i64>) -> u64 {
    value.and_then(|ns| u64::try_from(ns).ok()).unwrap_or(0)
}
