//! Plans of SQL queries, as far as they are kept: names of operators, what they are told to do, and the numbers of
//! their metrics.
//!
//! # Format
//!
//! In the store a plan is a text of JSON: `{"node", "detail", "place", "metrics": [[id, name, type]], "children"}`, where
//! `place` is where a scan reads. Values of metrics stand in the stages (`sql_metrics`) and, for what the driver
//! measured, beside the plan (`driver_metrics`), both as `id=value,id=value`.

use serde::{Deserialize, Serialize};

use crate::input::eventlog::lenient::list;
use crate::text::redaction;

/// The longest detail that is kept, in characters: a query may list thousands of columns.
const DETAIL: usize = 300;
/// A plan that is larger is not kept: it is unknown.
const MAX_PLAN_BYTES: usize = 4 << 20;
/// Deeper ones neither: nothing here may run out of stack.
const MAX_DEPTH: usize = 200;

/// An operator as Spark writes it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct PlanNode {
    #[serde(rename = "nodeName", default)]
    name: String,
    #[serde(rename = "simpleString", default)]
    detail: String,
    #[serde(default, deserialize_with = "list")]
    children: Vec<PlanNode>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, deserialize_with = "list")]
    metrics: Vec<PlanMetric>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Metadata {
    #[serde(rename = "Location", default)]
    location: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PlanMetric {
    #[serde(default)]
    name: String,
    #[serde(rename = "accumulatorId", default)]
    id: i64,
    #[serde(rename = "metricType", default)]
    kind: String,
}

/// An operator of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Operator {
    /// Its name, such as `HashAggregate`.
    pub node: String,
    /// What it is told to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Where it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Number, name and type of each metric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<(i64, String, String)>,
    /// What it reads from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Operator>,
}

impl PlanNode {
    /// How far the query had come when the plan was written: adaptive execution writes a new plan whenever a
    /// part of it is done, and the last one is final.
    fn progress(&self) -> i64 {
        let is_final = self.detail.contains("isFinalPlan=true");
        let own = i64::from(self.name.ends_with("QueryStage"));
        let below: i64 = self.children.iter().map(PlanNode::progress).sum();
        below + own + if is_final { 1 << 32 } else { 0 }
    }

    fn depth(&self) -> usize {
        1 + self.children.iter().map(PlanNode::depth).max().unwrap_or(0)
    }

    fn kept(self) -> Operator {
        // What a query is told to do may hold a password.
        let clip = |text: &str| {
            let text: String = text.chars().take(DETAIL).collect();
            redaction::text(&text).into_owned()
        };
        let metrics = self.metrics.into_iter().map(|one| (one.id, one.name, one.kind)).collect();
        Operator {
            detail: clip(&self.detail),
            node: self.name,
            place: self.metadata.location.as_deref().map(clip),
            metrics,
            children: self.children.into_iter().map(PlanNode::kept).collect(),
        }
    }

    /// The plan as it is kept, and how far the query had come; `None` if it is too large.
    pub fn text(self) -> Option<(i64, String)> {
        if self.depth() > MAX_DEPTH {
            return None;
        }
        let progress = self.progress();
        let text = serde_json::to_string(&self.kept()).ok()?;
        (text.len() <= MAX_PLAN_BYTES).then_some((progress, text))
    }
}

impl Operator {
    /// The plan that a store keeps.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> serde_json::Result<Operator> {
        serde_json::from_str(text)
    }

    /// The value of the metric of this name, of the sums that `values` knows.
    pub fn value(&self, name: &str, values: &Metrics) -> Option<i64> {
        let (id, ..) = self.metrics.iter().find(|(_, one, _)| one == name)?;
        values.get(*id)
    }
}

/// Values of metrics by their numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<(i64, i64)>);

impl Metrics {
    /// Of the text that a store keeps; `None` if it is another one.
    pub fn parse(text: &str) -> Option<Metrics> {
        let mut all = Metrics::pairs(text)?;
        all.sort_unstable();
        Some(Metrics(all))
    }

