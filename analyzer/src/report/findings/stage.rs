//! Rules on single stages.

use records::metric::INSTRUCTIONS;

use crate::input::eventlog::Operator;
use crate::report::figure::{Figure, Scale};
use crate::report::findings::facts::{Facts, Stage, spark};
use crate::report::findings::rules::{Gain, Unweighed};
use crate::report::rows::{Said, total};
use crate::report::spread::median;
use crate::report::stage_names::is_exchange;
use crate::report::task_facts::TaskFact;
use crate::report::words::human;

fn count(value: u64) -> String {
    human(value, Scale::Count)
}

fn bytes(value: u64) -> String {
    human(value, Scale::Bytes)
}

fn time(ms: u64) -> String {
    human(ms, Scale::Milliseconds)
}

/// `part` is at least so many percent of `whole`.
fn is_percent(part: u64, whole: u64, percent: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100 / u128::from(whole.max(1))) as u64
}

/// Applies the rules to all stages.
pub fn find(facts: &Facts<'_>, found: &mut Vec<Unweighed>) {
    for stage in &facts.stages {
        let rules: [fn(&Facts<'_>, &Stage<'_>) -> Option<Unweighed>; 11] = [
            data_skew,
            gc_pressure,
            fetch_wait,
            tiny_tasks,
            spill,
            small_io,
            small_shuffle_blocks,
            contention,
            unbalanced_executors,
            locality_misses,
            under_partitioned,
        ];
        found.extend(rules.iter().filter_map(|rule| rule(facts, stage)));
    }
    found.extend(small_files(facts));
}

/// A finding on a stage.
fn on(stage: &Stage<'_>, rule: &'static str, evidence: String, gain: Gain) -> Option<Unweighed> {
    Some(Unweighed { rule, stages: vec![stage.id], evidence, gain })
}

fn ms(ms: u64) -> Gain {
    Gain { ms: Some(ms), instructions: None }
}

/// The medians of the tasks that succeeded and are not the first on their executors.
fn middle(
    facts: &Facts<'_>,
    stage: &Stage<'_>,
    value: &dyn Fn(&TaskFact) -> Option<u64>,
) -> Option<u64> {
    let later = stage.useful().filter(|task| !facts.first.contains(&task.task));
    median(later.filter_map(value).collect())
        .or_else(|| median(stage.useful().filter_map(value).collect()))
}

fn records(task: &TaskFact) -> Option<u64> {
    let read = [spark("input_records"), spark("shuffle_read_records")].map(|at| task.spark(at));
    read.iter().any(Option::is_some).then(|| total(read.into_iter().flatten()))
}

fn read_bytes(task: &TaskFact) -> Option<u64> {
    let read = [spark("input_bytes"), spark("shuffle_read_bytes")].map(|at| task.spark(at));
    read.iter().any(Option::is_some).then(|| total(read.into_iter().flatten()))
}

fn data_skew(facts: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    const FEWEST: usize = 4;
    const FACTOR: u64 = 200;
    const WORK: u64 = 150;
    const OF_MEAN: u64 = 300;
    const LEAST_MS: u64 = 100;
    const PART: u64 = 5;
    if stage.useful().count() < FEWEST {
        return None;
    }
    let usual = middle(facts, stage, &TaskFact::duration)?;
    let worst = stage.useful().max_by_key(|task| task.duration())?;
    let longest = worst.duration()?;
    let gain = longest.checked_sub(usual)?;
    if !is_percent(longest, usual, FACTOR)
        || gain < LEAST_MS
        || !is_percent(gain, stage.wall_ms()?, PART)
    {
        return None;
    }
    let is_more = |value: Option<u64>, usual: Option<u64>| {
        value.zip(usual).map(|(value, usual)| usual > 0 && is_percent(value, usual, WORK))
    };
    let (work, usual_work) = (worst.instructions(), middle(facts, stage, &TaskFact::instructions));
    // An executor's first task executes far more for the same data.
    let has_more_work = is_more(work, usual_work);
    let (rows, usual_rows) = (records(worst), middle(facts, stage, &records));
    let (read, usual_read) = (read_bytes(worst), middle(facts, stage, &read_bytes));
    // Where half of the partitions are empty the median says nothing: the mean does.
    let has_more = |value: Option<u64>,
                    usual: Option<u64>,
                    of: &dyn Fn(&TaskFact) -> Option<u64>| match (value, usual) {
        (Some(value @ 1..), Some(0)) => {
            let all: Vec<u64> = stage.useful().filter_map(of).collect();
            let mean = total(all.iter().copied()) / (all.len() as u64).max(1);
            Some(is_percent(value, mean, OF_MEAN))
        }
        _ => is_more(value, usual),
    };
    let has_more_data =
        [has_more(rows, usual_rows, &records), has_more(read, usual_read, &read_bytes)];
    if has_more_work == Some(false) || !has_more_data.contains(&Some(true)) {
        return None;
    }
    let pair = |what: &str, value: Option<u64>, usual: Option<u64>, scale| {
        let (value, usual) = value.zip(usual)?;
        Some(format!("{} {what} (median {})", human(value, scale), human(usual, scale)))
    };
    let evidence = [
        pair("instructions", work, usual_work, Scale::Count),
        pair("records", rows, usual_rows, Scale::Count),
        pair("read", read, usual_read, Scale::Bytes),
    ];
    let evidence: Vec<_> = evidence.into_iter().flatten().collect();
    let evidence = format!(
        "task {} took {} (median {}): {}",
        worst.task,
        time(longest),
        time(usual),
        evidence.join(", ")
    );
    on(stage, "data_skew", evidence, ms(gain))
}

