//! The schema of a database: tables, keys and views, as migrations.
//!
//! What was released stands in `released/`, statement by statement, and never changes: no list of today's columns is
//! asked for it. Each later edition of the table of metrics is a migration besides, which is made from the table
//! until it is released and becomes a file. DDL commits by itself on these servers, so each statement can run again
//! after a kill, and a migration's row in `schema_version` comes last.

use records::metric::{EDITION, METRICS, Metric};

use crate::store::server::views::views;
use crate::store::table::{Kind, Table};

/// What leads from each released version to the next; the first makes version 1.
const RELEASED: [&str; 9] = [
    include_str!("released/0001.sql"),
    include_str!("released/0002.sql"),
    include_str!("released/0003.sql"),
    include_str!("released/0004.sql"),
    include_str!("released/0005.sql"),
    include_str!("released/0006.sql"),
    include_str!("released/0007.sql"),
    include_str!("released/0008.sql"),
    include_str!("released/0009.sql"),
];

/// The edition of the table of metrics that they know.
const RELEASED_EDITION: u32 = 1;

/// The version that this program writes and reads.
pub const VERSION: u32 = RELEASED.len() as u32 + EDITION - RELEASED_EDITION;

/// The statements that lead from one version to the next.
pub fn migration(to: u32) -> Vec<String> {
    match RELEASED.get(to as usize - 1) {
        Some(released) => statements(released),
        None => edition(to - RELEASED.len() as u32 + RELEASED_EDITION),
    }
}

/// The statements of a file.
fn statements(file: &str) -> Vec<String> {
    file.split_terminator(";\n").map(str::to_owned).collect()
}

/// The columns that an edition of the table of metrics brings. Of what is stored already they are unknown.
fn edition(number: u32) -> Vec<String> {
    let metrics: Vec<&Metric> = METRICS.iter().filter(|metric| metric.since <= number).collect();
    let new = |name: &str| metrics.iter().any(|one| one.since == number && one.name == name);
    let mut statements = Vec::new();
    for table in Table::ALL {
        for (name, kind) in table.columns().iter().filter(|(name, _)| new(name)) {
            let (table, sql) = (table.name(), sql_type(*kind));
            statements.push(format!("ALTER TABLE `{table}` ADD COLUMN `{name}` {sql}"));
        }
    }
    let rows: Vec<_> = metrics
        .iter()
        .enumerate()
        .map(|(position, metric)| {
            let (name, unit) = (metric.name, metric.unit.name());
            format!("({position},'{name}','{unit}',{})", metric.is_engine())
        })
        .collect();
    // Their places change, so all rows are made anew.
    statements.push("DELETE FROM `metrics`".into());
    statements.push(format!("INSERT INTO `metrics` VALUES {}", rows.join(",")));
    statements.extend(views(&metrics));
    statements
}

fn sql_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "MEDIUMTEXT",
        Kind::Signed => "BIGINT",
        Kind::Unsigned => "BIGINT UNSIGNED",
        Kind::Truth => "BOOLEAN",
    }
}

/// The table of versions, which must be there before all others.
pub const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS `schema_version` (
  `version` INT UNSIGNED NOT NULL PRIMARY KEY,
  `made_at` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB";

/// The column that ties a row to the process or application it is of.
pub fn key_column(table: Table) -> &'static str {
    match table.head() {
        Table::Processes => "process_id",
        _ => "application_key",
    }
}

/// Columns that a table has in a database alone, before those of the frame.
pub fn added_columns(table: Table) -> &'static [&'static str] {
    match table {
        Table::Processes => &[],
        Table::SparkApps => &["application_key"],
        _ if table.head() == Table::Processes => &["ordinal"],
        _ => &["application_key", "ordinal"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_whole() {
        for version in 1..=VERSION {
            let statements = migration(version);
            assert!(!statements.is_empty(), "version {version}");
            for statement in statements {
                let first = statement.split(' ').next().unwrap();
                assert!(
                    ["CREATE", "ALTER", "INSERT", "DELETE"].contains(&first)
                        && !statement.contains(';'),
                    "version {version}: {statement}"
                );
            }
        }
    }

    /// What makes views makes those that were released last, of the metrics that there were.
    #[test]
    fn views_are_as_released() {
        let metrics: Vec<_> = METRICS.iter().filter(|one| one.since <= RELEASED_EDITION).collect();
        let released: Vec<_> = RELEASED.iter().flat_map(|file| statements(file)).collect();
        for view in views(&metrics) {
            let head = view.split(" AS ").next().unwrap().to_owned();
            let last = released.iter().rfind(|statement| statement.starts_with(&head));
            assert_eq!(last, Some(&view), "{head}");
        }
    }

    /// Every column of today is made by some migration.
    #[test]
    fn every_column_has_a_migration() {
        let all: Vec<_> = (1..=VERSION).flat_map(migration).collect();
        for table in Table::ALL {
            let create = format!("CREATE TABLE IF NOT EXISTS `{}` (", table.name());
            let alter = format!("ALTER TABLE `{}` ADD COLUMN ", table.name());
            for (name, _) in table.columns() {
                let (line, added) = (format!("\n  `{name}` "), format!("{alter}`{name}` "));
                let makes = |one: &String| {
                    one.starts_with(&create) && one.contains(&line) || one.starts_with(&added)
                };
                assert_eq!(all.iter().filter(|one| makes(one)).count(), 1, "{table:?}: {name}");
            }
        }
    }
}
