//! What is shown and how, and where it comes from.

use crate::commands::top::threads::Threads;
use crate::commands::top::watch_files::RecordFiles;
use crate::commands::top::watch_store::StoredThreads;
use crate::console::exit::Failure;
use crate::report::figure::Figure;

/// Where threads are seen.
pub enum Source {
    Files(RecordFiles),
    Store(StoredThreads),
}

impl Source {
    pub fn look(&mut self, threads: &mut Threads) -> Result<(), Failure> {
        match self {
            Source::Files(files) => files.look(threads),
            Source::Store(store) => store.look(threads),
        }
    }
}

/// What is shown and how.
pub struct View {
    /// Figures and heads.
    pub columns: Vec<(Figure, String)>,
    /// The figure that sorts.
    pub sort: Figure,
    /// Whether what has ended is shown too.
    pub all: bool,
    /// What is looked at.
    pub what: String,
}
