//! A driver of the user's own Spark that answers questions.
//!
//! spark-submit starts a small script ([`DRIVER`]), which connects to a socket in a folder of this process
//! alone: lines of JSON go to and fro. The script ends when the socket is closed, so a report that is
//! interrupted leaves no job behind.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::console::private_folder;
use crate::console::progress::{self, Step};
use crate::store::spark::error::SparkError;
use crate::text::shown;

/// The script.
const DRIVER: &str = include_str!("driver.py");
/// How often to look whether Spark has started or ended.
const LOOK: Duration = Duration::from_millis(50);
/// How long Spark may take to end by itself.
const END: Duration = Duration::from_secs(20);
/// How many of the last lines that Spark said are kept.
const KEPT_LINES: usize = 400;
/// What Spark says while nobody gives it a processor.
const STARVING: &str = "has not accepted any resources";

/// How to start Spark.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The cluster manager; Spark's own conf says it if this does not.
    pub master: Option<String>,
    /// Spark's properties, KEY=VALUE.
    pub conf: Vec<String>,
}

/// The driver; it ends when this is dropped.
#[derive(Debug)]
pub struct Session {
    child: Child,
    said: Arc<Mutex<VecDeque<String>>>,
    lines: Option<BufReader<UnixStream>>,
    _folder: TempDir,
}

impl Session {
    /// Starts Spark and waits until it can be asked.
    ///
    /// # Errors
    /// When there is no Spark, or it does not start.
    pub fn start(start: &Start) -> Result<Session, SparkError> {
        let step = Step::begin("starting Spark");
        let folder = private_folder::make();
        let temporary = std::env::temp_dir();
        let folder = folder.map_err(|error| SparkError::Way { path: temporary, error })?;
        let way = |path: &Path| {
            let path = path.to_owned();
            move |error| SparkError::Way { path, error }
        };
        let (script, socket) = (folder.path().join("driver.py"), folder.path().join("socket"));
        fs::write(&script, DRIVER).map_err(way(&script))?;
        let listener = UnixListener::bind(&socket).map_err(way(&socket))?;
        listener.set_nonblocking(true).map_err(way(&socket))?;
        let (said, out) = io::pipe().map_err(way(&socket))?;
        let errors = out.try_clone().map_err(way(&socket))?;
        let program = std::env::var_os("SPARK_HOME").map_or_else(
            || "spark-submit".into(),
            |home| Path::new(&home).join("bin/spark-submit"),
        );
        let mut command = Command::new(&program);
        if let Some(master) = &start.master {
            command.args(["--master", master]);
        }
        // The script must run here, where the socket is.
        command.args(["--deploy-mode", "client", "--name", "analyzer report"]);
        let own = ["spark.ui.showConsoleProgress=false".to_owned()];
        for pair in own.iter().chain(&start.conf) {
            command.args(["--conf", pair]);
        }
        command.arg(&script).arg(&socket).stdin(Stdio::null()).stdout(out).stderr(errors);
        let child = command.spawn();
        let child =
            child.map_err(|error| SparkError::Absent { program: program.clone(), error })?;
        drop(command);
        let mut session = Session { child, said: listen(said), lines: None, _folder: folder };
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(SparkError::Way { path: socket, error }),
            }
            if let Ok(Some(status)) = session.child.try_wait() {
                return Err(session.not_started(start, &program, status));
            }
            thread::sleep(LOOK);
        };
        stream.set_nonblocking(false).map_err(way(&socket))?;
        session.lines = Some(BufReader::new(stream));
        let mut version = None;
        match session.answer(&mut |line| version = Some(text_of(line))) {
            Err(SparkError::Ended { .. }) => {
                let status = session.child.wait().map_err(way(&socket))?;
                return Err(session.not_started(start, &program, status));
            }
            other => other?,
        }
        let missing = || SparkError::Answer { what: "no version".into() };
        step.end(&version.ok_or_else(missing)??);
        Ok(session)
    }

    fn not_started(&self, start: &Start, program: &Path, status: ExitStatus) -> SparkError {
        let master = start.master.as_ref().map(|one| format!(" --master {one}"));
        let program = format!("{}{}", program.display(), master.unwrap_or_default());
        SparkError::NotStarted { program, status, said: self.last_words() }
    }

    /// Asks a question and hands over the lines of its answer.
    ///
    /// # Errors
    /// When Spark ended, or could not answer.
    pub fn ask(&mut self, question: &Value, each: &mut dyn FnMut(&str)) -> Result<(), SparkError> {
        let written = self.lines.as_mut().map(|lines| {
            let mut line = question.to_string();
            line.push('\n');
            lines.get_mut().write_all(line.as_bytes())
        });
        match written {
            Some(Ok(())) => self.answer(each),
            _ => Err(self.ended()),
        }
    }

    /// Reads an answer.
    fn answer(&mut self, each: &mut dyn FnMut(&str)) -> Result<(), SparkError> {
        let mut line = String::new();
        while let Some(lines) = &mut self.lines {
            line.clear();
            match lines.read_line(&mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
            match line.trim_end_matches('\n') {
                "." => return Ok(()),
                text => match text.strip_prefix('!') {
                    // A message that is no JSON is shown as it came.
                    Some(error) => return Err(failed(&text_of(error).unwrap_or(error.to_owned()))),
                    None => each(text),
                },
            }
        }
        Err(self.ended())
    }

    fn ended(&mut self) -> SparkError {
        self.lines = None;
        let deadline = Instant::now() + END;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        SparkError::Ended { said: self.last_words() }
    }

    /// The lines that say what went wrong, or the last ones.
    fn last_words(&self) -> String {
        // The thread that listens may be a little behind.
        thread::sleep(LOOK);
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_telling = |line: &&String| {
            let line = line.trim_start();
            ["rror:", "rror ", "Exception", "not found", "No such"]
                .iter()
                .any(|one| line.contains(one))
                && !line.starts_with("at ")
        };
        let mut lines: Vec<&String> = said.iter().filter(is_telling).take(5).collect();
        if lines.is_empty() {
            lines = said.iter().rev().take(5).collect();
            lines.reverse();
        }
        lines.iter().map(|line| format!("\n  {}", line.trim())).collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.lines = None;
        let deadline = Instant::now() + END;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                // Its last words are no longer of use; what hinders either, nobody can help.
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            thread::sleep(LOOK);
        }
    }
}

