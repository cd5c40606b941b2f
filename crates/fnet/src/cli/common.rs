//! What several subcommands share: names, threads, inputs, printing.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use fnet_train::progress::duration;
use fnet_train::{Error, Result};
use serde::de::DeserializeOwned;

/// A value by the name that it has in files.
pub fn parse_name<T: DeserializeOwned>(name: &str) -> std::result::Result<T, String> {
    serde_json::from_value(name.into()).map_err(|e| e.to_string())
}

/// Settings in messages: by their flags.
pub fn name_flag(field: &str, f: &mut fmt::Formatter) -> fmt::Result {
    match field {
        "parts" => f.write_str("--train-parts"),
        field => write!(f, "--{}", field.replace('_', "-")),
    }
}

/// Uses this many threads, or as many as the machine has.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    if let Some(threads) = threads.filter(|n| !(1..=MOST_THREADS).contains(n)) {
        return Err(Error::usage(format!("--threads {threads}: must be from 1 to {MOST_THREADS}")));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .use_current_thread() // nothing is handed over for a part of a step
        .build_global()
        .map_err(|e| Error::usage(format!("--threads: {e}")))
}

/// More threads than any machine has that this program was tried on.
const MOST_THREADS: usize = 1_024;

/// Refuses to write over a file, or into a folder, that is read: by any name that leads to it.
pub fn check_not_an_input(flag: &str, output: &Path, inputs: &[&Path]) -> Result<()> {
    let Ok(output) = output.canonicalize() else { return Ok(()) }; // what is not there is no input
    match inputs.iter().find(|input| input.canonicalize().is_ok_and(|input| input == output)) {
        Some(input) => {
            let message = format!("{flag}: is the input {}, which it would replace", input.display());
            Err(Error::file(&output, message))
        }
        None => Ok(()),
    }
}

/// Prints a line on standard output. A reader that has gone away is no error.
pub fn say(text: impl std::fmt::Display) -> Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io(Path::new("standard output"))(e))
        }
        _ => Ok(()),
    }
}

/// The table with aligned columns.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        cells.join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Says how long a comparison took and where its report is; an error if some of its runs failed.
pub fn finish_runs(out: &Path, begun: Instant, failed: usize) -> Result<()> {
    let took = duration(begun.elapsed().as_secs_f64());
    eprintln!("done in {took}; report: {}", out.join("report.html").display());
    if failed == 0 {
        return Ok(());
    }
    let message = format!("{failed} of its runs failed, see its report; the same command tries them again");
    Err(Error::file(out, message))
}
