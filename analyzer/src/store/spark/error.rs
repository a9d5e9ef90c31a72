//! Why Spark gave no answer.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::console::exit::Exit;

/// Why Spark gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SparkError {
    /// There is none here.
    #[error(
        "Spark: {}: {error}; set SPARK_HOME to Spark's folder, or put its spark-submit into PATH",
        program.display()
    )]
    Absent {
        /// What was to be started.
        program: PathBuf,
        /// Why it could not.
        error: io::Error,
    },
    /// It ended before it was asked.
    #[error("Spark did not start: {program} ended with {status}:{said}\n{WAY_OUT}")]
    NotStarted {
        /// The command.
        program: String,
        /// How.
        status: ExitStatus,
        /// Its last words.
        said: String,
    },
    /// It ended while it was asked.
    #[error("Spark ended in the middle of the report:{said}\n{WAY_OUT}")]
    Ended {
        /// Its last words.
        said: String,
    },
    /// A job failed.
    #[error("Spark: {said}\n{WAY_OUT}")]
    Job {
        /// What Spark says.
        said: String,
        /// Whether a file is missing or cannot be read.
        is_of_input: bool,
    },
    /// It answered with something that is no answer.
    #[error(
        "Spark answered what was not asked: {what}; is Spark's version one that docs/operations.md names?"
    )]
    Answer {
        /// What is wrong with it.
        what: String,
    },
    /// The way to it does not work.
    #[error("Spark: {}: {error}", path.display())]
    Way {
        /// The folder or socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Behind every failure of Spark's.
const WAY_OUT: &str = "Does spark-submit with this --master run a job of its own? Can all executors read the \
                       store's path? --verbose shows all that Spark says";

impl SparkError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            SparkError::Job { is_of_input: true, .. } => Exit::BadInput,
            _ => Exit::Environment,
        }
    }

    /// Whether it says that a path is not there.
    pub fn is_missing_path(&self) -> bool {
        let SparkError::Job { said, .. } = self else { return false };
        ["PATH_NOT_FOUND", "Path does not exist"].iter().any(|one| said.contains(one))
    }
}
