//! `analyzer schema`: the tables and views of a store on a server.

use std::process::ExitCode;

use crate::console::exit::{Exit, Failure};
use crate::store::{self, Address};

/// Make or upgrade the tables of a store in a MySQL or MariaDB database
///
/// Only this needs the right to define tables (CREATE, ALTER, INDEX, REFERENCES, CREATE VIEW); `ingest` and
/// `report` need what `schema grants` prints. The database itself must exist.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[arg(value_enum)]
    action: Action,

    /// The database: mysql://USER@HOST[:PORT]/DATABASE; the password in it, in SPARKANALYZER_MYSQL_PASSWORD,
    /// or in the file that ?password_file=FILE names
    #[arg(long, visible_alias = "mysql", value_name = "URL", required = true)]
    store: Address,

    /// grants: who ingests (USER, or USER@HOST for connections from there alone)
    #[arg(long, value_name = "USER[@HOST]")]
    ingest_user: Option<String>,

    /// grants: who makes reports
    #[arg(long, value_name = "USER[@HOST]")]
    report_user: Option<String>,

    /// grants: who purges
    #[arg(long, value_name = "USER[@HOST]")]
    purge_user: Option<String>,
}

/// The actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    /// Make all tables and views
    Init,
    /// Bring an older version's up to date; rows stay
    Upgrade,
    /// Print the rights that ingest, report and purge need, as SQL for the users that are named
    Grants,
}

/// Runs the command.
///
/// # Errors
/// When the server fails, or its schema is not of the expected age.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let made = match args.action {
        Action::Grants => {
            let users = [&args.ingest_user, &args.report_user, &args.purge_user];
            print!("{}", store::grants(&args.store, users.map(Option::as_deref))?);
            return Ok(Exit::Success.into());
        }
        Action::Init => store::define(&args.store, true)?,
        Action::Upgrade => store::define(&args.store, false)?,
    };
    let (store, to) = (&args.store, made.to);
    match made.from {
        from if from == to => println!("{store}: the schema is at version {to} already"),
        0 => println!("{store}: schema made, version {to}"),
        from => println!("{store}: schema upgraded from version {from} to {to}"),
    }
    Ok(Exit::Success.into())
}
