//! A task of an event log.

use crate::report::key::Place;
use crate::report::rows::SparkSaid;

/// A task attempt of an event log.
pub struct LoggedTask {
    /// With its stage and TID.
    pub place: Place,
    /// What it says.
    pub said: SparkSaid,
    /// First and last ms since the epoch.
    pub times: Option<(i64, i64)>,
    /// Whether it failed; unknown for open ones.
    pub failed: Option<bool>,
    /// Whether it was killed; unknown for open ones.
    pub killed: Option<bool>,
    /// Whether it was a speculative copy.
    pub speculative: bool,
    /// Why it did not succeed.
    pub failure: Option<Box<str>>,
    /// Whether there is a record of it.
    pub is_joined: bool,
}
