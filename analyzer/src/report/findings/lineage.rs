//! The rule on recomputation: the same lineage executed again in a later job.

use std::collections::{BTreeMap, BTreeSet};

use records::metric::INSTRUCTIONS;

use crate::input::eventlog::{Operator, Rdd};
use crate::report::figure::{Figure, Scale};
use crate::report::findings::facts::{Facts, Stage};
use crate::report::findings::rules::{Gain, Unweighed};
use crate::report::rows::{Said, total_known};
use crate::report::stage_names::{is_exchange, is_written};
use crate::report::words::{human, stage_text};

/// Part of all instructions of tasks, or of all task time, in percent.
const PART: u64 = 2;

/// Applies the rule.
pub fn find(facts: &Facts<'_>, found: &mut Vec<Unweighed>) {
    // What is computed again -> the jobs' stages that compute it, in order.
    let mut by_lineage: BTreeMap<String, Vec<(i64, &Stage<'_>)>> = BTreeMap::new();
    for stage in &facts.stages {
        // A second attempt computes again what was lost.
        if stage.id.1.unwrap_or(0) > 0 {
            continue;
        }
        let Some((job, of_job)) = facts.answer.logs.first_job(facts.application, stage.id.0) else {
            continue;
        };
        let application = facts.application.to_owned();
        let query = of_job.query.map(|query| (application, query));
        let plan = query
            .as_ref()
            .and_then(|key| facts.answer.logs.queries.get(key))
            .and_then(|query| query.plan.as_ref());
        match (plan, query) {
            (Some(plan), Some((_, query))) => {
                let mut lineages = BTreeSet::new();
                leaves(plan, stage, &mut lineages);
                for lineage in lineages {
                    by_lineage.entry(lineage).or_default().push((query, stage));
                }
            }
            _ => {
                let rdds = stage.log.map(|log| log.rdds.as_slice()).unwrap_or_default();
                for rdd in computed(rdds) {
                    by_lineage.entry(rdd).or_default().push((job, stage));
                }
            }
        }
    }
    // Several RDDs or operators of the same stages are one finding: that with the longest lineage.
    let mut seen: BTreeSet<Vec<(i64, Option<i64>)>> = BTreeSet::new();
    for (lineage, mut all) in by_lineage.into_iter().rev() {
        all.sort_by_key(|(job, stage)| (*job, stage.id));
        // Within a job or query Spark itself decides: samples of a range exchange are of one query.
        all.dedup_by_key(|(job, _)| *job);
        if all.len() < 2 {
            continue;
        }
        let stages: Vec<_> = all.iter().map(|(_, stage)| stage.id).collect();
        if seen.contains(&stages) {
            continue;
        }
        if let Some(one) = weigh(facts, &lineage, &all) {
            seen.insert(stages);
            found.push(one);
        }
    }
}

fn weigh(facts: &Facts<'_>, lineage: &str, all: &[(i64, &Stage<'_>)]) -> Option<Unweighed> {
    let again = &all[1..];
    let work = |stage: &Stage<'_>| match stage.row.said(Figure::Metric(INSTRUCTIONS)) {
        Said::Exactly(value) => Some(value),
        Said::AtLeast(_) | Said::Unknown => None,
    };
    let instructions = total_known(again.iter().map(|(_, stage)| work(stage)));
    let spent = total_known(again.iter().map(|(_, stage)| stage.wall_ms()));
    let task_ms = total_known(again.iter().map(|(_, stage)| stage.task_ms()));
    let whole_ms = total_known(facts.stages.iter().map(Stage::task_ms));
    let is_part = |part: u64, whole: u64| {
        whole > 0 && u128::from(part) * 100 >= u128::from(whole) * u128::from(PART)
    };
    let is_large = match instructions.zip(facts.instructions) {
        Some((part, whole)) => is_part(part, whole),
        None => is_part(task_ms?, whole_ms?),
    };
    if !is_large {
        return None;
    }
    let names: Vec<_> = all
        .iter()
        .map(|(_, stage)| {
            let text = stage_text(stage.id.0, stage.id.1);
            match work(stage) {
                Some(work) => format!("{text} ({} instructions)", human(work, Scale::Count)),
                None => text,
            }
        })
        .collect();
    let what = lineage.rsplit(LINE).next().unwrap_or(lineage);
    let what: String = what.chars().take(80).collect();
    let evidence = format!("stages {} compute the same: {what}", names.join(" and "));
    let gain = Gain { ms: spent, instructions };
    let stages = all.iter().map(|(_, stage)| stage.id).collect();
    Some(Unweighed { rule: "recomputation", stages, evidence, gain })
}

/// Between the operators of a lineage.
const LINE: char = '\n';

