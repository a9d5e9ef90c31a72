//! What stages are called.
//!
//! A stage of a SQL query is called after the operators of the query's plan that ran in it: Spark says of each stage which
//! of their metrics it measured. Any other is called after the user's call that led to it, or what its RDDs are.
//! Spark's own name is often the place in Spark's own code from which a query's stages are submitted.

use std::collections::BTreeMap;

use crate::input::eventlog::Operator;
use crate::report::logs::{JobFacts, Logs, Query, StageFacts};

/// Code that is not the user's, in the names that Spark gives to stages and queries.
const NAMELESS: [&str; 8] = [
    "CompletableFuture.java",
    "NativeMethodAccessorImpl.java",
    "DelegatingMethodAccessorImpl.java",
    "DirectMethodHandleAccessor.java",
    "ThreadPoolExecutor.java",
    "FutureTask.java",
    "<unknown>",
    "$anonfun$",
];

/// Operators that only pass on what others made.
const PASSING: [&str; 9] = [
    "AdaptiveSparkPlan",
    "AQEShuffleRead",
    "CustomShuffleReader",
    "ColumnarToRow",
    "InputAdapter",
    "Project",
    "RowToColumnar",
    "ReusedExchange",
    "WriteFiles",
];

/// What a stage is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageName {
    /// What the user, or else Spark, says of its job or query.
    pub description: Option<String>,
    /// What it does.
    pub work: String,
    /// The same without what differs between runs of the same code: names of files and numbers of lines.
    pub kind: String,
}

impl StageName {
    /// All of it.
    pub fn full(&self) -> String {
        match &self.description {
            Some(description) if !self.work.is_empty() => format!("{description}: {}", self.work),
            Some(description) => description.clone(),
            None => self.work.clone(),
        }
    }

    /// What it does, in at most so many characters: first and last operators stay.
    pub fn short(&self, width: usize) -> String {
        let whole = if self.work.is_empty() { self.full() } else { self.work.clone() };
        if whole.chars().count() <= width {
            return whole;
        }
        let parts: Vec<&str> = whole.split(SEPARATOR).collect();
        let compact: Vec<&str> = parts.iter().map(|part| in_brief(part)).collect();
        let fits = |text: &String| text.chars().count() <= width;
        let spaced = (parts.len() > 2).then(|| ends_of(&parts, SEPARATOR)).into_iter().flatten();
        let brief = std::iter::once(compact.join(">")).chain(ends_of(&compact, ">"));
        if let Some(text) = spaced.chain(brief).find(fits) {
            return text;
        }
        // Too narrow even for these: the beginning of the first and the end of the last.
        let room = width.saturating_sub(2);
        let last = compact.last().filter(|_| compact.len() > 1).copied().unwrap_or_default();
        let own = room - last.chars().count().min(room / 2);
        let first: String = compact[0].chars().take(own).collect();
        let rest: String = last.chars().take(room - first.chars().count()).collect();
        format!("{first}..{rest}")
    }
}

/// The first and the last of some operators, the more of the last the better.
fn ends_of<'p>(parts: &'p [&'p str], between: &'p str) -> impl Iterator<Item = String> + 'p {
    (1..parts.len().saturating_sub(1)).rev().map(move |last| {
        let end = parts[parts.len() - last..].join(between);
        format!("{}{between}..{between}{end}", parts[0])
    })
}

/// An operator where there is little room: `ratings.csv` of `scan csv ratings.csv`.
fn in_brief(operator: &str) -> &str {
    match operator {
        "read exchange" => "read",
        "exchange by range" => "by range",
        "partial aggregate" => "partial",
        _ => match operator.strip_prefix("scan ").and_then(|rest| rest.split_once(' ')) {
            Some((_, place)) => place,
            None => operator,
        },
    }
}

/// Between operators.
const SEPARATOR: &str = " > ";

/// Names of stage attempts: (application, stage, attempt) -> name.
pub type StageNames = BTreeMap<(String, i64, i64), StageName>;

