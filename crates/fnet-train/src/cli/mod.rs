//! The command line; one file a subcommand.

mod common;
mod finetune;
mod pretrain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fnet_train::{Error, Result};

/// Train and use FNet encoders: token mixing by Fourier transforms instead of attention.
#[derive(Parser)]
#[command(name = "fnet", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Pretrain(pretrain::Args),
    Finetune(finetune::Args),
}

/// Runs the program; one line on standard error says what went wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Interrupted { .. }) => {
            eprintln!("{error}");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Pretrain(args) => pretrain::run(args),
        Command::Finetune(args) => finetune::run(args),
    }
}
