//! `analyzer spark-conf`: what to set to have a cluster's executors counted.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::console::exit::{Exit, Failure};

/// The snippets of the project's folder, with their usual paths.
const STANDALONE: &str = include_str!("../../../conf/snippets/standalone-spark-env.sh");
const YARN: &str = include_str!("../../../conf/snippets/yarn-site.xml");
const KUBERNETES: &str = include_str!("../../../conf/snippets/kubernetes-executor.yaml");
const ONE_JOB: &str = include_str!("../../../conf/snippets/spark-defaults.conf");
/// The paths in the snippets.
const LIBRARY: &str = "/opt/sparkanalyzer/lib/libshim.so";
const OUTPUT_DIR: &str = "/var/tmp/sparkanalyzer";
/// What Spark itself gives beside the heap: at least so many MiB, and this share of the heap.
const LEAST_OVERHEAD_MIB: u64 = 384;
const OVERHEAD_PERCENT: u64 = 10;

/// Print what to set to have executors counted
///
/// Without a kind of cluster: spark-defaults.conf for one job or one user, on any cluster. The library must be
/// at the same path on every node. Memory that the library takes counts against an executor's container on
/// YARN and Kubernetes, so memoryOverhead is printed with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For every executor of standalone workers
    #[arg(long, group = "cluster")]
    standalone: bool,

    /// For every container of YARN's NodeManagers
    #[arg(long, group = "cluster")]
    yarn: bool,

    /// A pod template of Kubernetes executors
    #[arg(long, visible_alias = "kubernetes", group = "cluster")]
    k8s: bool,

    /// Where libshim.so is on the nodes
    #[arg(long, value_name = "PATH", default_value = LIBRARY)]
    library: PathBuf,

    /// Where record files go on the nodes
    #[arg(long, value_name = "DIR", default_value = OUTPUT_DIR)]
    output_dir: PathBuf,

    /// The executors' heap, spark.executor.memory: g, m or MiB
    #[arg(long, value_name = "SIZE", value_parser = mebibytes, default_value = "1g")]
    executor_memory: u64,

    /// What the library may take, memory_limit_mib of its conf
    #[arg(long, value_name = "MIB", default_value_t = conf::Settings::default().memory_limit_mib.0)]
    memory_limit_mib: u64,
}

/// MiB of a size as Spark writes it.
fn mebibytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match text[digits..].to_ascii_lowercase().as_str() {
        "g" | "gb" => 1024,
        "" | "m" | "mb" => 1,
        _ => return Err("a size ends in g or m, such as 4g".into()),
    };
    let size: Option<u64> = text[..digits].parse().ok();
    size.and_then(|size| size.checked_mul(factor))
        .ok_or_else(|| "a size begins with a whole number, such as 4g".into())
}

/// What to set as memoryOverhead, in MiB: what Spark takes by itself and what the library may take.
fn overhead(heap_mib: u64, limit_mib: u64) -> u64 {
    LEAST_OVERHEAD_MIB
        .max(heap_mib.saturating_mul(OVERHEAD_PERCENT) / 100)
        .saturating_add(limit_mib)
}

/// Runs the command.
///
/// # Errors
/// When a path cannot be written into the snippet.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    print!("{}", snippet(&args)?);
    Ok(Exit::Success.into())
}

fn snippet(args: &Args) -> Result<String, Failure> {
    let path = |path: &PathBuf| match path.to_str() {
        // ld.so(8): spaces and colons separate the elements of LD_PRELOAD, and nothing can be escaped.
        Some(text) if text.starts_with('/') && !text.contains([' ', ':', ',', '"', '<', '&']) => {
            Ok(text.to_owned())
        }
        _ => Err(Failure::new(
            Exit::Usage,
            format!(
                "{}: an absolute path without blanks, colons, commas and quotes is needed",
                path.display()
            ),
        )),
    };
    let (library, output_dir) = (path(&args.library)?, path(&args.output_dir)?);
    let text = match args {
        _ if args.standalone => STANDALONE,
        _ if args.yarn => YARN,
        _ if args.k8s => KUBERNETES,
        _ => ONE_JOB,
    };
    // The pod template brings the library to a place of its own.
    let mut text = text.replace(LIBRARY, &library).replace(OUTPUT_DIR, &output_dir);
    let overhead = overhead(args.executor_memory, args.memory_limit_mib);
    let of = format!(
        "{} MiB of heap; Spark's own {} and {} for the library",
        args.executor_memory,
        overhead - args.memory_limit_mib,
        args.memory_limit_mib
    );
    text.push_str(&match args {
        _ if args.standalone => format!(
            "\n# Standalone executors have no container that limits them: memoryOverhead needs no change. The library\n\
             # takes up to {} MiB per executor beside {} MiB of heap.\n\
             # And for Spark's own figures, in conf/spark-defaults.conf: spark.eventLog.enabled true\n",
            args.memory_limit_mib, args.executor_memory
        ),
        _ if args.yarn => format!(
            "<!-- And in conf/spark-defaults.conf, or as --conf KEY=VALUE ({of}):\n\
             spark.executor.memoryOverhead  {overhead}m\nspark.eventLog.enabled         true -->\n"
        ),
        _ if args.k8s => format!(
            "# And as --conf KEY=VALUE of spark-submit ({of}; Python jobs have a share\n\
             # of 40 % instead of 10 % here: add {} MiB to that):\n\
             #   spark.kubernetes.executor.podTemplateFile=kubernetes-executor.yaml\n\
             #   spark.executor.memoryOverhead={overhead}m\n\
             #   spark.eventLog.enabled=true\n",
            args.memory_limit_mib
        ),
        _ => format!("\n# {of}.\nspark.executor.memoryOverhead               {overhead}m\n"),
    });
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_is_sparks_share_and_the_librarys() {
        assert_eq!(overhead(1024, 64), 384 + 64);
        assert_eq!(overhead(10 * 1024, 64), 1024 + 64);
        assert_eq!(["4g", "512m", "300"].map(mebibytes), [Ok(4096), Ok(512), Ok(300)]);
        assert!(mebibytes("4t").is_err() && mebibytes("g").is_err());
    }

    #[test]
    fn the_snippets_have_the_usual_paths() {
        for text in [STANDALONE, YARN, ONE_JOB] {
            assert!(text.contains(LIBRARY) && text.contains(OUTPUT_DIR));
        }
        assert!(KUBERNETES.contains(OUTPUT_DIR));
        assert_eq!(conf::Settings::default().output_dir, OUTPUT_DIR);
    }
}
