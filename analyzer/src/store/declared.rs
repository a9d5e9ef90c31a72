//! The columns of the tables: those that the functions which make rows name.

use std::sync::LazyLock;

use polars::prelude::{DataFrame, DataType};

use crate::store::table::{Kind, Table};
use crate::store::{process_tables, spark_tables};

impl Table {
    /// Its columns, in order.
    pub fn columns(self) -> &'static [(String, Kind)] {
        &COLUMNS[Table::ALL.iter().position(|&one| one == self).unwrap_or_default()]
    }

    /// Whether the columns of a frame are of the kinds that the table's are, and each row is of some process if it
    /// says so: whoever reads on takes what is not there for unknown.
    pub fn describes(self, frame: &DataFrame) -> bool {
        let kind = |name: &str| self.columns().iter().find(|(one, _)| one == name);
        frame.columns().iter().all(|column| {
            let is_known =
                kind(column.name()).is_some_and(|(_, kind)| kind.data_type() == *column.dtype());
            is_known && (column.name() != "process_id" || column.null_count() == 0)
        })
    }
}

/// The columns of [`Table::ALL`], as the functions that make the tables name them.
static COLUMNS: LazyLock<Vec<Vec<(String, Kind)>>> = LazyLock::new(|| {
    let mut made = process_tables::empty_tables().expect("names of columns are unique");
    made.extend(spark_tables::empty_tables().expect("so are these"));
    let columns = |table| made.iter().find(|(one, _)| *one == table).map(|(_, frame)| kinds(frame));
    Table::ALL.into_iter().map(|table| columns(table).unwrap_or_default()).collect()
});

fn kinds(frame: &DataFrame) -> Vec<(String, Kind)> {
    let kind = |data: &DataType| Kind::ALL.into_iter().find(|kind| kind.data_type() == *data);
    let columns = frame.columns().iter();
    let kinds = columns.map(|column| (column.name().to_string(), kind(column.dtype())));
    kinds.map(|(name, kind)| (name, kind.expect("columns are of these kinds"))).collect()
}

#[cfg(test)]
mod tests {
    use polars::prelude::{Column, NamedFrom, Series};

    use super::*;

    #[test]
    fn columns_of_other_kinds_are_seen() {
        let frame = |columns: Vec<Column>| DataFrame::new(2, columns).unwrap();
        let ids = |ids: [Option<&str>; 2]| Series::new("process_id".into(), ids).into();
        let whole = || ids([Some("a"), Some("b")]);
        assert!(Table::Tasks.describes(&frame(vec![whole()])));
        let stages = Series::new("stage".into(), [Some(1i64), None]).into();
        assert!(Table::Tasks.describes(&frame(vec![whole(), stages])));
        for other in [
            Series::new("stage".into(), ["1", "2"]),
            Series::new("stage".into(), [1i32, 2]),
            Series::new("instructions".into(), [1i64, 2]),
            Series::new("no_column_of_ours".into(), [1i64, 2]),
        ] {
            assert!(!Table::Tasks.describes(&frame(vec![whole(), other.into()])));
        }
        assert!(!Table::Tasks.describes(&frame(vec![ids([Some("a"), None])])), "of no process");
    }

    #[test]
    fn every_table_has_columns() {
        for table in Table::ALL {
            assert!(table.columns().len() > 3, "{}", table.name());
        }
        let tasks = Table::Tasks.columns();
        assert_eq!(tasks[0], ("process_id".into(), Kind::Text));
        assert!(tasks.contains(&("instructions".into(), Kind::Unsigned)));
        assert!(tasks.contains(&("is_late".into(), Kind::Truth)));
        assert!(tasks.contains(&("stage".into(), Kind::Signed)));
    }
}
