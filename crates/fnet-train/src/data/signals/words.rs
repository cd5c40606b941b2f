//! Sentences whose words are labelled one by one: named entities, parts of speech. CoNLL's columns or JSONL's lists.

use std::path::Path;

use fnet_encoder::Head;
use serde_json::Value;

use super::{Purpose, Reading, Shape, Signal, Source, Target, UNASKED, classes};
use crate::data::tasks::rows::{Column, Columns, next_object, quoted_names};
use crate::data::text::{Lines, format_ending};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// Sentences as token ids. A label is asked at the first piece of its word; a sentence longer than the model is read in
/// several sequences.
pub struct WordFile {
    sentences: Vec<Sentence>,
    sequences: Vec<Sequence>,
    classes: Vec<String>,
    columns: Columns,
}

/// A sentence as it stands in the file.
#[derive(Default)]
pub struct Sentence {
    /// Its words.
    pub words: Vec<String>,
    labels: Vec<String>,
    line: usize,
}

/// What the model reads at once.
struct Sequence {
    tokens: Vec<u32>,
    /// Of each token.
    classes: Vec<u32>,
    /// Where the words' first pieces are.
    firsts: Vec<usize>,
    sentence: usize,
}

/// Endings of files with a word a line.
const CONLL: [&str; 3] = ["conll", "bio", "iob"];

impl WordFile {
    /// Whether a file has a word a line, by its name.
    pub fn is_conll(path: &Path) -> bool {
        CONLL.contains(&format_ending(path).as_str())
    }

    /// Reads a file: a word a line with its label in the last column, and a blank line after a sentence (`.conll`, `.bio`);
    /// or JSONL with lists of words and labels in `columns`.
    ///
    /// # Errors
    /// Names the line of a word without a label, of lists that differ in length, and of a class that is not known.
    pub fn open(
        path: &Path,
        columns: &Columns,
        tokenizer: &Tokenizer,
        longest: usize,
        purpose: Purpose,
    ) -> Result<Self> {
        let needs_labels = purpose.needs_labels();
        if longest < 3 {
            return Err(Error::usage("a model of fewer than 3 positions reads no words"));
        }
        let sentences = if Self::is_conll(path) {
            read_conll(path, needs_labels)?
        } else {
            read_lists(path, columns, needs_labels)?
        };
        if sentences.is_empty() {
            return Err(Error::file(path, "holds no sentences"));
        }
        let classes = match purpose {
            Purpose::Judge(_, classes) => classes.to_vec(),
            Purpose::Predict(_) => Vec::new(),
            Purpose::Learn(_) => classes::sorted(sentences.iter().flat_map(|s| &s.labels)),
        };
        let mut sequences = Vec::new();
        for (index, sentence) in sentences.iter().enumerate() {
            let class = |label: &String| {
                let found = classes.iter().position(|class| class == label).map(|class| class as u32);
                found.ok_or_else(|| {
                    let known = quoted_names(classes.iter().map(String::as_str));
                    Error::line(path, sentence.line, format!("unknown label `{label}`; known are {known}"))
                })
            };
            let labels = match purpose {
                Purpose::Predict(_) => vec![UNASKED; sentence.words.len()],
                _ => sentence.labels.iter().map(class).collect::<Result<Vec<_>>>()?,
            };
            cut(&sentence.words, &labels, tokenizer, longest, index, &mut sequences)?;
        }
        Ok(Self { sentences, sequences, classes, columns: columns.clone() })
    }

    /// Number of sequences that sentences longer than the model are read in, beyond one each.
    pub fn extra_sequences(&self) -> usize {
        self.sequences.len() - self.sentences.len()
    }

    /// The sentences, in the file's order.
    pub fn sentences(&self) -> &[Sentence] {
        &self.sentences
    }

    /// The sentence of a sequence, and where its words' first tokens are.
    pub fn words_of(&self, sequence: usize) -> (usize, &[usize]) {
        let Sequence { sentence, firsts, .. } = &self.sequences[sequence];
        (*sentence, firsts)
    }
}

