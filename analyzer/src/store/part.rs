//! A part of a store in a folder: files that belong together, and where they lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::snapshot_policy::Snapshots;
use crate::store::below;
use crate::store::kept::escape;
use crate::store::table::Table;

/// Where files are written.
pub const STAGING: &str = ".staging";
/// The table of what is kept of sources that may still grow.
pub const KEPT: &str = "kept";
/// How a folder of an unknown application is called, as other readers of partitioned tables have it.
const NO_APPLICATION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Files that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its number.
    pub id: u64,
    /// The application; unknown for processes of none.
    pub application: Option<String>,
    /// The key of an event log's application attempt; none = processes.
    pub log: Option<String>,
    /// The first and the last of its nodes.
    pub nodes: Option<(String, String)>,
    /// Table -> its number of rows; tables without rows have no file.
    pub rows: BTreeMap<String, u64>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Which snapshots were kept.
    pub snapshots: Snapshots,
}

impl Part {
    /// A part with nothing in it.
    pub fn empty(id: u64, snapshots: Snapshots) -> Part {
        Part {
            id,
            application: None,
            log: None,
            nodes: None,
            rows: BTreeMap::new(),
            bytes: 0,
            snapshots,
        }
    }

    /// Removes its staged files.
    pub fn discard(&self, root: &Path) {
        for table in self.rows.keys() {
            // Whatever hinders it, the folder of temporary files goes as a whole.
            let _ = below::remove(root, &self.staged(table));
        }
    }

    /// Where a table's file belongs.
    pub fn path(&self, root: &Path, table: &str) -> PathBuf {
        root.join(self.place(table))
    }

    /// The same, from the store's folder on.
    pub fn place(&self, table: &str) -> PathBuf {
        let application = self.application.as_deref().map_or_else(|| NO_APPLICATION.into(), escape);
        Path::new(table).join(format!("app={application}")).join(format!("{:08}.parquet", self.id))
    }

    /// Where a table's file is written, from the store's folder on.
    pub fn staged(&self, table: &str) -> PathBuf {
        Path::new(STAGING).join(format!("{:08}-{table}.parquet", self.id))
    }

    /// Whether its tables are a store's: other names could lead anywhere.
    pub fn is_sound(&self) -> bool {
        let is_table =
            |name: &String| name == KEPT || Table::ALL.iter().any(|table| table.name() == name);
        self.rows.keys().all(is_table)
    }
}
