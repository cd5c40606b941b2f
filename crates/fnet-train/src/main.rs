//! The program `fnet`: tokenizers, pretraining, fine-tuning, evaluation and prediction.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
