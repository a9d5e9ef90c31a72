//! Rules on the application as a whole.

use std::collections::BTreeMap;

use records::metric::INSTRUCTIONS;

use crate::report::figure::{Figure, Scale};
use crate::report::findings::facts::{Facts, exact, spark};
use crate::report::findings::rules::{Gain, Unweighed};
use crate::report::rows::{Said, between, total, total_known};
use crate::report::spread::median;
use crate::report::task_facts::TaskFact;
use crate::report::words::{human, stage_text};

fn count(value: u64) -> String {
    human(value, Scale::Count)
}

fn time(ms: u64) -> String {
    human(ms, Scale::Milliseconds)
}

fn is_percent(part: u64, whole: u64, percent: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100 / u128::from(whole.max(1))) as u64
}

/// Applies the rules.
pub fn find(facts: &Facts<'_>, found: &mut Vec<Unweighed>) {
    found.extend(slow_nodes(facts));
    found.extend(warm_up(facts));
    found.extend(wasted_work(facts));
    found.extend(python_share(facts));
    found.extend(idle_cores(facts));
    found.extend(outside_tasks(facts));
}

/// A task's time without what it waited for.
fn own_ms(task: &TaskFact) -> Option<u64> {
    let waits = ["gc_time_ms", "shuffle_fetch_wait_ms"].map(|name| task.spark(spark(name)));
    let run = task.spark(spark("run_time_ms"))?;
    Some(run.saturating_sub(total(waits.into_iter().flatten())))
}

/// What is slow about a node.
struct Slow {
    /// Time of its tasks beyond the others', in ms.
    more: u64,
    stages: Vec<(i64, Option<i64>)>,
    example: String,
}

fn slow_nodes(facts: &Facts<'_>) -> Vec<Unweighed> {
    const FEWEST: usize = 3;
    const FACTOR: u64 = 150;
    const LIKE: u64 = 25;
    const PART: u64 = 5;
    let Some(names) = facts.task_names() else { return Vec::new() };
    let mut slow: BTreeMap<u32, Slow> = BTreeMap::new();
    for stage in &facts.stages {
        let later: Vec<&TaskFact> =
            stage.useful().filter(|task| !facts.first.contains(&task.task)).collect();
        let Some(usual) = median(later.iter().filter_map(|task| task.instructions()).collect())
        else {
            continue;
        };
        let is_alike = |task: &&&TaskFact| {
            task.instructions()
                .is_some_and(|work| work.abs_diff(usual) <= usual / 100 * LIKE && work > 0)
        };
        let mut nodes: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for task in later.iter().filter(is_alike) {
            if let Some((node, ms)) = task.node.zip(own_ms(task)) {
                nodes.entry(node).or_default().push(ms);
            }
        }
        for (node, times) in &nodes {
            let others = nodes.iter().filter(|(other, _)| *other != node);
            let others: Vec<u64> = others.flat_map(|(_, times)| times.iter().copied()).collect();
            if times.len() < FEWEST || others.len() < FEWEST {
                continue;
            }
            let (Some(own), Some(usual)) = (median(times.clone()), median(others)) else {
                continue;
            };
            if usual == 0 || !is_percent(own, usual, FACTOR) {
                continue;
            }
            let more: u64 = total(times.iter().map(|ms| ms.saturating_sub(usual)));
            let example = format!(
                "stage {}: {} there, {} elsewhere (medians, like work)",
                stage_text(stage.id.0, stage.id.1),
                time(own),
                time(usual)
            );
            let entry =
                slow.entry(*node).or_insert_with(|| Slow { more: 0, stages: Vec::new(), example });
            entry.more = entry.more.saturating_add(more);
            entry.stages.push(stage.id);
        }
    }
    let mut found = Vec::new();
    for (node, Slow { more, stages, example }) in slow {
        let cores = facts
            .executors
            .iter()
            .filter(|(_, one)| one.host.as_deref() == Some(names.name(node)))
            .filter_map(|(_, one)| u64::try_from(one.cores?).ok());
        let gain = more / total(cores).max(1);
        if facts.is_part(gain, PART) {
            let evidence = format!("node {}: {example}", names.name(node));
            let gain = Gain { ms: Some(gain), instructions: None };
            found.push(Unweighed { rule: "slow_node", stages, evidence, gain });
        }
    }
    found
}

fn warm_up(facts: &Facts<'_>) -> Option<Unweighed> {
    const PART: u64 = 10;
    let records = |task: &TaskFact| {
        let read = ["input_records", "shuffle_read_records"].map(|name| task.spark(spark(name)));
        read.iter().any(Option::is_some).then(|| total(read.into_iter().flatten()))
    };
    let (mut more, mut tasks, mut stages, mut example) = (0_u64, 0_u64, Vec::new(), None);
    for stage in &facts.stages {
        let is_first = |task: &&TaskFact| facts.first.contains(&task.task);
        let later: Vec<&TaskFact> = stage.useful().filter(|task| !is_first(task)).collect();
        let works: Vec<u64> = later.iter().filter_map(|task| task.instructions()).collect();
        // A few later ones show what it takes.
        if works.len() < 3 {
            continue;
        }
        let usual = median(works)?;
        let rows = median(later.iter().filter_map(|task| records(task)).collect());
        for task in stage.useful().filter(is_first) {
            let Some(work) = task.instructions() else { continue };
            // More data take more work: that is no warm-up.
            let by_data = match records(task).zip(rows).filter(|(_, rows)| *rows > 0) {
                Some((own, rows)) => {
                    (u128::from(usual) * u128::from(own.max(rows)) / u128::from(rows)) as u64
                }
                None => usual,
            };
            let own = work.saturating_sub(by_data);
            if own > 0 {
                example.get_or_insert_with(|| {
                    format!(
                        "task {} executed {} instructions, later tasks of its stage {} (median)",
                        task.task,
                        count(work),
                        count(usual)
                    )
                });
                more = more.saturating_add(own);
                tasks += 1;
                if !stages.contains(&stage.id) {
                    stages.push(stage.id);
                }
            }
        }
    }
    let whole = facts.instructions?;
    if !is_percent(more, whole, PART) {
        return None;
    }
    let evidence = format!(
        "{tasks} first tasks of executors executed {} instructions beyond later ones, {} % of all; {}",
        count(more),
        percent(more, whole),
        example?
    );
    let gain = Gain { ms: None, instructions: Some(more) };
    Some(Unweighed { rule: "warm_up", stages, evidence, gain })
}

