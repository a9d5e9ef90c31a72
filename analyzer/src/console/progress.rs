//! How much is said on standard error besides warnings and errors: --quiet, --verbose, bars.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

static IS_QUIET: AtomicBool = AtomicBool::new(false);
static IS_VERBOSE: AtomicBool = AtomicBool::new(false);

/// Steps that take less show no bar.
const PATIENCE: Duration = Duration::from_millis(300);

/// Makes what the command line says hold for the process.
pub fn apply(quiet: bool, verbose: bool) {
    IS_QUIET.store(quiet, Ordering::Relaxed);
    IS_VERBOSE.store(verbose, Ordering::Relaxed);
}

/// Whether only warnings and errors are wanted.
pub fn is_quiet() -> bool {
    IS_QUIET.load(Ordering::Relaxed)
}

/// Whether everything is wanted.
pub fn is_verbose() -> bool {
    IS_VERBOSE.load(Ordering::Relaxed)
}

/// A bar's looks. The templates are constants; a wrong one only costs the looks.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A part of a command's work: a bar on a terminal if it takes long, a line when it has ended with --verbose.
pub struct Step {
    bar: ProgressBar,
    what: String,
    began: Instant,
}

impl Step {
    /// Work of unknown length.
    pub fn begin(what: &str) -> Step {
        Step::with(what, ProgressBar::new_spinner().with_style(style("{spinner} {msg} {elapsed}")))
    }

    /// Work on so many things.
    pub fn of(what: &str, length: usize) -> Step {
        let looks = style("{spinner} {msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}");
        Step::with(what, ProgressBar::new(length as u64).with_style(looks))
    }

    fn with(what: &str, bar: ProgressBar) -> Step {
        let bar = if is_quiet() { ProgressBar::hidden() } else { bar };
        Step {
            bar: bar.with_message(what.to_owned()),
            what: what.to_owned(),
            began: Instant::now(),
        }
    }

    /// So many things are done.
    pub fn advance(&self, to: usize) {
        // indicatif draws on standard error, only if that is a terminal, and not at each call.
        if self.began.elapsed() >= PATIENCE {
            self.bar.set_position(to as u64);
        }
    }

    /// It has ended with this.
    pub fn end(self, result: &str) {
        self.bar.finish_and_clear();
        if is_verbose() {
            let seconds = self.began.elapsed().as_secs_f64();
            anstream::eprintln!("{}: {result}, {seconds:.2} s", self.what);
        }
    }
}
