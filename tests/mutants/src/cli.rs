//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::doc;
use crate::error::{Error, Result};
use crate::report::{Outcome, summary};
use crate::run::Lab;
use crate::table::Table;
use crate::tree::Source;

/// Removes one durability or verification step at a time, and expects a test to fail.
///
/// Exit codes: 0 every mutant was killed, 1 one survived, 2 something is wrong
/// with a mutant, a killer or this machine.
#[derive(Debug, Parser)]
#[command(name = "op-dbus-mutants")]
struct Cli {
    /// The repository
    #[arg(long, global = true, default_value = ".")]
    repository: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the mutants and their killers
    List,
    /// Write docs/mutants.md
    Doc,
    /// Try mutants, all of them without any name
    Run(Run),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// Names from `list`
    names: Vec<String>,
    /// Copies of the tree worked on at the same time, each with builds of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// A commit to take instead of the tracked files as they stand
    #[arg(long)]
    commit: Option<String>,
    /// Where copies, builds and logs go [default: target/mutants]
    #[arg(long)]
    work: Option<PathBuf>,
    /// Print the results as JSON; progress goes to standard error
    #[arg(long)]
    json: bool,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run(&cli.repository) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("op-dbus-mutants: {why}");
            ExitCode::from(2)
        }
    }
}

impl Command {
    fn run(&self, repository: &std::path::Path) -> Result<ExitCode> {
        let repository = repository
            .canonicalize()
            .map_err(Error::io("find", repository))?;
        let table = Table::load(&repository)?;
        match self {
            Self::List => {
                for mutant in table.mutants() {
                    let killer = match &mutant.killer {
                        Some(killer) => killer.to_string(),
                        None => "(proved harmless)".to_owned(),
                    };
                    println!("{:<36} {killer}", mutant.name);
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Doc => {
                let path = repository.join(doc::PATH);
                std::fs::write(&path, doc::page(&table)).map_err(Error::io("write", &path))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Run(args) => {
                let work = match &args.work {
                    Some(work) => {
                        std::fs::create_dir_all(work).map_err(Error::io("make", work))?;
                        work.canonicalize().map_err(Error::io("find", work))?
                    }
                    None => repository.join("target/mutants"),
                };
                let lab = Lab {
                    repository,
                    source: args.commit.clone().map_or(Source::Worktree, Source::Commit),
                    work,
                    jobs: usize::from(args.jobs),
                };
                args.run(&lab, &table)
            }
        }
    }
}

impl Run {
    fn run(&self, lab: &Lab, table: &Table) -> Result<ExitCode> {
        let mutants = table.chosen(&self.names)?;
        let reports = lab.run(&mutants, &|what| eprintln!("{what}"), &|report| {
            if self.json {
                eprintln!("{report}");
            } else {
                println!("{report}");
            }
        })?;
        if self.json {
            let text = serde_json::to_string_pretty(&reports).map_err(|why| Error::Program {
                program: "op-dbus-mutants",
                why: why.to_string(),
                remedy: "run it without --json",
            })?;
            println!("{text}");
        } else {
            println!("{}", summary(&reports));
        }
        Ok(if reports.iter().all(|report| report.outcome.is_good()) {
            ExitCode::SUCCESS
        } else if reports
            .iter()
            .any(|report| report.outcome == Outcome::Survived)
        {
            ExitCode::from(1)
        } else {
            ExitCode::from(2)
        })
    }
}
