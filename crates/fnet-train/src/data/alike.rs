//! Texts that are or are not alike: scored pairs, pairs, triplets, and texts alone.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::tasks::rows::{self, Column, Columns, beginning, holds_text, quoted_names};
use crate::error::{Error, Result};
use crate::settings::setting;

/// What the rows of a file are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Two texts, and how alike they are.
    Scored,
    /// Two texts that belong together.
    Pairs,
    /// A text, one that belongs to it, and one that does not.
    Triplets,
    /// Texts alone.
    #[default]
    Texts,
}

impl Kind {
    /// Texts of a row as they are compared: a text alone is compared with itself.
    pub fn texts(self) -> usize {
        if self == Self::Triplets { 3 } else { 2 }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scored => "scored pairs",
            Self::Pairs => "pairs",
            Self::Triplets => "triplets",
            Self::Texts => "texts",
        }
    }
}

/// The rows of a file.
#[derive(Debug, Clone)]
pub struct Rows {
    /// What they are.
    pub kind: Kind,
    /// The texts of each row.
    pub texts: Vec<Vec<String>>,
    /// The score of each row, of scored pairs.
    pub scores: Vec<f32>,
}

/// Columns with these names hold scores, unless others are named.
const SCORES: [&str; 5] = ["score", "scores", "label", "labels", "similarity"];

/// Which columns hold the texts and the score, as the user says.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// One to three text columns, or none.
    pub text: &'a [String],
    /// The column of the score.
    pub label: Option<&'a str>,
    /// Whether files begin with a header.
    pub header: bool,
}

/// Reads a file. Where no columns are named, its header says what it holds, as with sentence-transformers: a column named
/// score or label is the score, the others are texts in their order. A .txt file has a text a line.
///
/// # Errors
/// Names the file and the line or the column that does not fit.
pub fn read(path: &Path, named: Named) -> Result<Rows> {
    let (kind, columns) = columns_of(path, named)?;
    let mut found = Rows { kind, texts: Vec::new(), scores: Vec::new() };
    rows::read(path, &columns, columns.label.is_some(), |row| {
        let mut texts: Vec<String> = [Some(row.first), row.second].into_iter().flatten().collect();
        match (kind, row.label) {
            (Kind::Triplets, Some(third)) => texts.push(third),
            (_, Some(label)) => match label.trim().parse::<f32>() {
                Ok(score) if score.is_finite() => found.scores.push(score),
                _ => {
                    let message = format!("the score `{label}` is not a number");
                    return Err(Error::line(path, row.line, message));
                }
            },
            (_, None) => {}
        }
        if let Some(blank) = texts.iter().position(|text| text.trim().is_empty()) {
            if kind == Kind::Texts {
                return Ok(()); // an empty line says nothing
            }
            let message = format!("text {} is empty: fill it in, or leave the row out", blank + 1);
            return Err(Error::line(path, row.line, message));
        }
        found.texts.push(texts);
        Ok(())
    })?;
    if found.texts.is_empty() {
        return Err(Error::file(path, "holds no texts"));
    }
    Ok(found)
}

/// The columns; of triplets, the third text stands in the place of the label.
fn columns_of(path: &Path, named: Named) -> Result<(Kind, Columns)> {
    let whole = |text: Vec<Column>, label: Option<Column>, header| Columns {
        text,
        label,
        header,
        skip_ragged: false,
        several_labels: false,
    };
    let found = if named.header { beginning(path)? } else { None };
    let (texts, label) = match found {
        Some((header, rows)) => by_header(path, &header, &rows, named)?,
        None if named.header => return Ok((Kind::Texts, whole(Vec::new(), None, false))),
        None if named.text.is_empty() => {
            let [text, no_header] = ["text", "no_header"].map(setting);
            return Err(Error::usage(format!("{no_header}: name the text columns by {text}")));
        }
        None => (named.text.to_vec(), named.label.map(String::from)),
    };
    let column = |name: &String| match (named.header, name.parse::<usize>()) {
        (true, _) => Ok(Column::Name(name.clone())),
        (false, Ok(number)) if number > 0 => Ok(Column::Number(number - 1)),
        _ => {
            let [text, no_header] = ["text", "no_header"].map(setting);
            Err(Error::usage(format!("{text} {name}: with {no_header} columns are numbers, from 1")))
        }
    };
    let mut columns: Vec<Column> = texts.iter().map(column).collect::<Result<_>>()?;
    let label = label.as_ref().map(column).transpose()?;
    let refuse = |message: &str| Err(Error::file(path, message.to_string()));
    if let Some(twice) = (1..texts.len()).find(|i| texts[..*i].contains(&texts[*i])) {
        return refuse(&format!("{}: names the column `{}` twice", setting("text"), texts[twice]));
    }
    match (columns.len(), label) {
        (1, None) => Ok((Kind::Texts, whole(columns, None, named.header))),
        (2, None) => Ok((Kind::Pairs, whole(columns, None, named.header))),
        (2, Some(score)) => Ok((Kind::Scored, whole(columns, Some(score), named.header))),
        (3, None) => {
            let third = columns.pop();
            Ok((Kind::Triplets, whole(columns, third, named.header)))
        }
        (1, Some(_)) => refuse("has a score, but one text column: scores are of pairs"),
        (3, Some(_)) => refuse("has a score and three text columns: scores are of pairs"),
        _ => refuse("has more than three text columns: name one to three of them"),
    }
}

