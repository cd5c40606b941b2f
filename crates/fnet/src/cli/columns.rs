//! What flags that name columns stand for.

use fnet_train::{Error, Result};

/// The names in `--text` flags: commas are between them, and within a name that stands in quotes, as in CSV.
pub fn column_names(flags: &[String]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for flag in flags {
        let mut records = csv::ReaderBuilder::new().has_headers(false).from_reader(flag.as_bytes());
        match records.records().next() {
            Some(Ok(record)) => names.extend(record.iter().map(String::from)),
            _ => return Err(Error::usage("--text: name one or two text columns, with a comma between")),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_commas_in_quotes() {
        let names = |flags: &[&str]| column_names(&flags.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(names(&["a,b"]).unwrap(), ["a", "b"]);
        assert_eq!(names(&["\"a, b\",c"]).unwrap(), ["a, b", "c"]);
        assert_eq!(names(&["a", "b"]).unwrap(), ["a", "b"]);
        assert!(names(&[""]).is_err());
        assert!(names(&[]).unwrap().is_empty());
    }
}