fn wasted_work(facts: &Facts<'_>) -> Option<Unweighed> {
    let (mut failed, mut killed, mut in_vain) = (0_u64, 0_u64, 0_u64);
    let (mut work, mut spent, mut stages) = (Some(0_u64), 0_u64, Vec::new());
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for stage in &facts.stages {
        for task in stage.tasks.iter().filter(|task| !task.has_succeeded()) {
            match (task.failed, task.speculative) {
                (Some(true), _) => failed += 1,
                (_, true) => in_vain += 1,
                _ => killed += 1,
            }
            work = work.zip(task.instructions()).map(|(sum, one)| sum.saturating_add(one));
            spent = spent.saturating_add(task.duration().unwrap_or(0));
            if !stages.contains(&stage.id) {
                stages.push(stage.id);
            }
            if let Some(reason) = &task.failure {
                *reasons.entry(reason).or_default() += 1;
            }
        }
    }
    if failed + killed + in_vain == 0 {
        return None;
    }
    let named = [(failed, "failed"), (killed, "killed"), (in_vain, "speculative in vain")];
    let named: Vec<_> = named
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let tasks = if failed + killed + in_vain == 1 { "task" } else { "tasks" };
    let mut evidence = format!("{tasks}: {} took {}", named.join(", "), time(spent));
    if let Some(work) = work {
        evidence.push_str(&format!(" and {} instructions", count(work)));
    }
    if let Some((reason, _)) = reasons.iter().max_by_key(|(_, count)| **count) {
        let reason: String = reason.chars().take(160).collect();
        evidence.push_str(&format!("; {reason}"));
    }
    let gain =
        Gain { ms: Some(facts.on_all_cores(spent)), instructions: work.filter(|work| *work > 0) };
    Some(Unweighed { rule: "wasted_work", stages, evidence, gain })
}

fn python_share(facts: &Facts<'_>) -> Option<Unweighed> {
    const PART: u64 = 30;
    let python = exact(&facts.in_tasks, "python_instructions").filter(|python| *python > 0)?;
    let whole = facts.instructions?;
    if !is_percent(python, whole, PART) {
        return None;
    }
    let of = |stage: &&super::facts::Stage<'_>| {
        exact(&stage.row, "python_instructions").is_some_and(|python| python > 0)
    };
    let stages: Vec<_> = facts.stages.iter().filter(of).map(|stage| stage.id).collect();
    let evidence = format!(
        "{} of {} instructions ({} %) are Python workers'",
        count(python),
        count(whole),
        percent(python, whole)
    );
    let gain = Gain { ms: None, instructions: Some(python) };
    Some(Unweighed { rule: "python_share", stages, evidence, gain })
}

fn idle_cores(facts: &Facts<'_>) -> Option<Unweighed> {
    const USED: u64 = 40;
    const LEAST_MS: u64 = 10_000;
    let end = facts.app?.ended_ms?;
    let mut held = 0_u64;
    for (_, one) in &facts.executors {
        let Some(cores) = one.cores.and_then(|cores| u64::try_from(cores).ok()) else { continue };
        let life = between(one.added_ms?, one.removed_ms.unwrap_or(end).min(end)).unwrap_or(0);
        held = held.saturating_add(cores.saturating_mul(life));
    }
    let used = total_known(facts.stages.iter().map(super::facts::Stage::task_ms))?;
    if facts.wall_ms? < LEAST_MS || held == 0 || is_percent(used, held, USED) {
        return None;
    }
    let evidence = format!(
        "tasks used {} of {} core time ({} %) that executors held",
        time(used),
        time(held),
        percent(used, held)
    );
    // Fewer cores would not make it shorter; who waits for them would have them.
    Some(Unweighed { rule: "idle_cores", stages: Vec::new(), evidence, gain: Gain::default() })
}

fn outside_tasks(facts: &Facts<'_>) -> Option<Unweighed> {
    const PART: u64 = 60;
    let of = |row: &super::super::rows::Row| match row.said(Figure::Metric(INSTRUCTIONS)) {
        Said::Exactly(value) => Some(value),
        Said::AtLeast(_) | Said::Unknown => None,
    };
    let (outside, inside) = (of(&facts.outside)?, of(&facts.in_tasks)?);
    let whole = outside.checked_add(inside).filter(|whole| *whole > 0)?;
    if inside == 0 || !is_percent(outside, whole, PART) {
        return None;
    }
    let evidence = format!(
        "{} of {} instructions ({} %) are outside tasks",
        count(outside),
        count(whole),
        percent(outside, whole)
    );
    let gain = Gain { ms: None, instructions: Some(outside) };
    Some(Unweighed { rule: "outside_tasks", stages: Vec::new(), evidence, gain })
}
