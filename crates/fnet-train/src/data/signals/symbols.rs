//! Rows whose texts are read symbol by symbol, by character or byte: proteins, formulas, raw text. Each symbol is a vector
//! with a single one, so that the projection of vectors is a table of symbols.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::classes::{self, Labelled};
use super::{Asked, Purpose, Reading, Shape, Signal, Source, Target, UNASKED};
use crate::data::tasks::rows::{self, Columns};
use crate::error::{Error, Result};
use crate::settings::refused;

/// What texts are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alphabet {
    /// The 256 bytes of UTF-8.
    Bytes,
    /// These characters, and one for all others.
    Characters(Vec<char>),
}

/// More characters than this are no alphabet.
const MOST_CHARACTERS: usize = 4_096;

impl Alphabet {
    /// Number of symbols.
    #[allow(clippy::len_without_is_empty)] // there is always the one for all others
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes => 256,
            Self::Characters(characters) => characters.len() + 1,
        }
    }

    fn symbols(&self, text: &str) -> Vec<u16> {
        match self {
            Self::Bytes => text.bytes().map(u16::from).collect(),
            Self::Characters(characters) => {
                let symbol = |c: char| characters.binary_search(&c).unwrap_or(characters.len()) as u16;
                text.chars().map(symbol).collect()
            }
        }
    }
}

/// The rows of a file.
pub struct SymbolFile {
    /// Of all rows, one after another.
    symbols: Vec<u16>,
    /// Where each row ends.
    ends: Vec<usize>,
    targets: Vec<Target>,
    classes: Vec<String>,
    alphabet: Alphabet,
    columns: Columns,
    asked: Asked,
    ignored_label: Option<String>,
}

impl SymbolFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the line of an empty text, and of labels that do not fit it.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Self> {
        let (alphabet, columns, asked, ignored_label) = match purpose {
            Purpose::Learn(options) => {
                let (Some(alphabet), Some(columns)) = (&options.alphabet, &options.columns) else {
                    return Err(refused(
                        "tokens, text",
                        "name the column of the texts, and what they are read by",
                    ));
                };
                (alphabet.clone(), columns.clone(), options.asked.clone(), options.ignored_label.clone())
            }
            Purpose::Judge(reading, _) | Purpose::Predict(reading) => match reading {
                Reading::Symbols { alphabet, columns, asked, ignored_label } => {
                    (alphabet.clone(), columns.clone(), asked.clone(), ignored_label.clone())
                }
                _ => return purpose.refuse(path, "rows"),
            },
        };
        let mut read = Read::default();
        let needs_labels = purpose.needs_labels();
        rows::read(path, &columns, needs_labels, |row| {
            let fail = |message: &str| Err(Error::line(path, row.line, message));
            if row.first.is_empty() {
                return fail("has an empty text");
            }
            read.texts.push(row.first);
            read.labels.push(row.label.unwrap_or_default());
            read.lines.push(row.line);
            Ok(())
        })?;
        let alphabet = match (alphabet, purpose) {
            (Alphabet::Characters(_), Purpose::Learn(_)) => read.characters(path)?,
            (alphabet, _) => alphabet,
        };
        let (mut symbols, mut ends) = (Vec::new(), Vec::new());
        for text in &read.texts {
            symbols.extend(alphabet.symbols(text));
            ends.push(symbols.len());
        }
        let Labelled { targets, classes, asked } = if asked == Asked::Positions {
            let starts = std::iter::once(&0).chain(&ends);
            let lens: Vec<usize> = ends.iter().zip(starts).map(|(end, start)| end - start).collect();
            read.classes_of_positions(path, purpose, &lens, ignored_label.as_deref())?
        } else {
            let place = |i: usize| format!("line {}", read.lines[i]);
            classes::targets(path, &read.labels, None, purpose, place)?
        };
        Ok(Self { symbols, ends, targets, classes, alphabet, columns, asked, ignored_label })
    }

    fn row(&self, index: usize) -> &[u16] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.symbols[start..self.ends[index]]
    }
}

/// The rows as they stand in the file.
#[derive(Default)]
struct Read {
    texts: Vec<String>,
    labels: Vec<String>,
    lines: Vec<usize>,
}

impl Read {
    fn characters(&self, path: &Path) -> Result<Alphabet> {
        let all: BTreeSet<char> = self.texts.iter().flat_map(|text| text.chars()).collect();
        if all.len() > MOST_CHARACTERS {
            let message = format!("has {} different characters, more than {MOST_CHARACTERS}", all.len());
            return Err(Error::file(path, message));
        }
        Ok(Alphabet::Characters(all.into_iter().collect()))
    }