/// Cuts a sentence into sequences of whole words.
fn cut(
    words: &[String],
    labels: &[u32],
    tokenizer: &Tokenizer,
    longest: usize,
    sentence: usize,
    sequences: &mut Vec<Sequence>,
) -> Result<()> {
    let room = longest.saturating_sub(2).max(1); // beside the tokens at both ends
    let (mut ids, mut classes, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
    let mut finish = |ids: &mut Vec<u32>, classes: &mut Vec<u32>, firsts: &mut Vec<usize>| {
        let (mut tokens, mut segments) = (Vec::new(), Vec::new());
        tokenizer.assemble(ids, None, longest, &mut tokens, &mut segments);
        classes.insert(0, UNASKED);
        classes.push(UNASKED);
        ids.clear();
        sequences.push(Sequence {
            tokens,
            classes: std::mem::take(classes),
            firsts: std::mem::take(firsts),
            sentence,
        });
    };
    for (word, label) in words.iter().zip(labels) {
        let mut pieces = tokenizer.encode(word)?;
        if pieces.is_empty() {
            pieces.push(tokenizer.special().mask); // a word of characters that the tokenizer drops
        }
        pieces.truncate(room);
        if ids.len() + pieces.len() > room {
            finish(&mut ids, &mut classes, &mut firsts);
        }
        firsts.push(ids.len() + 1);
        classes.push(*label);
        classes.resize(classes.len() + pieces.len() - 1, UNASKED);
        ids.extend(pieces);
    }
    finish(&mut ids, &mut classes, &mut firsts);
    Ok(())
}

fn read_conll(path: &Path, needs_labels: bool) -> Result<Vec<Sentence>> {
    let mut lines = Lines::open(path)?;
    let (mut sentences, mut sentence) = (Vec::new(), Sentence::default());
    while let Some((number, line)) = lines.next_line()? {
        let mut fields = line.split_whitespace();
        let Some(word) = fields.next() else {
            if !sentence.words.is_empty() {
                sentences.push(std::mem::take(&mut sentence));
            }
            continue;
        };
        // Comments, and the marks between documents.
        if word == "-DOCSTART-" || (word == "#" && sentence.words.is_empty()) {
            continue;
        }
        let label = fields.next_back();
        if needs_labels && label.is_none() {
            return Err(Error::line(path, number, format!("has no label: the word `{word}` stands alone")));
        }
        if sentence.words.is_empty() {
            sentence.line = number;
        }
        sentence.words.push(word.into());
        sentence.labels.push(label.unwrap_or("").into());
    }
    if !sentence.words.is_empty() {
        sentences.push(sentence);
    }
    Ok(sentences)
}

fn read_lists(path: &Path, columns: &Columns, needs_labels: bool) -> Result<Vec<Sentence>> {
    let mut lines = Lines::open(path)?;
    let mut sentences = Vec::new();
    let name = |column: Option<&Column>| match column {
        Some(Column::Name(name)) => name.clone(),
        _ => String::new(),
    };
    let (words, labels) = (name(columns.text.first()), name(columns.label.as_ref()));
    if words.is_empty() {
        return Err(Error::file(path, "is no .conll file, which the model was trained on"));
    }
    while let Some((number, object)) = next_object(&mut lines)? {
        let list = |name: &str| -> Result<Vec<String>> {
            let Some(Value::Array(items)) = object.get(name) else {
                let names = quoted_names(object.keys().map(String::as_str));
                return Err(Error::line(path, number, format!("`{name}` is no list; it has {names}")));
            };
            let text = |item: &Value| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                _ => Err(Error::line(path, number, format!("`{name}` has an item that is no text"))),
            };
            items.iter().map(text).collect()
        };
        let words = list(&words)?;
        let labels = if needs_labels { list(&labels)? } else { vec![String::new(); words.len()] };
        if words.len() != labels.len() {
            let message = format!("has {} words and {} labels", words.len(), labels.len());
            return Err(Error::line(path, number, message));
        }
        if words.is_empty() && needs_labels {
            continue;
        }
        sentences.push(Sentence { words, labels, line: number });
    }
    Ok(sentences)
}

impl Source for WordFile {
    fn shape(&self) -> Shape {
        Shape {
            width: 0,
            longest: self.sequences.iter().map(|sequence| sequence.tokens.len()).max().unwrap_or(0),
            head: Head::Tokens { labels: self.classes.len().max(1) },
            classes: self.classes.clone(),
        }
    }

    fn len(&self) -> usize {
        self.sequences.len()
    }