/// The RDDs that a stage computes and that a later one could have had: not those that are kept or come from one that
/// is, and not what a shuffle gave.
fn computed(rdds: &[Rdd]) -> Vec<String> {
    let of = |id: i64| rdds.iter().find(|rdd| rdd.id == id);
    fn is_kept_after(rdd: &Rdd, rdds: &[Rdd]) -> bool {
        rdd.is_cached
            || rdds
                .iter()
                .filter(|one| one.parents.contains(&rdd.id))
                .any(|one| is_kept_after(one, rdds))
    }
    fn comes_from_kept(rdd: &Rdd, rdds: &[Rdd]) -> bool {
        rdds.iter()
            .filter(|one| rdd.parents.contains(&one.id))
            .any(|one| one.is_cached || comes_from_kept(one, rdds))
    }
    rdds.iter()
        // A source alone is read again wherever it is used: what was made of it is what could be kept.
        .filter(|rdd| !rdd.parents.is_empty() && rdd.parents.iter().all(|id| of(*id).is_some()))
        .filter(|rdd| !is_kept_after(rdd, rdds) && !comes_from_kept(rdd, rdds))
        .map(|rdd| {
            let site = rdd.call_site.as_deref().or(rdd.scope.as_deref()).unwrap_or(&rdd.name);
            format!("{:020}{LINE}RDD {} {} ({site})", rdd.id, rdd.id, rdd.name)
        })
        .collect()
}

/// The lineages from scans to each operator of a stage that does more than scan; longer ones sort behind shorter ones.
fn leaves(operator: &Operator, stage: &Stage<'_>, lineages: &mut BTreeSet<String>) {
    for child in &operator.children {
        leaves(child, stage, lineages);
    }
    let Some(log) = stage.log.filter(|log| log.metrics.has_any_of(operator)) else { return };
    let mut lines = Vec::new();
    if !lineage(std::slice::from_ref(operator), log, &mut lines) || lines.len() < 2 {
        return;
    }
    let names: Vec<_> = lines.iter().map(|(_, name)| name.as_str()).collect();
    let exact: Vec<_> = lines.iter().map(|(detail, _)| detail.as_str()).collect();
    lineages.insert(format!(
        "{:06}{}{LINE}{}",
        lines.len(),
        exact.join("\u{1}").replace(LINE, " "),
        names.join(" > ")
    ));
}

/// Whether all that is below comes from scans in this stage; collects operators with their details, without numbers that
/// each query has of its own.
fn lineage(
    operators: &[Operator],
    stage: &super::super::logs::StageFacts,
    lines: &mut Vec<(String, String)>,
) -> bool {
    operators.iter().all(|operator| {
        // What is kept comes from memory; what a shuffle or a broadcast gave was computed elsewhere.
        if operator.node.starts_with("InMemoryTableScan")
            || (is_exchange(operator) && !is_written(operator, stage))
        {
            return false;
        }
        if operator.node.contains("Broadcast") && operator.node.contains("Exchange") {
            lines.push((without_numbers(&operator.detail), "broadcast".into()));
            return true;
        }
        if !lineage(&operator.children, stage, lines) {
            return false;
        }
        let is_named =
            stage.metrics.has_any_of(operator) && !operator.node.starts_with("WholeStage");
        let name = super::super::stage_names::label(operator).text;
        let place = operator.place.as_deref().unwrap_or_default();
        let detail = format!("{}{place}", without_numbers(&operator.detail));
        if operator.node.starts_with("Scan ") || is_named {
            lines.push((detail, name));
        }
        true
    })
}

/// A detail without the numbers of expressions and plans: `count#8L` is `count`, `[plan_id=31]` is `[plan_id=]`.
fn without_numbers(detail: &str) -> String {
    let mut text = String::with_capacity(detail.len());
    let mut rest = detail.chars().peekable();
    while let Some(one) = rest.next() {
        text.push(one);
        if one == '#' || text.ends_with("plan_id=") {
            while rest.next_if(char::is_ascii_digit).is_some() {}
            if one == '#' {
                rest.next_if(|next| *next == 'L');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_query_are_no_difference() {
        assert_eq!(
            without_numbers("Filter (a#12L > 3), x#7 [plan_id=56]"),
            "Filter (a# > 3), x# [plan_id=]"
        );
    }

    #[test]
    fn what_is_kept_is_not_computed_again() {
        let rdd = |id, parents: &[i64], is_cached| Rdd {
            id,
            name: format!("r{id}"),
            parents: parents.to_vec(),
            is_cached,
            ..Rdd::default()
        };
        let ids = |rdds: &[Rdd]| -> Vec<String> {
            computed(rdds).iter().map(|text| text.split(LINE).nth(1).unwrap().to_owned()).collect()
        };
        let plain = [rdd(0, &[], false), rdd(1, &[0], false), rdd(2, &[1], false)];
        assert_eq!(ids(&plain), ["RDD 1 r1 (r1)", "RDD 2 r2 (r2)"]);
        let kept = [rdd(0, &[], false), rdd(1, &[0], true), rdd(2, &[1], false)];
        assert_eq!(ids(&kept), [""; 0], "what follows the kept one costs little");
        let shuffled = [rdd(5, &[4], false), rdd(6, &[5], false)];
        assert_eq!(ids(&shuffled), ["RDD 6 r6 (r6)"], "a shuffle gave the first");
    }
}