    /// A label's characters are the classes of the text's symbols.
    fn classes_of_positions(
        &self,
        path: &Path,
        purpose: Purpose,
        lens: &[usize],
        ignored: Option<&str>,
    ) -> Result<Labelled> {
        let asked = Asked::Positions;
        if !purpose.needs_labels() {
            return Ok(Labelled { targets: vec![Target::default(); lens.len()], classes: Vec::new(), asked });
        }
        let is_asked = |name: &str| Some(name) != ignored;
        let classes = match purpose {
            Purpose::Judge(_, classes) => classes.to_vec(),
            _ => {
                let all: BTreeSet<char> = self.labels.iter().flat_map(|label| label.chars()).collect();
                all.iter().map(ToString::to_string).filter(|name| is_asked(name)).collect()
            }
        };
        let mut targets = Vec::new();
        for ((label, len), line) in self.labels.iter().zip(lens).zip(&self.lines) {
            let own = label.chars().count();
            if own != *len {
                let message = format!("has {own} labels for {len} symbols");
                return Err(Error::line(path, *line, message));
            }
            let number = |c: char| {
                let name = c.to_string();
                if !is_asked(&name) {
                    return Ok(UNASKED);
                }
                classes.iter().position(|class| *class == name).map(|class| class as u32).ok_or_else(|| {
                    let message = format!("class `{name}` is not among {}", classes.join(", "));
                    Error::line(path, *line, message)
                })
            };
            targets.push(Target::Classes(label.chars().map(number).collect::<Result<_>>()?));
        }
        Ok(Labelled { targets, classes, asked })
    }
}

impl Source for SymbolFile {
    fn shape(&self) -> Shape {
        Shape {
            width: self.alphabet.len(),
            longest: (0..self.ends.len()).map(|i| self.row(i).len()).max().unwrap_or(0),
            head: self.asked.head(self.classes.len().max(1)),
            classes: self.classes.clone(),
        }
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn read(&self, _pass: u64, index: usize, into: &mut Signal) -> Result<()> {
        one_hot(self.row(index).iter().map(|symbol| usize::from(*symbol)), self.alphabet.len(), into);
        into.target = self.targets[index].clone();
        Ok(())
    }

    fn reading(&self) -> Reading {
        Reading::Symbols {
            alphabet: self.alphabet.clone(),
            columns: self.columns.clone(),
            asked: self.asked.clone(),
            ignored_label: self.ignored_label.clone(),
        }
    }
}

/// Vectors with a single one, at each symbol's place.
pub(super) fn one_hot(symbols: impl Iterator<Item = usize>, width: usize, into: &mut Signal) {
    into.vectors.clear();
    into.tokens.clear();
    for symbol in symbols {
        let start = into.vectors.len();
        into.vectors.resize(start + width, 0.0);
        into.vectors[start + symbol] = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use fnet_encoder::Head;

    use super::*;
    use crate::data::signals::Options;
    use crate::data::tasks::rows::Column;

    fn open(text: &str, asked: Asked, alphabet: Alphabet) -> Result<SymbolFile> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let columns = Columns {
            text: vec![Column::name("x")],
            label: Some(Column::name("y")),
            header: true,
            skip_ragged: false,
            several_labels: false,
        };
        let options = Options {
            columns: Some(columns),
            alphabet: Some(alphabet),
            asked,
            ignored_label: Some("-".into()),
            ..Options::default()
        };
        SymbolFile::open(&path, Purpose::Learn(&options))
    }

    fn characters() -> Alphabet {
        Alphabet::Characters(Vec::new())
    }

    #[test]
    fn a_class_for_each_character() {
        let file = open("x,y\nMAé,H-E\nA,E\n", Asked::Positions, characters()).unwrap();
        let shape = file.shape();
        assert_eq!((shape.width, shape.longest, shape.head), (4, 3, Head::Tokens { labels: 2 }));
        assert_eq!((file.len(), shape.classes), (2, vec!["E".to_string(), "H".into()]));
        let mut signal = Signal::default();
        file.read(0, 0, &mut signal).unwrap();
        assert_eq!(signal.vectors, [0., 1., 0., 0., 1., 0., 0., 0., 0., 0., 1., 0.]);
        assert_eq!(signal.target, Target::Classes(vec![1, UNASKED, 0]));
        // Characters that training never shows are one symbol.
        assert_eq!(file.alphabet.symbols("AZ"), [0, 3]);
        let bytes = open("x,y\né,1\nA,2\n", Asked::Class, Alphabet::Bytes).unwrap();
        assert_eq!((bytes.shape().width, bytes.shape().longest), (256, 2));
    }

    #[test]
    fn labels_that_do_not_fit_are_refused() {
        let fails = |text: &str, says: &str| {
            let error = open(text, Asked::Positions, characters()).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        };
        fails("x,y\nAB,HE\nAB,H\n", "a.csv:3: has 1 labels for 2 symbols");
        fails("x,y\n,H\n", "a.csv:2: has an empty text");
        fails("x,z\nA,H\n", "has no column `y`");
    }
}