/// Run time of a stage's tasks and a part of it, both in ms, if the part is so large.
fn part_of_run_time(stage: &Stage<'_>, name: &str) -> Option<(u64, u64)> {
    const PART: u64 = 20;
    const LEAST_MS: u64 = 1000;
    let (run, part) = (stage.exact("spark_run_time_ms")?, stage.exact(name)?);
    (part >= LEAST_MS && is_percent(part, run, PART)).then_some((run, part))
}

fn gc_pressure(facts: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    let (run, gc) = part_of_run_time(stage, "spark_gc_time_ms")?;
    let evidence =
        format!("GC took {} of {} run time ({} %)", time(gc), time(run), percent(gc, run));
    on(stage, "gc_pressure", evidence, ms(facts.on_all_cores(gc)))
}

fn fetch_wait(facts: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    let (run, wait) = part_of_run_time(stage, "spark_shuffle_fetch_wait_ms")?;
    let remote = stage.exact("spark_shuffle_read_remote_bytes").unwrap_or(0);
    let evidence = format!(
        "tasks waited {} of {} run time ({} %) for {} from other executors",
        time(wait),
        time(run),
        percent(wait, run),
        bytes(remote)
    );
    on(stage, "fetch_wait", evidence, ms(facts.on_all_cores(wait)))
}

fn tiny_tasks(facts: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    const FEWEST: u64 = 8;
    const RUN_MS: u64 = 50;
    const OVERHEAD: u64 = 50;
    let tasks = stage.tasks.len() as u64;
    let cores = facts.cores?;
    if tasks < FEWEST || tasks / 2 < cores {
        return None;
    }
    let run = |task: &TaskFact| task.spark(spark("run_time_ms"));
    let usual = middle(facts, stage, &run)?;
    let (whole, run) = (stage.task_ms()?, stage.exact("spark_run_time_ms")?);
    let overhead = whole.checked_sub(run)?;
    if usual >= RUN_MS || !is_percent(overhead, whole, OVERHEAD) {
        return None;
    }
    let evidence = format!(
        "{tasks} tasks on {cores} cores run {} each (median); {} of their {} are start, scheduling and results",
        time(usual),
        time(overhead),
        time(whole)
    );
    // As many tasks as cores would remain.
    let gain = overhead - (u128::from(overhead) * u128::from(cores) / u128::from(tasks)) as u64;
    on(stage, "tiny_tasks", evidence, ms(facts.on_all_cores(gain)))
}

fn spill(_: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    const LEAST: u64 = 16 << 20;
    const PART: u64 = 10;
    let spilled = stage.exact("spark_disk_spilled_bytes").filter(|spilled| *spilled > 0)?;
    let read = ["spark_input_bytes", "spark_shuffle_read_bytes"].map(|name| stage.exact(name));
    let read = total(read.into_iter().flatten());
    if spilled < LEAST && !(read > 0 && is_percent(spilled, read, PART)) {
        return None;
    }
    let memory = stage.exact("spark_memory_spilled_bytes").unwrap_or(0);
    let mut evidence = format!("{} spilled to disk ({} in memory)", bytes(spilled), bytes(memory));
    if read > 0 {
        evidence.push_str(&format!(" for {} read", bytes(read)));
    }
    if let Some(peak) = stage.row.said(Figure::Spark(spark("peak_execution_memory_bytes"))).value()
    {
        evidence.push_str(&format!(", a task had {} at most", bytes(peak)));
    }
    // Who has spilled and who has not differ by more than that: nobody knows what it cost.
    on(stage, "spill", evidence, Gain::default())
}

