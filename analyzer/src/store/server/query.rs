//! Queries whose answer is typed.

use mysql::prelude::{FromRow, Queryable};
use mysql::{FromRowError, Params};

/// All rows of a query. One of another form than was asked for is an error and no panic: whoever answers may be no database
/// of ours.
///
/// # Errors
/// When the server fails, or answers something else.
pub fn rows<T: FromRow>(
    conn: &mut impl Queryable,
    query: &str,
    params: impl Into<Params>,
) -> Result<Vec<T>, mysql::Error> {
    let rows: Vec<Result<T, FromRowError>> = conn.exec_opt(query, params)?;
    rows.into_iter().map(|row| row.map_err(mysql::Error::from)).collect()
}
