//! A row of Spark's answer: what is null is not in it, and what is of another kind than asked for is an error.

use serde_json::{Map, Value};

use crate::store::spark::error::SparkError;

/// A row by its columns' names.
#[derive(Clone, Debug)]
pub struct SparkRow(Map<String, Value>);

impl SparkRow {
    /// Of a line of JSON.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(line: &str) -> Result<SparkRow, SparkError> {
        let row = serde_json::from_str(line);
        row.map(SparkRow).map_err(|error| SparkError::Answer { what: format!("no row: {error}") })
    }

    fn value<'r, T>(
        &'r self,
        name: &str,
        read: impl Fn(&'r Value) -> Option<T>,
    ) -> Result<Option<T>, SparkError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let wrong = || SparkError::Answer { what: format!("column {name} is {value}") };
        read(value).ok_or_else(wrong).map(Some)
    }

    /// A text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&self, name: &str) -> Result<Option<&str>, SparkError> {
        self.value(name, Value::as_str)
    }

    /// A number that may be negative.
    ///
    /// # Errors
    /// When it is something else.
    pub fn signed(&self, name: &str) -> Result<Option<i64>, SparkError> {
        self.value(name, Value::as_i64)
    }

    /// A number that is not negative.
    ///
    /// # Errors
    /// When it is something else.
    pub fn unsigned(&self, name: &str) -> Result<Option<u64>, SparkError> {
        self.value(name, Value::as_u64)
    }

    /// Yes or no.
    ///
    /// # Errors
    /// When it is something else.
    pub fn truth(&self, name: &str) -> Result<Option<bool>, SparkError> {
        self.value(name, Value::as_bool)
    }

    /// How many rows a group has, or how many values are known: never null.
    ///
    /// # Errors
    /// When it is.
    pub fn count(&self, name: &str) -> Result<u64, SparkError> {
        let missing = || SparkError::Answer { what: format!("no column {name}") };
        self.unsigned(name)?.ok_or_else(missing)
    }

    /// How many values of a column are known, and their sum, which is null where none is.
    ///
    /// # Errors
    /// When either is no number, or there is no sum of values that are known.
    pub fn sum(&self, known: &str, sum: &str) -> Result<(u32, u64), SparkError> {
        match self.count(known)? {
            0 => Ok((0, 0)),
            some => Ok((u32::try_from(some).unwrap_or(u32::MAX), self.count(sum)?)),
        }
    }

    /// The row itself.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_is_unknown_and_another_kind_is_an_error() {
        let row =
            SparkRow::parse(r#"{"n":7,"k":2,"s":9,"none":0,"t":"x","b":true,"m":-1}"#).unwrap();
        assert_eq!(row.unsigned("n").unwrap(), Some(7));
        assert_eq!(row.text("absent").unwrap(), None);
        assert_eq!(row.sum("k", "s").unwrap(), (2, 9));
        assert_eq!(row.sum("none", "absent").unwrap(), (0, 0));
        assert!(row.count("absent").is_err() && row.sum("k", "absent").is_err());
        assert!(row.text("n").is_err() && row.unsigned("m").is_err() && row.truth("t").is_err());
        assert!(row.sum("t", "s").is_err() && row.sum("k", "m").is_err());
        for line in ["", "[]", "7", "{\"a\":", "{\"a\":1} x"] {
            assert!(SparkRow::parse(line).is_err(), "{line}");
        }
    }
}