fn small_io(_: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    const CALLS: u64 = 10_000;
    const BYTES: u64 = 4096;
    const PART: u64 = 10;
    let all = stage.exact("syscall_ns")?;
    let of = |op: &str| {
        let calls = stage.exact(&format!("file_{op}_calls"))?;
        let moved = stage.exact(&format!("file_{op}_bytes"))?;
        let ns = stage.exact(&format!("file_{op}_ns"))?;
        let is_small = calls >= CALLS && moved / calls < BYTES && is_percent(ns, all, PART);
        is_small.then_some((calls, moved, ns))
    };
    let found: Vec<_> =
        ["read", "write"].into_iter().filter_map(|op| Some((op, of(op)?))).collect();
    let ns = total(found.iter().map(|(_, (_, _, ns))| *ns));
    let texts: Vec<_> = found
        .iter()
        .map(|(op, (calls, moved, ns))| {
            format!(
                "{} {op}s of {} each, {} of system time",
                count(*calls),
                bytes(moved / calls),
                human(*ns, Scale::Nanoseconds)
            )
        })
        .collect();
    if texts.is_empty() {
        return None;
    }
    on(stage, "small_io", texts.join("; "), ms(ns / 1_000_000))
}

fn small_shuffle_blocks(facts: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    const BLOCKS: u64 = 10_000;
    const BYTES: u64 = 16 << 10;
    let read = stage.exact("spark_shuffle_read_bytes").filter(|read| *read > 0)?;
    let tasks = stage.useful().count() as u64;
    // Of the parents that ran: those that were skipped are copies of others, whose tasks the log does not name again.
    let parents = stage.log?.parents.iter();
    let of = |id: &i64| facts.stages.iter().find(|one| one.id.0 == *id);
    let maps: u64 = parents.filter_map(of).map(|one| one.useful().count() as u64).sum();
    let blocks = maps.checked_mul(tasks).filter(|blocks| *blocks >= BLOCKS)?;
    if read / blocks >= BYTES {
        return None;
    }
    let evidence = format!(
        "{maps} map tasks and {tasks} tasks exchange {} blocks of {} each",
        count(blocks),
        bytes(read / blocks)
    );
    let wait = stage.exact("spark_shuffle_fetch_wait_ms").unwrap_or(0);
    on(stage, "small_shuffle_blocks", evidence, ms(facts.on_all_cores(wait)))
}

fn barriers_per_million(stage: &Stage<'_>) -> Option<u64> {
    let (barriers, work) = (stage.exact("barriers")?, stage.exact("instructions")?);
    (work > 0).then(|| (u128::from(barriers) * 1_000_000 / u128::from(work)) as u64)
}

fn contention(facts: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    const FACTOR: u64 = 500;
    const LEAST_PER_MILLION: u64 = 1000;
    const OTHERS: usize = 2;
    const PART: u64 = 5;
    let own = barriers_per_million(stage).filter(|own| *own >= LEAST_PER_MILLION)?;
    let others = facts.stages.iter().filter(|one| one.id != stage.id);
    let others: Vec<u64> = others.filter_map(barriers_per_million).collect();
    if others.len() < OTHERS {
        return None;
    }
    let usual = median(others)?;
    let work = stage.exact("instructions")?;
    if !is_percent(own, usual, FACTOR) || !is_percent(work, facts.instructions?, PART) {
        return None;
    }
    let evidence = format!(
        "{}.{:02} barriers per thousand instructions, the other stages {}.{:02} (median), in {} instructions",
        own / 1000,
        own % 1000 / 10,
        usual / 1000,
        usual % 1000 / 10,
        count(work)
    );
    on(stage, "contention", evidence, Gain { ms: None, instructions: Some(work) })
}

fn unbalanced_executors(facts: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    const FACTOR: u64 = 150;
    const LEAST_MS: u64 = 1000;
    let mut of_executor = std::collections::BTreeMap::<u32, u64>::new();
    for (_, executor) in
        facts.executors.iter().enumerate().filter(|(_, (_, one))| one.cores.is_some())
    {
        let names = facts.task_names()?;
        let at = stage.tasks.iter().filter_map(|task| task.executor);
        if let Some(at) = at.clone().find(|at| names.name(*at) == executor.0) {
            of_executor.entry(at).or_default();
        }
    }
    for task in &stage.tasks {
        let sum = of_executor.entry(task.executor?).or_default();
        *sum = sum.saturating_add(task.duration()?);
    }
    let executors = of_executor.len() as u64;
    if executors < 2 || (stage.tasks.len() as u64) < 2 * executors {
        return None;
    }
    let whole = total(of_executor.values().copied());
    let mean = whole / executors;
    let (busiest, most) = of_executor.iter().max_by_key(|(_, ms)| **ms)?;
    let more = most.checked_sub(mean)?;
    if more < LEAST_MS || !is_percent(*most, mean, FACTOR) {
        return None;
    }
    // One long task is not the executor's fault.
    let longest = stage.tasks.iter().filter_map(|task| task.duration()).max()?;
    if longest > mean {
        return None;
    }
    let evidence = format!(
        "executor {} worked {}, the mean of {executors} is {}",
        facts.task_names()?.name(*busiest),
        time(*most),
        time(mean)
    );
    on(stage, "unbalanced_executors", evidence, ms(more))
}