    /// The pairs of such a text, in its order.
    pub fn pairs(text: &str) -> Option<Vec<(i64, i64)>> {
        let pair = |one: &str| {
            let (id, value) = one.split_once('=')?;
            Some((id.parse().ok()?, value.parse().ok()?))
        };
        text.split(',').filter(|one| !one.is_empty()).map(pair).collect()
    }

    /// The text that a store keeps; none if there is nothing.
    pub fn text(mut values: Vec<(i64, i64)>) -> Option<String> {
        values.sort_unstable();
        values.dedup_by_key(|(id, _)| *id);
        let texts: Vec<_> = values.iter().map(|(id, value)| format!("{id}={value}")).collect();
        (!texts.is_empty()).then(|| texts.join(","))
    }

    /// The value with this number.
    pub fn get(&self, id: i64) -> Option<i64> {
        self.0.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| self.0[at].1)
    }

    /// Whether it has one of an operator's metrics.
    pub fn has_any_of(&self, operator: &Operator) -> bool {
        operator.metrics.iter().any(|(id, ..)| self.get(*id).is_some())
    }
}

/// An RDD of a stage, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rdd {
    /// Its number.
    pub id: i64,
    /// Its name, such as `MapPartitionsRDD`, or what the user called it.
    pub name: String,
    /// The operation that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Where the user's program asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_site: Option<String>,
    /// What it is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<i64>,
    /// Whether it is kept once it was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cached: bool,
}

impl Rdd {
    /// The text that a store keeps of a stage's RDDs; none if there are none, or too many.
    pub fn text(all: &[Rdd]) -> Option<String> {
        let text = (!all.is_empty()).then(|| serde_json::to_string(all).ok()).flatten()?;
        (text.len() <= MAX_PLAN_BYTES).then_some(text)
    }

    /// The RDDs that a store keeps.
    ///
    /// # Errors
    /// When the text is something else.
    pub fn parse(text: &str) -> serde_json::Result<Vec<Rdd>> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_back_as_it_was_kept() {
        let spark = r#"{"nodeName":"AdaptiveSparkPlan","simpleString":"AdaptiveSparkPlan isFinalPlan=true","children":[
            {"nodeName":"ShuffleQueryStage","simpleString":"ShuffleQueryStage 0","children":[
            {"nodeName":"Scan csv ","simpleString":"FileScan csv","children":[],"metadata":{"Location":"InMemoryFileIndex(1 paths)[file:/a/b.csv]","Format":"CSV"},
             "metrics":[{"name":"number of output rows","accumulatorId":7,"metricType":"sum"}]}]}]}"#;
        let node: PlanNode = serde_json::from_str(spark).unwrap();
        let (progress, text) = node.text().unwrap();
        assert_eq!(progress, (1 << 32) + 1);
        let plan = Operator::parse(&text).unwrap();
        let scan = &plan.children[0].children[0];
        assert_eq!(scan.place.as_deref(), Some("InMemoryFileIndex(1 paths)[file:/a/b.csv]"));
        for wrong in ["9=1,x=y", "9", "9=1 7=42", "9=1,7="] {
            assert_eq!(Metrics::parse(wrong), None, "{wrong}");
        }
        let metrics = Metrics::parse("9=1,7=42").unwrap();
        assert_eq!(scan.value("number of output rows", &metrics), Some(42));
        assert!(metrics.has_any_of(scan) && !metrics.has_any_of(&plan));
        assert_eq!(Metrics::text(vec![(9, 1), (7, 42)]).as_deref(), Some("7=42,9=1"));
    }

    #[test]
    fn plans_without_end_are_left_out() {
        let mut node = PlanNode::default();
        for _ in 0..MAX_DEPTH {
            node = PlanNode { children: vec![node], ..PlanNode::default() };
        }
        assert_eq!(node.text(), None);
    }
}
