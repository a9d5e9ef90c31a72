//! `analyzer`: traces programs, and loads and reports what the preloaded shim recorded.

mod cli;
mod commands;
mod console;
mod input;
mod model;
mod report;
mod store;
mod text;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use cli::{Cli, Command};
use commands::{
    apps, diff, doctor, dump, export, figures, ingest, inspect, purge, rewrite, schema, spark_conf,
    top, trace,
};
use console::exit::{Exit, Failure};
use console::progress;
use console::terminal::{Color, ERROR};
use text::shown;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let command = Cli::command().color(Color::for_clap(&arguments));
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .unwrap_or_else(|error| error.exit());
    parsed.color.apply();
    progress::apply(parsed.quiet, parsed.verbose);
    match run(parsed.command) {
        Ok(code) => code,
        Err(failure) => {
            anstream::eprintln!("{ERROR}error:{ERROR:#} {}", shown::message(&failure.message));
            failure.exit.into()
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Trace(args) => return trace::run(args),
        Command::Dump(args) => return dump::run(args),
        Command::Ingest(args) => return ingest::run(args),
        Command::Purge(args) => return purge::run(&args),
        Command::Report(args) => return commands::report::run(args),
        Command::Apps(args) => return apps::run(&args),
        Command::Figures(args) => return figures::run(&args),
        Command::Diff(args) => return diff::run(args),
        Command::Export(args) => return export::run(args),
        Command::Top(args) => return top::run(args),
        Command::Doctor(args) => return doctor::run(args),
        Command::SparkConf(args) => return spark_conf::run(args),
        Command::Inspect(args) => return inspect::run(args),
        Command::Rewrite(args) => return rewrite::run(args),
        Command::Schema(args) => return schema::run(args),
        Command::FollowedTrial => return Ok(doctor::trial_program::run()),
        Command::Completions { shell } => cli::print_completions(shell)?,
        Command::Man { folder } => cli::write_man_pages(folder)?,
    }
    Ok(Exit::Success.into())
}
