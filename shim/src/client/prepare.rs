//! The tracer is made, where the settings ask for it.

use crate::{
    base::{
        sys,
        tracer::{self, Chosen},
    },
    client::requests::SHIM,
    process::{self, Extent, settings::memory_shares},
    record::threads,
};
use alloc::boxed::Box;
use conf::settings::Tracer;
use engine::Limits;
use records::{MetricSet, notice};

/// The name in the settings of the tracer that this library is built with.
const OWN: Tracer = if cfg!(feature = "gum") { Tracer::Gum } else { Tracer::Engine };

/// Makes the engine where the settings ask for it. Before the first record file, whose header names the tracer.
pub fn prepare() {
    let identity = process::identity();
    if identity.settings.tracer == Tracer::None
        || identity.metrics.intersection(MetricSet::ENGINE).is_empty()
    {
        return;
    }
    if identity.settings.tracer != OWN {
        return unavailable("this library is built without that tracer");
    }
    #[cfg(feature = "gum")]
    if let Some(why) = crate::hooks::gum::refusal() {
        return unavailable(why);
    }
    if sys::is_simulated() {
        return unavailable("Valgrind runs the program");
    }
    #[cfg(feature = "faults")]
    arm_fault();
    let memory = memory_shares(&identity.settings).1;
    match Chosen::new(&SHIM, Limits { memory, from_start: process::extent() == Extent::Everything })
    {
        Some(made) => tracer::publish(Box::leak(Box::new(made))),
        None => unavailable("the kernel refuses memory"),
    }
}

/// The fault that the environment asks for.
#[cfg(feature = "faults")]
fn arm_fault() {
    use crate::base::file;
    const LARGEST_ENVIRONMENT: usize = 1 << 20;
    let environment = file::read_file(c"/proc/self/environ", LARGEST_ENVIRONMENT);
    let environment = environment.unwrap_or_default();
    let asked = environment
        .split(|&byte| byte == 0)
        .filter_map(|one| core::str::from_utf8(one).ok()?.strip_prefix("SPARKANALYZER_FAULT="))
        .find_map(|asked| asked.split_once(':'));
    if let Some((name, every)) = asked
        && !every.parse().is_ok_and(|every| engine::failpoints::arm(name, every))
    {
        unavailable("SPARKANALYZER_FAULT names no fault");
    }
}

fn unavailable(why: &str) {
    threads::notice(notice::ENGINE_UNAVAILABLE, 0, format_args!("{why}"));
}