fn locality_misses(_: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    const FEWEST: u64 = 10;
    const PART: u64 = 30;
    let of = |name: &str| stage.exact(&format!("spark_{name}_tasks"));
    let near = of("process_local")?.saturating_add(of("node_local")?);
    let far = of("rack_local")?.saturating_add(of("any")?);
    let tasks = near.saturating_add(far);
    let read = stage.exact("spark_input_bytes").filter(|read| *read > 0)?;
    // Where no task was near, the data are on no node of the cluster.
    if tasks < FEWEST || near == 0 || !is_percent(far, tasks, PART) {
        return None;
    }
    let evidence =
        format!("{far} of {tasks} tasks ran away from their data, {} of input", bytes(read));
    on(stage, "locality_misses", evidence, Gain::default())
}

fn under_partitioned(facts: &Facts<'_>, stage: &Stage<'_>) -> Option<Unweighed> {
    const MEDIAN_MS: u64 = 5000;
    const PART: u64 = 10;
    let (cores, tasks) = (facts.cores?, stage.useful().count() as u64);
    let usual = middle(facts, stage, &TaskFact::duration)?;
    let wall = stage.wall_ms()?;
    if tasks == 0 || tasks >= cores || usual < MEDIAN_MS || !facts.is_part(wall, PART) {
        return None;
    }
    let evidence = format!(
        "{tasks} tasks of {} each (median) on {cores} cores, for {}",
        time(usual),
        time(wall)
    );
    on(
        stage,
        "under_partitioned",
        evidence,
        ms(wall - (u128::from(wall) * u128::from(tasks) / u128::from(cores)) as u64),
    )
}

/// Scans of many small files, by the queries' own metrics.
fn small_files(facts: &Facts<'_>) -> Vec<Unweighed> {
    const FILES: u64 = 50;
    const BYTES: u64 = 1 << 20;
    let mut found = Vec::new();
    for ((application, execution), query) in &facts.answer.logs.queries {
        let Some(plan) = query.plan.as_ref().filter(|_| application == facts.application) else {
            continue;
        };
        let mut scans = Vec::new();
        scans_of(plan, &mut scans);
        for scan in scans {
            let of = |name: &str| {
                let value = scan.value(name, &query.driver_metrics)?;
                u64::try_from(value).ok()
            };
            let (Some(files), Some(size)) = (of("number of files read"), of("size of files read"))
            else {
                continue;
            };
            if files < FILES || size / files >= BYTES {
                continue;
            }
            let own: Vec<_> =
                facts.stages.iter().filter(|stage| reads(stage, scan)).map(|one| one.id).collect();
            let work = facts.stages.iter().filter(|stage| reads(stage, scan)).filter_map(|stage| {
                match stage.row.said(Figure::Metric(INSTRUCTIONS)) {
                    Said::Exactly(value) => Some(value),
                    _ => None,
                }
            });
            let work = total(work);
            let mut evidence = format!(
                "query {execution} scans {} files of {} each",
                count(files),
                bytes(size / files)
            );
            if work > 0 {
                evidence.push_str(&format!(", {} instructions a file", count(work / files)));
            }
            let gain = Gain { ms: None, instructions: (work > 0).then_some(work) };
            found.push(Unweighed { rule: "small_files", stages: own, evidence, gain });
        }
    }
    found
}

fn scans_of<'o>(operator: &'o Operator, scans: &mut Vec<&'o Operator>) {
    if operator.node.starts_with("Scan ") {
        scans.push(operator);
    }
    operator.children.iter().for_each(|child| scans_of(child, scans));
}

/// Whether a stage ran an operator.
pub fn reads(stage: &Stage<'_>, operator: &Operator) -> bool {
    stage.log.is_some_and(|log| !is_exchange(operator) && log.metrics.has_any_of(operator))
}
