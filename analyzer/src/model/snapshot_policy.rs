//! Which snapshots are kept.

use serde::{Deserialize, Serialize};

/// Which snapshots between starts and ends of tasks a store keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Snapshots {
    /// The last one of each thread and of the process, in their own rows.
    #[default]
    Last,
    /// One per thread in so many ns, too.
    Every(u64),
    /// All.
    All,
}

impl Snapshots {
    /// The time between two that are kept.
    pub fn interval_ns(self) -> u64 {
        match self {
            Snapshots::Last => u64::MAX,
            Snapshots::Every(every_ns) => every_ns,
            Snapshots::All => 0,
        }
    }

    /// Of the time between two that are kept.
    pub fn of_interval(ns: u64) -> Snapshots {
        match ns {
            u64::MAX => Snapshots::Last,
            0 => Snapshots::All,
            every_ns => Snapshots::Every(every_ns),
        }
    }

    /// Whether this keeps snapshots that the other does not.
    pub fn is_finer_than(self, other: Snapshots) -> bool {
        self.interval_ns() < other.interval_ns()
    }

    /// The finer one of both: what a store has once is not thinned out.
    pub fn or_finer(self, other: Snapshots) -> Snapshots {
        if other.is_finer_than(self) { other } else { self }
    }
}
