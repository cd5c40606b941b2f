//! What flags that name columns stand for.

use fnet_encoder::{ModelConfig, Pairs};
use fnet_train::data::tasks::rows::{Column, Columns};
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

/// The columns of a user's own file: by name, or without a header by number from 1.
pub fn own_columns(text: &[String], label: Option<&str>, no_header: bool) -> Result<Columns> {
    if !(1..=2).contains(&text.len()) {
        return Err(Error::usage("--text: name one or two text columns, with a comma between"));
    }
    if let [first, second] = text
        && first == second
    {
        return Err(Error::usage(format!("--text: names the column `{first}` twice")));
    }
    if let Some(label) = label.filter(|label| text.iter().any(|text| text == label)) {
        return Err(Error::usage(format!("--label {label}: is a text's column, too")));
    }
    let column = |flag: &str, name: &str| {
        if !no_header {
            return Ok(Column::name(name));
        }
        let number = name.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        number.map(Column::Number).ok_or_else(|| {
            Error::usage(format!("{flag} {name}: with --no-header columns are numbers, from 1"))
        })
    };
    Ok(Columns {
        text: text.iter().map(|name| column("--text", name)).collect::<Result<_>>()?,
        label: label.map(|name| column("--label", name)).transpose()?,
        header: !no_header,
        skip_ragged: false,
    })
}

/// Refuses a second text where the model cannot tell it from the first.
pub fn check_segments(config: &ModelConfig, columns: &Columns) -> Result<()> {
    let [_, second] = columns.text.as_slice() else { return Ok(()) };
    if config.classifier_pairs != Pairs::Together || config.type_vocab_size > 1 {
        return Ok(());
    }
    let name = match second {
        Column::Name(name) => name.clone(),
        Column::Number(number) => (number + 1).to_string(),
    };
    Err(Error::usage(format!(
        "--text: the column `{name}` is a second text, which this model cannot tell from the first (type_vocab_size is 1 \
         in config.json); name one column, or fine-tune with --pairs towers"
    )))
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

    #[test]
    fn columns_by_number_begin_with_one() {
        let columns = |text: &str, label| own_columns(&[text.into()], label, true);
        let found = columns("2", Some("1")).unwrap();
        assert_eq!((found.text, found.label), (vec![Column::Number(1)], Some(Column::Number(0))));
        for (text, label) in [("0", None), ("a", None), ("1", Some("x")), ("1", Some("1"))] {
            assert!(columns(text, label).is_err(), "{text} {label:?}");
        }
    }
}
