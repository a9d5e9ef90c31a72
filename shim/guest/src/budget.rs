//! What may still be written when the size limits come near.
//!
//! | used, of the nearer limit | periodic snapshots | thread starts | ends, exec, spawn, notices | process end |
//! |---|---|---|---|---|
//! | below 1/2 | every tick | yes | yes | yes |
//! | from 1/2 | every 4th tick | yes | yes | yes |
//! | from 3/4 | every 16th tick | yes | yes | yes |
//! | from 1 | none | no | yes | yes |
//! | from 2 | none | no | no | yes |

/// Sixteenths of a limit from which on periodic snapshots are left out.
const THINNED_FROM: u64 = 8;

/// How much a group matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// A periodic snapshot: the next one says the same and more.
    Periodic,
    /// The start of a thread.
    Minor,
    /// Starts and ends of tasks, ends of threads, exec, spawn, notices.
    Major,
    /// The end of the process, and what begins a segment.
    Last,
}

/// The limits and what is used of them, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// `max_bytes_per_process`
    pub process_limit: u64,
    /// Written by this process.
    pub process_used: u64,
    /// `max_bytes_per_directory`
    pub directory_limit: u64,
    /// In the directory's record files at the last look, plus what was written since.
    pub directory_used: u64,
}

impl Budget {
    /// Whether a group of this weight may be written at this tick.
    pub fn allows(&self, weight: Weight, tick: u64) -> bool {
        let sixteenths = self.sixteenths();
        match weight {
            Weight::Last => true,
            Weight::Major => sixteenths < 32,
            Weight::Minor => sixteenths < 16,
            Weight::Periodic => match sixteenths {
                0..THINNED_FROM => true,
                THINNED_FROM..12 => tick.is_multiple_of(4),
                12..16 => tick.is_multiple_of(16),
                _ => false,
            },
        }
    }

    /// Whether something is left out because of the limit per process.
    pub fn process_thinned(&self) -> bool {
        sixteenths(self.process_used, self.process_limit) >= THINNED_FROM
    }

    /// Whether something is left out because of the limit per directory.
    pub fn directory_thinned(&self) -> bool {
        sixteenths(self.directory_used, self.directory_limit) >= THINNED_FROM
    }

    /// Adds what was written.
    pub fn spend(&mut self, bytes: u64) {
        self.process_used += bytes;
        self.directory_used += bytes;
    }

    fn sixteenths(&self) -> u64 {
        sixteenths(self.process_used, self.process_limit)
            .max(sixteenths(self.directory_used, self.directory_limit))
    }
}

fn sixteenths(used: u64, limit: u64) -> u64 {
    used.saturating_mul(16) / limit.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_in_100_ticks(used: u64, weight: Weight) -> usize {
        let budget = Budget {
            process_limit: 1000,
            process_used: used,
            directory_limit: 1 << 40,
            directory_used: used,
        };
        (0..100).filter(|&tick| budget.allows(weight, tick)).count()
    }

    #[test]
    fn periodic_snapshots_go_first_and_the_end_always_stays() {
        for (used, periodic, minor, major, last) in [
            (0, 100, 100, 100, 100),
            (499, 100, 100, 100, 100),
            (500, 25, 100, 100, 100),
            (750, 7, 100, 100, 100),
            (1000, 0, 0, 100, 100),
            (2000, 0, 0, 0, 100),
        ] {
            assert_eq!(written_in_100_ticks(used, Weight::Periodic), periodic, "{used}");
            assert_eq!(written_in_100_ticks(used, Weight::Minor), minor, "{used}");
            assert_eq!(written_in_100_ticks(used, Weight::Major), major, "{used}");
            assert_eq!(written_in_100_ticks(used, Weight::Last), last, "{used}");
        }
    }

    #[test]
    fn the_nearer_limit_counts() {
        let mut budget = Budget {
            process_limit: 1 << 40,
            process_used: 0,
            directory_limit: 100,
            directory_used: 90,
        };
        assert!(budget.allows(Weight::Minor, 1) && budget.directory_thinned());
        budget.spend(10);
        assert!(!budget.process_thinned());
        assert!(!budget.allows(Weight::Minor, 1));
    }
}
