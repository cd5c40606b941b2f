//! Tab-separated rows, one per line; quotes are literal.

use std::path::Path;

use super::places::Places;
use super::{Columns, Each};
use crate::data::text::Lines;
use crate::error::{Error, Result};

pub(super) fn read(
    path: &Path,
    mut lines: Lines,
    columns: &Columns,
    needs_label: bool,
    each: Each,
) -> Result<()> {
    let (mut places, mut blank) = (None, None);
    while let Some((number, line)) = lines.next_line()? {
        let fields: Vec<&str> = line.split('\t').collect();
        let places = match &mut places {
            Some(places) => places,
            None if columns.header => {
                let header: Vec<String> = fields.iter().map(|f| (*f).to_string()).collect();
                places = Some(Places::find(path, columns, Some(&header), needs_label)?);
                continue;
            }
            None => places.insert(Places::find(path, columns, None, needs_label)?),
        };
        if line.is_empty() {
            blank.get_or_insert(number);
            continue;
        }
        if let (Some(line), false) = (blank, needs_label) {
            return Err(Error::line(path, line, "is empty; predictions need a row for every line"));
        }
        if let Some(row) = places.row(path, number, columns, needs_label, &fields)? {
            each(row)?;
        }
    }
    Ok(())
}
