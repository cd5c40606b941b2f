//! Series in CSV and TSV: a series a row, or a step a row.

use std::path::Path;

use super::{Read, Table, number};
use crate::data::signals::{Asked, Layout, Purpose, Reading};
use crate::data::tasks::rows::{Column, Columns, quoted_names};
use crate::data::text::{self, format_ending};
use crate::error::{Error, Result};
use crate::settings::{refused, setting};

/// Reads a table.
///
/// # Errors
/// Names the line of a value that is no number, of a series that is not in one piece, and a column that is missing.
pub(super) fn read(path: &Path, purpose: Purpose) -> Result<Read> {
    let separator = if format_ending(path) == "tsv" { b'\t' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(text::open(path)?);
    let broken = |e: csv::Error| {
        let line = e.position().map_or(1, |position| position.line() as usize);
        Error::line(path, line, e.to_string())
    };
    let header = reader.headers().map_err(broken)?;
    let header: Vec<String> = header.iter().map(|h| h.trim_start_matches('\u{FEFF}').trim().into()).collect();
    let table = match purpose {
        Purpose::Learn(options) => {
            let label = options.columns.as_ref().and_then(|columns: &Columns| columns.label.clone());
            let layout = options.layout.unwrap_or(Layout::Wide);
            let id = options.series_id.clone();
            if layout == Layout::Long && id.is_none() {
                return Err(refused("series_id", "name the column that says to which series a step belongs"));
            }
            Table { layout, id, label, channels: Vec::new() }
        }
        Purpose::Judge(Reading::Series { table: Some(table), .. }, _)
        | Purpose::Predict(Reading::Series { table: Some(table), .. }) => table.clone(),
        _ => return Err(Error::file(path, "is a table, which the model does not read")),
    };
    let find = |name: &str| {
        header.iter().position(|column| column == name).ok_or_else(|| {
            let names = quoted_names(header.iter().map(String::as_str));
            Error::line(path, 1, format!("has no column `{name}`; its columns are {names}"))
        })
    };
    let label = match &table.label {
        Some(Column::Name(name)) if purpose.needs_labels() => Some(find(name)?),
        Some(Column::Name(name)) => find(name).ok(),
        _ if purpose.needs_labels() => {
            return Err(refused("label", format!("name the column with the {}", label_name(purpose))));
        }
        _ => None,
    };
    let id = table.id.as_deref().map(find).transpose()?;
    let values: Vec<usize> = match table.layout {
        Layout::Long if !table.channels.is_empty() => {
            table.channels.iter().map(|name| find(name)).collect::<Result<_>>()?
        }
        _ => (0..header.len()).filter(|column| Some(*column) != label && Some(*column) != id).collect(),
    };
    let asked = purpose.asked();
    let of_steps = asked.is_of_positions();
    if of_steps && table.layout == Layout::Wide {
        let message = "steps have labels of their own where each is a row";
        return Err(refused("per_position", format!("{message}: {} long", setting("series"))));
    }
    let mut read =
        Read { channels: if table.layout == Layout::Wide { 1 } else { values.len() }, ..Read::default() };
    let (ignored, mut last) = (purpose.ignored_label(), None::<String>);
    let mut seen = std::collections::HashSet::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(broken)? {
        let line = record.position().map_or(0, |position| position.line() as usize);
        let fail = |message: String| Err(Error::line(path, line, message));
        if record.len() > header.len() {
            return fail(format!("has {} fields, the header {}", record.len(), header.len()));
        }
        let field = |column: usize| record.get(column).unwrap_or("").trim();
        let own_label = label.map_or("", field);
        let may_be_empty = asked == Asked::Labels || ignored.as_deref() == Some("");
        if label.is_some() && purpose.needs_labels() && own_label.is_empty() && !may_be_empty {
            return fail("has no label".into());
        }
        let numbers = |columns: &[usize]| -> Result<Vec<f32>> {
            columns.iter().map(|c| number(field(*c)).map_err(|m| Error::line(path, line, m))).collect()
        };
        match table.layout {
            Layout::Wide => {
                // Series may differ in length: the last fields of a short one are empty.
                let steps =
                    values.iter().rposition(|column| !field(*column).is_empty()).map_or(0, |last| last + 1);
                if steps == 0 {
                    return fail("has no steps".into());
                }
                read.series.push(numbers(&values[..steps])?);
                read.labels.push(own_label.into());
                read.places.push(format!("line {line}"));
            }
            Layout::Long => {
                let own = id.map_or("", field);
                if last.as_deref() != Some(own) {
                    if !seen.insert(own.to_string()) {
                        return fail(format!(
                            "goes on with series `{own}`, which ended before: sort the rows"
                        ));
                    }
                    last = Some(own.to_string());
                    read.series.push(Vec::new());
                    if !of_steps {
                        read.labels.push(own_label.into());
                        read.places.push(format!("line {line}"));
                    }
                }
                if of_steps {
                    read.labels.push(own_label.into());
                    read.places.push(format!("line {line}"));
                } else if read.labels.last().is_some_and(|first| first != own_label) && purpose.needs_labels()
                {
                    return fail(format!("has label `{own_label}` within series `{own}`, which has another"));
                }
                let step = numbers(&values)?;
                if let Some(series) = read.series.last_mut() {
                    series.extend(step);
                }
            }
        }
    }
    if values.is_empty() {
        return Err(Error::line(path, 1, format!("has no columns beside {}", setting("label"))));
    }
    let channels = values.iter().map(|column| header[*column].clone()).collect();
    let channels = if table.layout == Layout::Long { channels } else { Vec::new() };
    read.table = Some(Table { channels, ..table });
    Ok(read)
}

/// What a label is, in messages.
fn label_name(purpose: Purpose) -> &'static str {
    match purpose.asked() {
        Asked::Number(_) | Asked::Numbers(_) => "number",
        Asked::Labels => "labels",
        Asked::Class | Asked::Positions => "class",
    }
}

