//! Spark's event logs: finding them, unpacking them, and what they say about an application.
//!
//! # Format
//!
//! Lines of JSON, each an object whose key `Event` names the listener event. Spark 3 writes one plain
//! file per application attempt by default, Spark 4 a folder `eventlog_v2_<application>` of rolling
//! files `events_<n>_<application>[.codec][.compact]`, compressed with zstd by default; Databricks rolls a file `eventlog`
//! by the hour to `eventlog-<date>--<hour>-<minute>.gz` beside it. Times are milliseconds since the epoch, except CPU times
//! and the shuffle write time, which are nanoseconds. zstd and gzip are told by the first bytes, whatever the name.
//!
//! # Limitations
//!
//! The codecs lz4, snappy and lzf are not served: Spark frames them in ways of its own. They are
//! refused by name.
//!
//! # Design
//!
//! A log may still be written to, or its writer may have been killed: a line that is cut, or a
//! compressed frame that is, ends the reading and is reported, not an error. Events that are not needed
//! are skipped unread. What is known of an application from several logs, or from an older and a newer
//! copy of one, is merged by key, the more finished entry winning, so that order does not matter. A log is
//! read in pieces that are merged in the same way, so that memory does not grow with it.

mod application;
mod event;
mod lenient;
mod plan;
pub mod reader;
mod source;

pub use crate::input::eventlog::application::{
    Application, Executor, Job, SqlExecution, Stage, Task,
};
pub use crate::input::eventlog::event::{SPARK_METRICS, SparkMetrics};
pub use crate::input::eventlog::plan::{Metrics, Operator, Rdd};
pub use crate::input::eventlog::reader::{Limits, Log, PIECE_BYTES, Piece, ReadError};
pub use crate::input::eventlog::source::{Source, find};