    fn read(&self, _pass: u64, index: usize, into: &mut Signal) -> Result<()> {
        let Sequence { tokens, classes, .. } = &self.sequences[index];
        into.vectors.clear();
        into.tokens.clone_from(tokens);
        into.target = Target::Classes(classes.clone());
        Ok(())
    }

    fn reading(&self) -> Reading {
        Reading::Words { columns: self.columns.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::signals::Options;
    use crate::data::tokenizer::Kind;

    fn tokenizer() -> Tokenizer {
        let lines = ["alice bob paris went to see alice in paris bob bob".to_string()];
        Tokenizer::train(Kind::Wordpiece, 40, false, lines.into_iter()).unwrap()
    }

    fn open(name: &str, text: &str, longest: usize) -> Result<WordFile> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(name);
        std::fs::write(&path, text).unwrap();
        let columns = Columns {
            text: vec![Column::name("tokens")],
            label: Some(Column::name("tags")),
            header: true,
            skip_ragged: false,
            several_labels: false,
        };
        WordFile::open(&path, &columns, &tokenizer(), longest, Purpose::Learn(&Options::default()))
    }

    const CONLL: &str = "-DOCSTART- -X- O\n\nAlice NNP B-PER\nwent VBD O\n\n# text = x\nParisbob NNP B-LOC\n";

    #[test]
    fn labels_stand_at_first_pieces() {
        let file = open("a.conll", CONLL, 32).unwrap();
        assert_eq!(file.classes, ["B-LOC", "B-PER", "O"]);
        assert_eq!((file.len(), file.extra_sequences()), (2, 0));
        let mut signal = Signal::default();
        for index in 0..2 {
            file.read(0, index, &mut signal).unwrap();
            let Target::Classes(classes) = &signal.target else { panic!() };
            assert_eq!(classes.len(), signal.tokens.len());
            let asked: Vec<usize> = (0..classes.len()).filter(|i| classes[*i] != UNASKED).collect();
            assert_eq!(asked, file.words_of(index).1);
            let expected: &[u32] = if index == 0 { &[1, 2] } else { &[0] };
            assert_eq!(asked.iter().map(|i| classes[*i]).collect::<Vec<_>>(), expected);
        }
        let lists = "{\"tokens\": [\"Alice\", \"went\"], \"tags\": [\"B-PER\", \"O\"]}\n{\"tokens\": [\"Parisbob\"], \"tags\": [\"B-LOC\"]}";
        let same = open("a.jsonl", lists, 32).unwrap();
        for index in 0..2 {
            let mut other = Signal::default();
            file.read(0, index, &mut signal).unwrap();
            same.read(0, index, &mut other).unwrap();
            assert_eq!(signal, other);
        }
    }

    #[test]
    fn long_sentences_are_read_in_several_sequences() {
        let text = "alice A\nbob B\nparis C\nalice A\nbob B\n";
        let file = open("a.conll", text, 6).unwrap();
        assert!(file.extra_sequences() > 0 && file.sentences().len() == 1);
        let words: usize = (0..file.len()).map(|i| file.words_of(i).1.len()).sum();
        assert_eq!(words, 5);
        let mut signal = Signal::default();
        for i in 0..file.len() {
            file.read(0, i, &mut signal).unwrap();
            assert!(signal.tokens.len() <= 6);
        }
        // A word longer than the model keeps its label.
        let whole = open("a.conll", "zzzzzzzzzzzz A\nbob B\n", 4).unwrap();
        assert_eq!((0..whole.len()).map(|i| whole.words_of(i).1.len()).sum::<usize>(), 2);
    }

    #[test]
    fn errors_name_the_line() {
        for (name, text, says) in [
            ("a.conll", "Alice B-PER\nwent\n", "a.conll:2: has no label"),
            ("a.conll", "\n", "holds no sentences"),
            ("a.jsonl", "{\"tokens\": [\"a\"], \"tags\": []}", "a.jsonl:1: has 1 words and 0 labels"),
            ("a.jsonl", "{\"tokens\": \"a\", \"tags\": []}", "a.jsonl:1: `tokens` is no list"),
            ("a.jsonl", "{\"tokens\": [[]], \"tags\": [1]}", "has an item that is no text"),
        ] {
            let error = open(name, text, 32).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