/// The names of all stage attempts.
pub fn of_stages(logs: &Logs) -> StageNames {
    let mut names = StageNames::new();
    for (key, stage) in &logs.stages {
        let (application, id, _) = key;
        let job = logs.first_job(application, *id).map(|(_, job)| job);
        let query = job.and_then(|job| logs.queries.get(&(application.clone(), job.query?)));
        names.insert(key.clone(), name(stage, job, query));
    }
    names
}

/// What a stage of this job and query is called.
fn name(stage: &StageFacts, job: Option<&JobFacts>, query: Option<&Query>) -> StageName {
    let said = job.and_then(|job| job.description.as_deref());
    let said = said.or_else(|| query.and_then(|query| query.description.as_deref()));
    let chain = query.and_then(|query| query.plan.as_ref()).map(|plan| chain(plan, stage));
    let chain = chain.filter(|chain| !chain.is_empty());
    let own = || stage.name.clone().filter(|name| !is_nameless(name));
    let of_rdds = || {
        let mut sites = stage.rdds.iter().rev().filter_map(|rdd| rdd.call_site.clone());
        sites.find(|site| !is_nameless(site) && !site.contains("PythonRDD.scala"))
    };
    let (work, kind) = match chain {
        Some(chain) => {
            let join = |part: fn(&Step) -> &str| {
                chain.iter().map(part).collect::<Vec<_>>().join(SEPARATOR)
            };
            (join(|step| &step.text), join(|step| &step.kind))
        }
        None => {
            let site = own().filter(|name| !name.contains("PythonRDD.scala"));
            let site = site.or_else(|| stage.call_site.clone()).or_else(of_rdds);
            let scopes = scopes(stage);
            match site {
                Some(site) => {
                    let kind = without_lines(&site);
                    (site, kind)
                }
                None if !scopes.is_empty() => (scopes.clone(), scopes),
                None => {
                    let spark = stage.name.clone().unwrap_or_default();
                    (spark.clone(), spark)
                }
            }
        }
    };
    // A description that Spark made of the same call says nothing more.
    let description = said.map(called).filter(|said| !said.is_empty() && *said != work);
    StageName { description, work, kind }
}

/// Whether a name says nothing of the user's program.
fn is_nameless(name: &str) -> bool {
    NAMELESS.iter().any(|one| name.contains(one))
}

/// A description without the place in Spark's code: `csv` of `csv at NativeMethodAccessorImpl.java:0`.
fn called(description: &str) -> String {
    match description.split_once(" at ") {
        Some((call, place)) if is_nameless(place) && !is_nameless(call) => call.trim().to_owned(),
        _ if is_nameless(description) => String::new(),
        _ => description.trim().to_owned(),
    }
}

/// `count at Main.scala` of `count at Main.scala:12`: lines move when a program is changed.
fn without_lines(site: &str) -> String {
    let mut text = String::new();
    let mut rest = site;
    while let Some((before, after)) = rest.split_once(':') {
        text.push_str(before);
        rest = after.trim_start_matches(|one: char| one.is_ascii_digit());
        if rest.len() == after.len() {
            text.push(':');
        }
    }
    text + rest
}

