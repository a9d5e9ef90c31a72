//! Findings: what is wrong with an application, by rules over exact counts and Spark's own figures.
//!
//! A finding names its evidence, what can be done about it, and how much would be gained at most. The list is sorted by that. Each
//! rule has a threshold, which stands in [`rules::RULES`] for people, and in the rule's code as a constant. No finding is better than a
//! wrong one: a rule that lacks a figure says nothing.

mod application;
pub mod facts;
mod lineage;
pub mod rules;
mod stage;

use facts::Facts;
use rules::{Finding, Rule};

/// What is wrong with an application, what costs most first.
pub fn find(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    stage::find(facts, &mut found);
    application::find(facts, &mut found);
    lineage::find(facts, &mut found);
    let mut findings: Vec<_> = found
        .into_iter()
        .map(|one| {
            let of = |part: Option<u64>, whole: Option<u64>| {
                let (part, whole) = (part?, whole.filter(|whole| *whole > 0)?);
                u64::try_from(u128::from(part) * 1000 / u128::from(whole)).ok()
            };
            let share = of(one.gain.ms, facts.wall_ms)
                .or_else(|| of(one.gain.instructions, facts.instructions))
                .unwrap_or(0)
                .min(1000);
            let (rule, stages) = (Rule::named(one.rule), one.stages);
            Finding { rule, stages, evidence: one.evidence, gain: one.gain, share }
        })
        .collect();
    findings.sort_by(|one, other| {
        (other.share, one.rule.name, &one.stages).cmp(&(one.share, other.rule.name, &other.stages))
    });
    findings
}
