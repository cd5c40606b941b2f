//! Which columns hold what.

use fnet_encoder::{ModelConfig, Pairs};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::settings::setting;

/// A column by its name in the header, or by its number from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// Number from 0, for files without a header.
    Number(usize),
    /// Name in the header.
    Name(String),
}

impl Column {
    /// A column by name.
    pub fn name(name: &str) -> Self {
        Self::Name(name.into())
    }
}

/// Which columns hold what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// One or two text columns.
    pub text: Vec<Column>,
    /// The label's column, where there is one.
    pub label: Option<Column>,
    /// Whether the file starts with a header line (TSV and CSV).
    pub header: bool,
    /// Whether rows with another number of columns than the header are left out, as GLUE's own
    /// readers do for QQP, instead of being an error.
    #[serde(default)]
    pub skip_ragged: bool,
    /// Whether the label's column has any number of labels, also none: names with `|` between, in JSONL also a list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub several_labels: bool,
}

impl Columns {
    /// The columns of a user's own file: by name, or without a header by number from 1.
    ///
    /// # Errors
    /// If there is no text column or more than two, one is named twice, or a number is none.
    pub fn named(text: &[String], label: Option<&str>, header: bool) -> Result<Self> {
        let field = setting("text");
        if !(1..=2).contains(&text.len()) {
            return Err(Error::usage(format!("{field}: name one or two text columns, with a comma between")));
        }
        if let [first, second] = text
            && first == second
        {
            return Err(Error::usage(format!("{field}: names the column `{first}` twice")));
        }
        if let Some(label) = label.filter(|label| text.iter().any(|text| text == label)) {
            return Err(Error::usage(format!("{} {label}: is a text's column, too", setting("label"))));
        }
        let column = |field: &str, name: &str| {
            if header {
                return Ok(Column::name(name));
            }
            let number = name.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            number.map(Column::Number).ok_or_else(|| {
                let [field, no_header] = [field, "no_header"].map(setting);
                Error::usage(format!("{field} {name}: with {no_header} columns are numbers, from 1"))
            })
        };
        Ok(Self {
            text: text.iter().map(|name| column("text", name)).collect::<Result<_>>()?,
            label: label.map(|name| column("label", name)).transpose()?,
            header,
            skip_ragged: false,
            several_labels: false,
        })
    }

    /// Of a file with a text a line.
    pub fn of_lines() -> Self {
        Self { text: Vec::new(), label: None, header: false, skip_ragged: false, several_labels: false }
    }

    /// Refuses a second text where the model cannot tell it from the first.
    ///
    /// # Errors
    /// Names the second text's column.
    pub fn check_segments(&self, config: &ModelConfig) -> Result<()> {
        let [_, second] = self.text.as_slice() else { return Ok(()) };
        if config.classifier_pairs != Pairs::Together || config.type_vocab_size > 1 {
            return Ok(());
        }
        let name = match second {
            Column::Name(name) => name.clone(),
            Column::Number(number) => (number + 1).to_string(),
        };
        let [text, pairs] = ["text", "pairs"].map(setting);
        Err(Error::usage(format!(
            "{text}: the column `{name}` is a second text, which this model cannot tell from the first (type_vocab_size \
             is 1 in config.json); name one column, or fine-tune with {pairs} towers"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_by_number_begin_with_one() {
        let columns = |text: &str, label| Columns::named(&[text.into()], label, false);
        let found = columns("2", Some("1")).unwrap();
        assert_eq!((found.text, found.label), (vec![Column::Number(1)], Some(Column::Number(0))));
        for (text, label) in [("0", None), ("a", None), ("1", Some("x")), ("1", Some("1"))] {
            assert!(columns(text, label).is_err(), "{text} {label:?}");
        }
    }
}
