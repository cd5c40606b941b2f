//! Which of a row's fields are its texts and its label.

use std::path::Path;

use super::{Column, Columns, Row};
use crate::error::{Error, Result};

/// Column numbers, found once from the header.
pub(super) struct Places {
    text: Vec<usize>,
    label: Option<usize>,
    /// Fields of the header, or of the first row.
    width: Option<usize>,
}

/// Names that a message lists at most, and characters of each.
const MOST_NAMES: usize = 20;
const LONGEST_NAME: usize = 40;

/// A name as shown in messages: invisible characters are made visible, and long names are cut.
pub(crate) fn shortened(name: &str) -> String {
    let cut: String = name.chars().take(LONGEST_NAME).collect();
    let dots = if cut.len() < name.len() { ".." } else { "" };
    format!("{}{dots}", cut.escape_debug())
}

/// Names as listed in messages: invisible characters are made visible, and long names are cut.
pub(crate) fn quoted_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let shown: Vec<String> = names.take(MOST_NAMES).map(|name| format!("`{}`", shortened(name))).collect();
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

impl Places {
    pub fn find(
        path: &Path,
        columns: &Columns,
        header: Option<&[String]>,
        needs_label: bool,
    ) -> Result<Self> {
        let find = |column: &Column| match (column, header) {
            (Column::Number(number), _) => Ok(*number),
            (Column::Name(name), Some(header)) => named(path, name, header),
            (Column::Name(name), None) => {
                Err(Error::file(path, format!("has no header to find the column `{name}` in")))
            }
        };
        let label = match &columns.label {
            Some(label) if needs_label => Some(find(label)?),
            Some(label) => find(label).ok(),
            None => None,
        };
        let text = columns.text.iter().map(find).collect::<Result<Vec<_>>>()?;
        if needs_label && label.is_some_and(|label| text.contains(&label)) {
            return Err(Error::file(path, "a text and the label are the same column"));
        }
        Ok(Self { text, label, width: header.map(<[String]>::len) })
    }

    /// A row, or `None` if it is to be left out.
    pub fn row(
        &mut self,
        path: &Path,
        line: usize,
        columns: &Columns,
        needs_label: bool,
        fields: &[&str],
    ) -> Result<Option<Row>> {
        let width = *self.width.get_or_insert(fields.len());
        if columns.skip_ragged {
            // Predictions are identified by their number, so there no row may be left out.
            if needs_label && width != fields.len() {
                return Ok(None);
            }
        } else if fields.len() > width {
            let first = if columns.header { "the header" } else { "the first row" };
            let message = format!(
                "has {} fields, {first} {width}: put a field that holds the separator in quotes (.csv)",
                fields.len()
            );
            return Err(Error::line(path, line, message));
        }
        let field = |number: usize| {
            fields.get(number).map(|f| (*f).to_string()).ok_or_else(|| {
                let message = format!("has {} columns, column {} is needed", fields.len(), number + 1);
                Error::line(path, line, message)
            })
        };
        let label = match self.label {
            Some(number) if needs_label => Some(field(number)?),
            Some(number) => field(number).ok(),
            None => None,
        };
        let first = self.text.first().map_or_else(|| Ok(String::new()), |n| field(*n))?;
        let second = self.text.get(1).map(|n| field(*n)).transpose()?;
        Ok(Some(Row { line, first, second, label }))
    }
}

/// The index of a name in the header, ignoring blanks around it.
fn named(path: &Path, name: &str, header: &[String]) -> Result<usize> {
    let places =
        |is: &dyn Fn(&str) -> bool| -> Vec<usize> { (0..header.len()).filter(|i| is(&header[*i])).collect() };
    let mut found = places(&|h| h == name);
    if found.is_empty() {
        found = places(&|h| h.trim() == name.trim());
    }
    match found.as_slice() {
        [place] => Ok(*place),
        [] => {
            let names = quoted_names(header.iter().map(String::as_str));
            let hint = separator(name, header).unwrap_or_default();
            Err(Error::line(path, 1, format!("has no column `{name}`; its columns are {names}{hint}")))
        }
        _ => Err(Error::line(path, 1, format!("has {} columns `{name}`; rename all but one", found.len()))),
    }
}

/// What to do if the only column is a header with another separator between its names.
fn separator(name: &str, header: &[String]) -> Option<String> {
    let [only] = header else { return None };
    let [comma, tab] = [(',', ".csv"), ('\t', ".tsv")];
    let is_by = |separator: char| only.split(separator).any(|part| part.trim().trim_matches('"') == name);
    if is_by(';') {
        return Some("; they are separated by `;`: save the file with commas".into());
    }
    let (_, ending) = [comma, tab].into_iter().find(|(separator, _)| is_by(*separator))?;
    Some(format!("; by its separators this is a {ending} file: rename it"))
}
