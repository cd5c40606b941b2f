//! Rows as JSON objects, one per line.

use std::path::Path;

use serde_json::{Map, Value};

use super::places::quoted_names;
use super::{Column, Columns, Each, Row};
use crate::data::tasks::label_sets::SEPARATOR;
use crate::data::text::Lines;
use crate::error::{Error, Result};

/// The next line's object, with the line's number; blank lines are skipped.
pub(crate) fn next_object(lines: &mut Lines) -> Result<Option<(usize, Map<String, Value>)>> {
    while let Some((number, line)) = lines.next_line()? {
        if line.trim().is_empty() {
            continue;
        }
        return match serde_json::from_str(line) {
            Ok(object) => Ok(Some((number, object))),
            Err(e) => Err(lines.no_object("", &e)),
        };
    }
    Ok(None)
}

pub(super) fn read(
    path: &Path,
    mut lines: Lines,
    columns: &Columns,
    needs_label: bool,
    each: Each,
) -> Result<()> {
    while let Some((number, object)) = next_object(&mut lines)? {
        let field = |column: &Column| -> Result<Option<String>> {
            let Column::Name(name) = column else {
                return Err(Error::file(path, "a JSONL file's columns are named, not numbered"));
            };
            match object.get(name) {
                Some(Value::String(text)) => Ok(Some(text.clone())),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
                None | Some(Value::Null) => Ok(None),
                Some(_) => Err(Error::line(path, number, format!("`{name}` is neither text nor a number"))),
            }
        };
        let needed = |column: &Column| -> Result<String> {
            field(column)?.ok_or_else(|| {
                let name = if let Column::Name(name) = column { name } else { "" };
                if object.contains_key(name) {
                    return Error::line(path, number, format!("has no `{name}`: it is null"));
                }
                let names = quoted_names(object.keys().map(String::as_str));
                Error::line(path, number, format!("has no `{name}`; it has {names}"))
            })
        };
        let label = match &columns.label {
            Some(Column::Name(name))
                if columns.several_labels && object.get(name).is_some_and(Value::is_array) =>
            {
                Some(
                    names(&object[name])
                        .map_err(|what| Error::line(path, number, format!("`{name}` {what}")))?,
                )
            }
            Some(label) if needs_label => Some(needed(label)?),
            Some(label) => field(label)?,
            None => None,
        };
        let first = columns.text.first().map_or_else(|| Ok(String::new()), needed)?;
        let second = columns.text.get(1).map(needed).transpose()?;
        each(Row { line: number, first, second, label })?;
    }
    Ok(())
}

/// The names of a list, as one text.
fn names(list: &Value) -> std::result::Result<String, String> {
    let name = |value: &Value| match value {
        Value::String(name) if name.contains(SEPARATOR) => {
            Err(format!("names a label with {SEPARATOR} in it: `{name}`"))
        }
        Value::String(name) => Ok(name.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err("is a list of something other than names".to_string()),
    };
    let names: Vec<String> =
        list.as_array().into_iter().flatten().map(name).collect::<std::result::Result<_, _>>()?;
    Ok(names.join(&SEPARATOR.to_string()))
}
