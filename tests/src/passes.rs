//! What passes of a program cost, by the oracle and by us: three passes minus one, so that start-up and end
//! cancel.

use std::path::Path;

use crate::artifacts::Artifacts;
use crate::run::{self, Tracing};
use crate::stepper::{self, Count, Start};

/// The counts of three passes minus those of one: the start-up cancels; `preload` is loaded too.
///
/// # Errors
/// A line that says what went wrong.
pub fn stepped_difference(program: &Path, preload: Option<&Path>) -> Result<Count, String> {
    let mut counts = Vec::new();
    for n in ["1", "3"] {
        let native = run::native(program, &[n])?;
        let stepped = stepper::count_with(program, &[n], Start::Symbol("sa_begin"), preload)?;
        if !native.status.success() || !stepped.status.success() {
            return Err(format!("native {:?}, stepped {:?}", native.status, stepped.status));
        }
        if native.captured != stepped.captured {
            return Err("prints something else when stepped: the oracle disturbs it".to_owned());
        }
        counts.push(stepped.count);
    }
    Ok(counts[1].minus(&counts[0]))
}

/// What `analyzer trace` counts for three passes minus one, after checking output, status, completeness.
///
/// # Errors
/// A line that says what differs.
pub fn traced_difference(artifacts: &Artifacts, program: &Path) -> Result<Count, String> {
    let mut counts = Vec::new();
    for n in ["1", "3"] {
        let native = run::native(program, &[n])?;
        let traced = Tracing::default().run(artifacts, program, &[n])?;
        if traced.status.code() != native.status.code() {
            return Err(format!(
                "n={n}: native {:?}, traced {:?}: {}",
                native.status,
                traced.status,
                String::from_utf8_lossy(&traced.captured.stderr)
            ));
        }
        if traced.captured.stdout != native.captured.stdout {
            return Err(format!("n={n}: prints something else when traced"));
        }
        if !traced.complete() {
            return Err(format!("n={n}: not complete: {:#}", traced.json["processes"]));
        }
        counts.push(Count::of(|metric| traced.total(metric)));
    }
    Ok(counts[1].minus(&counts[0]))
}
