//! What the user asked for.

use crate::report::key::Dimension;

/// What the user asked for.
pub struct Question<'a> {
    /// Dimensions, with those that others imply.
    pub by: &'a [Dimension],
    /// What reports call applications; empty = every application with records, or every one if there are none.
    pub applications: &'a [String],
    /// Roles of processes; empty = executors and whatever ran tasks.
    pub roles: &'a [String],
    /// Width of buckets of time, in ms.
    pub bucket_ms: i64,
    /// Whether single tasks are to be listed, too.
    pub lists_tasks: bool,
}