/// Keeps the last lines that Spark says, and passes on what a user should know at once.
fn listen(pipe: PipeReader) -> Arc<Mutex<VecDeque<String>>> {
    let said = Arc::new(Mutex::new(VecDeque::new()));
    let kept = Arc::clone(&said);
    thread::spawn(move || {
        let mut is_starving = false;
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if progress::is_verbose() {
                anstream::eprintln!("spark: {}", shown::message(&line));
            } else if line.contains(STARVING) && !is_starving {
                is_starving = true;
                anstream::eprintln!(
                    "warning: Spark waits for executors: are there workers with free processors and memory?"
                );
            }
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    });
    said
}

/// A job's failure in few words.
fn failed(said: &str) -> SparkError {
    let is_of_input = ["PATH_NOT_FOUND", "Path does not exist", "FAILED_READ_FILE", "FileNotFound"]
        .iter()
        .any(|one| said.contains(one));
    // Frames of Java and plans of queries follow.
    let lines: Vec<_> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("at "))
        .take(3)
        .collect();
    SparkError::Job { said: lines.join("\n  "), is_of_input }
}

/// A line of an answer that is a text in JSON.
///
/// # Errors
/// When it is something else.
pub fn text_of(line: &str) -> Result<String, SparkError> {
    serde_json::from_str(line)
        .map_err(|error| SparkError::Answer { what: format!("no text: {error}") })
}