/// The operations that made the stage's RDDs, one after the other.
fn scopes(stage: &StageFacts) -> String {
    let mut names: Vec<String> = Vec::new();
    for scope in stage.rdds.iter().filter_map(|rdd| rdd.scope.as_deref()) {
        let passes = PASSING.contains(&scope) && scope != "WriteFiles";
        let name = match scope {
            _ if passes || scope.starts_with("WholeStageCodegen") => continue,
            "WriteFiles" => "write".to_owned(),
            // What the user's own program calls is written as there.
            _ if scope.starts_with(|one: char| one.is_lowercase()) => scope.to_owned(),
            _ => words_of(scope),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(SEPARATOR)
}

/// An operator that ran in a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// With what it reads or writes.
    pub text: String,
    /// Without.
    pub kind: String,
}

/// The operators of a plan that ran in a stage, those that read first.
pub fn chain(plan: &Operator, stage: &StageFacts) -> Vec<Step> {
    let mut steps = Vec::new();
    // Of an exchange that two queries share the plan has two copies.
    let mut seen = Vec::new();
    walk(plan, None, stage, &mut steps, &mut seen);
    // A range exchange asks in a job of its own how its rows are distributed.
    let is_exchange = |rdd: &&crate::input::eventlog::Rdd| rdd.scope.as_deref() == Some("Exchange");
    let last = stage.rdds.iter().max_by_key(|rdd| rdd.id).filter(is_exchange);
    let writes = steps.iter().any(|step| step.kind.starts_with("exchange"));
    if last.is_some() && !writes && !steps.is_empty() {
        steps.push(Step { text: "sample".into(), kind: "sample".into() });
    }
    steps
}

/// Whether a stage wrote the output of an exchange.
pub fn is_written(exchange: &Operator, stage: &StageFacts) -> bool {
    let names = ["shuffle records written", "shuffle bytes written"];
    names.iter().any(|name| exchange.value(name, &stage.metrics).is_some())
}

/// Whether an operator is an exchange, whose metrics two stages have: who writes and who reads.
pub fn is_exchange(operator: &Operator) -> bool {
    operator.node == "Exchange" || operator.node.ends_with("ShuffleExchange")
}

fn walk(
    operator: &Operator,
    parent: Option<&Operator>,
    stage: &StageFacts,
    steps: &mut Vec<Step>,
    seen: &mut Vec<i64>,
) {
    let before = steps.len();
    for child in &operator.children {
        let over = if is_passing(operator) { parent } else { Some(operator) };
        walk(child, over, stage, steps, seen);
    }
    let is_new = operator.metrics.first().is_none_or(|(id, ..)| !seen.contains(id));
    if is_passing(operator) || !is_new || !stage.metrics.has_any_of(operator) {
        // What is broadcast is gathered by the driver: the stage itself knows nothing of it.
        if operator.node == "BroadcastExchange" && steps.len() > before {
            steps.push(Step { text: "broadcast".into(), kind: "broadcast".into() });
        }
        return;
    }
    seen.extend(operator.metrics.first().map(|(id, ..)| *id));
    if is_exchange(operator) && !is_written(operator, stage) {
        steps.push(Step { text: "read exchange".into(), kind: "read exchange".into() });
        return;
    }
    steps.push(label(operator));
}

/// Whether an operator only passes on what others made.
pub fn is_passing(operator: &Operator) -> bool {
    PASSING.contains(&operator.node.trim())
        || operator.node.starts_with("WholeStageCodegen")
        || operator.node.ends_with("QueryStage")
}

/// What an operator is called.
pub fn label(operator: &Operator) -> Step {
    let (node, detail) = (operator.node.trim(), operator.detail.as_str());
    let with = |kind: String, place: Option<String>| Step {
        text: place.map_or_else(|| kind.clone(), |place| format!("{kind} {place}")),
        kind,
    };
    if let Some(what) = node.strip_prefix("Scan ") {
        let mut words = what.split_whitespace();
        let format = words.next().unwrap_or_default().to_lowercase();
        let table = words.next().and_then(|table| table.rsplit('.').next()).map(str::to_owned);
        let place = table.or_else(|| operator.place.as_deref().and_then(file_of));
        return with(format!("scan {format}").trim_end().to_owned(), place);
    }
    if let Some(command) = node.strip_prefix("Execute ") {
        if command.starts_with("InsertInto") {
            let place = detail.split_whitespace().nth(2).and_then(file_of);
            return with("write".into(), place);
        }
        return with(words_of(command.trim_end_matches("Command")), None);
    }
    if is_exchange(operator) {
        let kind = match detail {
            _ if detail.contains("rangepartitioning") => "exchange by range",
            _ if detail.contains("RoundRobinPartitioning") => "exchange round robin",
            _ if detail.contains("SinglePartition") => "exchange to one",
            _ => "exchange",
        };
        return with(kind.into(), None);
    }
    if node.ends_with("Aggregate") {
        let is_partial = detail.contains("functions=[partial_");
        return with(if is_partial { "partial aggregate" } else { "aggregate" }.into(), None);
    }
    if node == "Generate" {
        let call = detail.trim_start_matches("Generate ").split('(').next().unwrap_or_default();
        let is_word = !call.is_empty() && call.bytes().all(|byte| byte.is_ascii_alphanumeric());
        return with(if is_word { call.to_lowercase() } else { "generate".into() }, None);
    }
    with(words_of(node), None)
}

/// `sort merge join` of `SortMergeJoin`.
fn words_of(node: &str) -> String {
    let mut words = String::new();
    let mut before = ' ';
    for one in node.chars() {
        if one.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit()) {
            words.push(' ');
        }
        words.extend(one.to_lowercase());
        before = one;
    }
    words
}

