//! The rules, and what they find.

use serde_json::{Value, json};

use crate::report::figure::Scale;
use crate::report::words::human;

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What it finds.
    pub finds: &'static str,
    /// From what on.
    pub threshold: &'static str,
    /// What can be done.
    pub remedy: &'static str,
}

/// What would be gained at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gain {
    /// Time of the application's, in ms.
    pub ms: Option<u64>,
    /// Instructions.
    pub instructions: Option<u64>,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule that found it.
    pub rule: &'static Rule,
    /// The stages that it is about.
    pub stages: Vec<(i64, Option<i64>)>,
    /// What was found, with its figures.
    pub evidence: String,
    /// What would be gained at most.
    pub gain: Gain,
    /// Which part of the application that is, in thousandths: of its time, or else of its instructions.
    pub share: u64,
}

/// A finding before it is weighed.
pub struct Unweighed {
    /// The rule's name.
    pub rule: &'static str,
    /// The stages that it is about.
    pub stages: Vec<(i64, Option<i64>)>,
    /// What was found.
    pub evidence: String,
    /// What would be gained at most.
    pub gain: Gain,
}

/// All rules.
pub const RULES: [Rule; 19] = [
    Rule {
        name: "data_skew",
        finds: "a task with far more data and work than its stage's others, on which the stage waits",
        threshold: "of 4 tasks or more one takes at least twice the median, executes 1.5 times the median's instructions or more (or, where \
            they are unknown, has 1.5 times the records), has 1.5 times the records or bytes (three times the mean where half of \
            the tasks have none), and costs 5 % of the stage's time and 0.1 s",
        remedy: "split the large key or partition: spark.sql.adaptive.skewJoin.enabled, salting, another partitioning column, repartition",
    },
    Rule {
        name: "slow_node",
        finds: "a node whose tasks take longer for like work",
        threshold: "of a stage 3 tasks or more on the node and on others, with instructions within a quarter of the median, without the first on \
            their executors, whose run time without GC and fetch waits is 1.5 times the others' median; 5 % of the application's time",
        remedy: "look at the node: other load, throttling, a slow disk; take it out (spark.excludeOnFailure does not see slowness), or let \
            spark.speculation rerun its tasks",
    },
    Rule {
        name: "gc_pressure",
        finds: "tasks that wait for the garbage collector",
        threshold: "GC is 20 % of the stage's run time or more, and 1 s of it",
        remedy: "more memory per core (spark.executor.memory, fewer spark.executor.cores), smaller partitions, fewer cached objects, or \
            serialised caching",
    },
    Rule {
        name: "fetch_wait",
        finds: "tasks that wait for shuffle blocks of other executors",
        threshold: "fetch wait is 20 % of the stage's run time or more, and 1 s of it",
        remedy: "look at the network and at busy executors; fewer and larger blocks (spark.sql.shuffle.partitions), an external shuffle \
            service",
    },
    Rule {
        name: "warm_up",
        finds: "work of executors' first tasks beyond that of later ones for like data: class loading and interpreted code",
        threshold: "10 % of the instructions of all tasks or more, where later tasks of the stage show what it takes",
        remedy: "fewer and longer-lived executors (spark.dynamicAllocation.executorIdleTimeout), one application for several jobs; it costs \
            short jobs most",
    },
    Rule {
        name: "tiny_tasks",
        finds: "stages cut into tasks that are over before they are worth their start",
        threshold: "twice as many tasks as cores or more (8 at least), a median run time below 50 ms, and half of the tasks' time or more \
            outside their run time",
        remedy: "fewer partitions: spark.sql.adaptive.coalescePartitions, spark.sql.shuffle.partitions, coalesce, larger \
            spark.sql.files.maxPartitionBytes",
    },
    Rule {
        name: "spill",
        finds: "data that was written to disk and read again for want of memory",
        threshold: "16 MiB or more spilled to disk, or a tenth of what the stage read",
        remedy: "more memory per core, more partitions, or a join that needs no sort (broadcast)",
    },
    Rule {
        name: "wasted_work",
        finds: "work of tasks that failed, were killed, or were speculative in vain",
        threshold: "any failed or killed task",
        remedy: "see the reason; of speculative copies: raise spark.speculation.multiplier or quantile if most are in vain",
    },
    Rule {
        name: "recomputation",
        finds: "the same lineage executed again in a later job, because nothing was kept of it",
        threshold: "stages of two jobs compute the same RDD, none of its successors in the stage cached, or run the same operators over \
            the same data in two queries; 2 % of all instructions of tasks (or of task time) in the later ones",
        remedy: "cache() or persist() what both use, or write it out once",
    },
    Rule {
        name: "small_io",
        finds: "files read or written in small pieces",
        threshold: "10,000 calls or more with a mean below 4 KiB, in stages that have a tenth of all system calls' time",
        remedy: "buffered streams, larger read-ahead of the file system or connector, compressed or columnar files",
    },
    Rule {
        name: "small_files",
        finds: "input in many small files",
        threshold: "a scan of 50 files or more with a mean below 1 MiB",
        remedy: "compact the input; larger spark.sql.files.maxPartitionBytes and smaller openCostInBytes put several into a task",
    },
    Rule {
        name: "small_shuffle_blocks",
        finds: "shuffles of many small blocks",
        threshold: "10,000 blocks (map tasks times reduce tasks) or more with a mean below 16 KiB",
        remedy: "fewer partitions on one side: spark.sql.shuffle.partitions, coalesce before the shuffle",
    },
    Rule {
        name: "contention",
        finds: "stages with far more barriers (fences, locked instructions) than the others: locks or shared counters",
        threshold: "five times the median of the others' barriers per thousand instructions, 1 per thousand or more, of 3 stages with \
            instructions or more; 5 % of all instructions",
        remedy: "look for locks that tasks of one executor share: synchronised caches, accumulators, loggers, Random; fewer cores per \
            executor show it",
    },
    Rule {
        name: "python_share",
        finds: "work in Python workers and in handing rows to them",
        threshold: "30 % of the tasks' instructions or more",
        remedy: "built-in functions instead of UDFs; pandas or Arrow UDFs instead of row-wise ones \
            (spark.sql.execution.pythonUDF.arrow.enabled)",
    },
    Rule {
        name: "unbalanced_executors",
        finds: "a stage whose work lies on few executors",
        threshold: "with 2 executors or more and twice as many tasks as executors, one has 1.5 times the mean task time and a second more",
        remedy: "smaller partitions, shorter spark.locality.wait, equal executors",
    },
    Rule {
        name: "idle_cores",
        finds: "cores that were held and not used",
        threshold: "tasks use less than 40 % of the executors' core time, over 10 s or more",
        remedy: "fewer cores or dynamic allocation; more partitions where stages have fewer tasks than there are cores; independent jobs \
            at the same time",
    },
    Rule {
        name: "outside_tasks",
        finds: "work of executors outside tasks: compilers, collectors, network, start",
        threshold: "exactly counted, and 60 % of the executors' instructions or more",
        remedy: "longer-lived executors amortise start and compilation; more memory relieves the collector",
    },
    Rule {
        name: "locality_misses",
        finds: "tasks that ran away from their data",
        threshold: "30 % of the stage's tasks or more at RACK_LOCAL or ANY, of 10 or more that read input, and others of it nearer",
        remedy: "executors on the nodes of the data, longer spark.locality.wait where the network is slow",
    },
    Rule {
        name: "under_partitioned",
        finds: "long stages with fewer tasks than there are cores",
        threshold: "fewer tasks than cores, a median of 5 s or more, and a tenth of the application's time",
        remedy: "more partitions: repartition, spark.sql.shuffle.partitions, splittable input files, smaller maxPartitionBytes",
    },
];

