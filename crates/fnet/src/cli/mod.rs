//! The command line; one file a subcommand.

mod columns;
mod common;
mod compare;
mod convert;
mod embed;
mod evaluate;
mod export;
mod fill_mask;
mod finetune;
mod forecast;
mod inspect;
mod loop_flags;
mod opened;
mod opened_columns;
mod output;
mod predict;
mod pretrain;
mod processes;
mod product_flags;
mod quickstart;
mod run_flags;
mod search;
mod serve;
mod signal_flags;
mod similarity;
mod tokenizer;
mod universal;
mod vector_flags;
mod world;

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
#[allow(clippy::large_enum_variant)] // there is one of it
enum Command {
    Quickstart(quickstart::Args),
    Tokenizer(tokenizer::Args),
    Pretrain(pretrain::Args),
    Finetune(finetune::Args),
    Forecast(forecast::Args),
    Compare(compare::Args),
    Universal(universal::Args),
    Evaluate(evaluate::Args),
    Predict(predict::Args),
    FillMask(fill_mask::Args),
    Embed(embed::Args),
    Search(search::Args),
    Similarity(similarity::Args),
    Serve(serve::Args),
    Convert(convert::Args),
    Export(export::Args),
    Inspect(inspect::Args),
}

/// Runs the program; one line on standard error says what went wrong.
pub fn main() -> ExitCode {
    fnet_train::settings::call_settings(common::name_flag);
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        if !world::is_led() {
            let _ = error.print(); // once, by the process that leads
        }
        std::process::exit(error.exit_code())
    });
    let done = world::enter().and_then(|world| {
        let done = if matches!(cli.command, Command::Pretrain(_) | Command::Finetune(_)) {
            run(cli.command)
        } else {
            world::alone().and_then(|()| run(cli.command))
        };
        world.leave(&done);
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Interrupted { .. }) => {
            if !world::is_led() {
                eprintln!("{error}");
            }
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
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Tokenizer(args) => tokenizer::run(&args),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Finetune(args) => finetune::run(args),
        Command::Forecast(args) => forecast::run(&args),
        Command::Compare(args) => compare::run(args),
        Command::Universal(args) => universal::run(args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::FillMask(args) => fill_mask::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Similarity(args) => similarity::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    }
}