/// The last part of a path: `b.csv` of `InMemoryFileIndex(1 paths)[file:/a/b.csv]`.
fn file_of(place: &str) -> Option<String> {
    let path = match place.split_once('[') {
        Some((_, paths)) => paths.split([',', ']']).next().unwrap_or_default(),
        None => place.trim_end_matches(','),
    };
    let name = path.trim().trim_end_matches("...").trim_end_matches('/').rsplit('/').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_between_their_ends() {
        let name = StageName {
            description: Some("average".into()),
            work: "scan csv ratings.csv > filter > explode > partial aggregate > exchange".into(),
            kind: String::new(),
        };
        assert_eq!(name.full(), format!("average: {}", name.work));
        assert_eq!(name.short(100), name.work);
        assert_eq!(name.short(40), "scan csv ratings.csv > .. > exchange");
        assert_eq!(name.short(30), "ratings.csv>..>exchange");
        assert_eq!(name.short(33), "ratings.csv>..>partial>exchange");
        assert_eq!(name.short(58), "scan csv ratings.csv > .. > partial aggregate > exchange");
        for width in 8..80 {
            assert!(name.short(width).chars().count() <= width, "{width}");
        }
    }

    #[test]
    fn what_spark_says_of_its_own_code_is_left_out() {
        assert_eq!(called("csv at NativeMethodAccessorImpl.java:0"), "csv");
        assert_eq!(called("$anonfun$x$1 at CompletableFuture.java:1768"), "");
        assert_eq!(called("count at Main.scala:3"), "count at Main.scala:3");
        assert_eq!(without_lines("count at Main.scala:12"), "count at Main.scala");
        assert_eq!(without_lines("a:b at x.py:3 and y.py:4"), "a:b at x.py and y.py");
    }

    #[test]
    fn operators_in_words() {
        let operator = |node: &str, detail: &str, place: Option<&str>| Operator {
            node: node.into(),
            detail: detail.into(),
            place: place.map(str::to_owned),
            ..Operator::default()
        };
        let text = |node, detail, place| label(&operator(node, detail, place)).text;
        let place = Some("InMemoryFileIndex(1 paths)[file:/srv/ratings.csv]");
        assert_eq!(text("Scan csv ", "FileScan csv [..]", place), "scan csv ratings.csv");
        assert_eq!(text("Scan parquet spark_catalog.default.t", "", None), "scan parquet t");
        assert_eq!(text("SortMergeJoin", "", None), "sort merge join");
        assert_eq!(
            text("HashAggregate", "(keys=[], functions=[partial_count(1)])", None),
            "partial aggregate"
        );
        assert_eq!(text("Exchange", "Exchange rangepartitioning(a, 8)", None), "exchange by range");
        let insert = "Execute InsertIntoHadoopFsRelationCommand file:/srv/out/words, false, CSV";
        assert_eq!(text("Execute InsertIntoHadoopFsRelationCommand", insert, None), "write words");
        assert_eq!(text("Generate", "Generate explode(split(a, b)), false", None), "explode");
        assert_eq!(text("BatchEvalPython", "", None), "batch eval python");
    }
}
