//! Token ids as a model reads them: takes a JSON string, or a pair of them, per line and answers with a JSON
//! object.
//!
//!     echo '["a first", "a second"]' | cargo run --release -p fnet-train --example encode -- DIR

use std::error::Error;
use std::io::{BufRead, BufWriter, Write};
use std::path::Path;

use fnet_train::data::tokenizer::Tokenizer;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("name a model folder")?;
    let tokenizer = Tokenizer::of_folder(Path::new(&folder))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut tokens, mut segments) = (Vec::new(), Vec::new());
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let texts: Vec<&str> = line
            .as_array()
            .map_or(vec![&line], |pair| pair.iter().collect())
            .into_iter()
            .filter_map(Value::as_str)
            .collect();
        let ids = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
        let [first, second] = [0, 1].map(|i| ids.get(i).map(Vec::as_slice));
        tokenizer.assemble(first.unwrap_or_default(), second, usize::MAX, &mut tokens, &mut segments);
        writeln!(out, "{}", json!({"tokens": tokens, "segments": segments}))?;
    }
    Ok(())
}