#[cfg(test)]
mod tests {
    use super::super::SeriesFile;
    use super::*;
    use crate::data::signals::{Format, Options, Source};

    fn open(text: &str, layout: Layout) -> Result<SeriesFile> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let columns = Columns {
            text: Vec::new(),
            label: Some(Column::name("y")),
            header: true,
            skip_ragged: false,
            several_labels: false,
        };
        let series_id = (layout == Layout::Long).then(|| "id".to_string());
        let options =
            Options { layout: Some(layout), series_id, columns: Some(columns), ..Options::default() };
        SeriesFile::open(&path, Format::Table, Purpose::Learn(&options))
    }

    #[test]
    fn a_series_a_row_and_a_step_a_row() {
        let wide = open("y,t0,t1,t2\nup,1,2,3\ndown,3,1,\n", Layout::Wide).unwrap();
        assert_eq!(wide.series, [vec![1.0, 2.0, 3.0], vec![3.0, 1.0]]);
        assert_eq!((wide.shape().width, wide.shape().classes), (1, vec!["down".to_string(), "up".into()]));
        let long = open("id,a,y,b\n7,1,up,2\n7,3,up,4\n9,5,down,6\n", Layout::Long).unwrap();
        assert_eq!(long.series, [vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0]]);
        assert_eq!(long.table.clone().unwrap().channels, ["a", "b"]);
        // The same columns are found in another order, and without labels.
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("b.csv");
        std::fs::write(&path, "b,id,a\n2,1,1\n").unwrap();
        let reading = long.reading();
        let other = SeriesFile::open(&path, Format::Table, Purpose::Predict(&reading)).unwrap();
        assert_eq!(other.series, [vec![1.0, 2.0]]);
    }

    #[test]
    fn errors_name_the_line() {
        for (text, layout, says) in [
            ("y,t0\nup,x\n", Layout::Wide, "a.csv:2: `x` is no number"),
            ("y,t0,t1\nup,,1\n", Layout::Wide, "missing value"),
            ("y,t0\nup,\n", Layout::Wide, "a.csv:2: has no steps"),
            ("y,t0\n,1\n", Layout::Wide, "a.csv:2: has no label"),
            ("z,t0\nup,1\n", Layout::Wide, "has no column `y`; its columns are `z`, `t0`"),
            ("y,t0\nup,1,2\n", Layout::Wide, "has 3 fields, the header 2"),
            ("y,t0\n", Layout::Wide, "holds no series"),
            ("y\nup\n", Layout::Wide, "has no steps"),
            ("id,y,a\n1,up,1\n2,up,1\n1,up,1\n", Layout::Long, "a.csv:4: goes on with series `1`"),
            ("id,y,a\n1,up,1\n1,down,1\n", Layout::Long, "a.csv:3: has label `down` within series `1`"),
        ] {
            let error = open(text, layout).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
