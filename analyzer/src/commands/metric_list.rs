//! Lists of metrics on the command line: groups, classes of system calls, or metrics by name.

use records::metric::{Class, Group, METRICS, Metric, MetricSet};

use crate::text::nearest::nearest;

/// One word of a list of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The metrics that it asks for.
    pub metrics: MetricSet,
}

/// Reads one word of a list: a group, a class of system calls (`file`, `pipe` ...) or a metric's
/// name.
///
/// # Errors
/// A text that names the word and the nearest right one.
pub fn parse(word: &str) -> Result<Choice, String> {
    let choose = |matches: &dyn Fn(&Metric) -> bool| {
        let chosen = METRICS.iter().enumerate().filter(|(_, metric)| matches(metric));
        Choice { metrics: chosen.fold(MetricSet::EMPTY, |set, (index, _)| set.with(index)) }
    };
    if let Some(class) = Class::ALL.into_iter().find(|class| class.name() == word) {
        return Ok(Choice { metrics: MetricSet::class(class) });
    }
    if let Some(group) = Group::ALL.into_iter().find(|group| group.name() == word) {
        return Ok(Choice { metrics: MetricSet::group(group) });
    }
    if METRICS.iter().any(|metric| metric.name == word) {
        return Ok(choose(&|metric| metric.name == word));
    }
    let groups = Group::ALL.map(Group::name);
    let known = groups
        .into_iter()
        .chain(Class::ALL.map(Class::name))
        .chain(METRICS.iter().map(|metric| metric.name));
    Err(match nearest(word, known) {
        Some(near) => format!("unknown metric {word:?} (did you mean {near:?}?)"),
        None => format!("unknown metric {word:?} (groups: {})", groups.join(", ")),
    })
}

/// The conf file's groups that must be on so that all of `metrics` are counted.
pub fn groups_for(metrics: MetricSet) -> Vec<&'static str> {
    let wanted = |group: &Group| !MetricSet::group(*group).intersection(metrics).is_empty();
    Group::ALL.into_iter().filter(wanted).map(Group::name).collect()
}

/// The classes of system calls that must be on so that all of `metrics` are counted.
pub fn classes_for(metrics: MetricSet) -> Vec<&'static str> {
    let wanted = |class: &Class| !MetricSet::class(*class).intersection(metrics).is_empty();
    Class::ALL.into_iter().filter(wanted).map(Class::name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_what_they_switch_on() {
        let chosen = |word| parse(word).expect("known").metrics;
        assert_eq!(groups_for(chosen("memory_reads")), ["memory"]);
        assert_eq!(groups_for(chosen("pipe")), ["syscalls"]);
        assert_eq!(classes_for(chosen("pipe")), ["pipe"]);
        assert_eq!(classes_for(chosen("syscalls")).len(), 4);
        assert_eq!(classes_for(chosen("instructions")), [""; 0]);
        let all = Group::ALL
            .map(Group::name)
            .map(chosen)
            .into_iter()
            .fold(MetricSet::EMPTY, MetricSet::union);
        assert_eq!(all, MetricSet::ALL);
    }

    #[test]
    fn the_nearest_right_word_is_named() {
        let error = |word| parse(word).expect_err("unknown");
        assert_eq!(
            error("memory_reed"),
            r#"unknown metric "memory_reed" (did you mean "memory_reads"?)"#
        );
        assert_eq!(
            error("instruction"),
            r#"unknown metric "instruction" (did you mean "instructions"?)"#
        );
        assert_eq!(
            error("xyz"),
            r#"unknown metric "xyz" (groups: instructions, memory, barriers, syscalls)"#
        );
    }
}