impl Rule {
    /// The rule of this name.
    pub fn named(name: &str) -> &'static Rule {
        RULES.iter().find(|rule| rule.name == name).expect("rules name rules; a test proves it")
    }

    /// Its name in words.
    pub fn title(&self) -> String {
        self.name.replace('_', " ")
    }
}

impl Finding {
    /// What would be gained at most, for people.
    pub fn gain_text(&self) -> String {
        let ms = self.gain.ms.map(|ms| human(ms, Scale::Milliseconds));
        let instructions = self
            .gain
            .instructions
            .map(|count| format!("{} instructions", human(count, Scale::Count)));
        let share = match self.share {
            0 => String::new(),
            share => format!(", {}.{} %", share / 10, share % 10),
        };
        match (ms, instructions) {
            (Some(ms), Some(instructions)) => format!("at most {ms} and {instructions}{share}"),
            (Some(one), None) | (None, Some(one)) => format!("at most {one}{share}"),
            (None, None) => "not known how much".into(),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let stages: Vec<_> =
            self.stages.iter().map(|(stage, attempt)| json!([stage, attempt])).collect();
        json!({
            "rule": self.rule.name,
            "finds": self.rule.finds,
            "stages": stages,
            "evidence": self.evidence,
            "remedy": self.rule.remedy,
            "gain_ms": self.gain.ms,
            "gain_instructions": self.gain.instructions,
            "share_thousandths": self.share,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_names_of_their_own() {
        for rule in &RULES {
            assert_eq!(Rule::named(rule.name), rule);
            assert!(!rule.threshold.is_empty() && !rule.remedy.is_empty());
        }
    }

    /// Every rule is described where users look.
    #[test]
    fn every_rule_is_documented() {
        let text = include_str!("../../../../docs/findings.md");
        for rule in &RULES {
            assert!(text.contains(&format!("`{}`", rule.name)), "{}", rule.name);
        }
    }
}