type TextsAndLabel = (Vec<String>, Option<String>);

fn by_header(path: &Path, header: &[String], rows: &[Vec<String>], named: Named) -> Result<TextsAndLabel> {
    let is_score = |name: &String| match named.label {
        Some(label) => name.trim() == label.trim(),
        None => SCORES.contains(&name.trim().to_lowercase().as_str()) && !named.text.contains(name),
    };
    let names = || quoted_names(header.iter().map(String::as_str));
    let score = header.iter().find(|name| is_score(name)).cloned();
    if let (Some(label), None) = (named.label, &score) {
        let field = setting("label");
        return Err(Error::file(
            path,
            format!("{field} {label}: there is no such column; there are {}", names()),
        ));
    }
    if !named.text.is_empty() {
        return Ok((named.text.to_vec(), score));
    }
    let is_text = |i: &usize| !is_score(&header[*i]) && holds_text(rows, *i);
    let texts: Vec<String> = (0..header.len()).filter(is_text).map(|i| header[i].clone()).collect();
    if (1..=3).contains(&texts.len()) {
        return Ok((texts, score));
    }
    let message =
        format!("which columns are the texts? Name them by {}; there are {}", setting("text"), names());
    Err(Error::file(path, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Named = Named { text: &[], label: None, header: true };

    fn rows(name: &str, text: &str, named: Named) -> std::result::Result<Rows, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path, named).map_err(|e| e.to_string())
    }

    #[test]
    fn the_header_says_what_a_file_holds() {
        for (name, text, kind, texts, score) in [
            ("a.csv", "one,two,score\nx,y,0.5\n", Kind::Scored, 2, Some(0.5)),
            ("a.tsv", "id\tone\ttwo\n1\tx\ty\n", Kind::Pairs, 2, None),
            (
                "a.jsonl",
                "{\"anchor\": \"x\", \"positive\": \"y\", \"negative\": \"z\"}\n",
                Kind::Triplets,
                3,
                None,
            ),
            ("a.jsonl", "{\"label\": 1, \"a\": \"x\", \"b\": \"y\"}\n", Kind::Scored, 2, Some(1.0)),
            ("a.txt", "x\n\ny\n", Kind::Texts, 1, None),
            ("a.csv", "text\nx\n", Kind::Texts, 1, None),
        ] {
            let found = rows(name, text, NOTHING).unwrap();
            assert_eq!((found.kind, found.texts[0].len()), (kind, texts), "{text}");
            assert_eq!(found.scores.first().copied(), score, "{text}");
            assert_eq!(found.texts[0][0], "x");
        }
        let columns = ["2".to_string(), "3".into()];
        let numbered = Named { text: &columns, label: Some("1"), header: false };
        let found = rows("a.tsv", "0.5\tx\ty\n", numbered).unwrap();
        assert_eq!((found.kind, found.scores[0]), (Kind::Scored, 0.5));
        let named = ["b".to_string(), "a".into()];
        let named = Named { text: &named, label: None, header: true };
        assert_eq!(rows("a.csv", "a,b,c\nx,y,z\n", named).unwrap().texts[0], ["y", "x"]);
        assert_eq!(rows("a.csv", "a,b,score\nx,y,3\n", named).unwrap().scores, [3.0]);
        let wrong = Named { label: Some("Score"), ..NOTHING };
        let message = rows("a.csv", "a,b,score\nx,y,3\n", wrong).unwrap_err();
        assert!(message.contains("there is no such column; there are `a`, `b`, `score`"), "{message}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (name, text, says) in [
            ("a.csv", "a,b,c,d\nx,y,z,w\n", "which columns are the texts"),
            ("a.csv", "a,score\nx,1\n", "one text column"),
            ("a.csv", "a,b,c,score\nx,y,z,1\n", "three text columns"),
            ("a.csv", "a,b,score\nx,y,high\n", "a.csv:2: the score `high` is not a number"),
            ("a.csv", "a,b,score\nx,y,nan\n", "not a number"),
            ("a.csv", "a,b,score\nx,y,\n", "has no label"),
            ("a.csv", "a,b\nx,y\nx, \n", "a.csv:3: text 2 is empty"),
            ("a.txt", "\n\n", "holds no texts"),
            ("a.csv", "a,b\n", "which columns"),
        ] {
            let message = rows(name, text, NOTHING).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
    }
}
