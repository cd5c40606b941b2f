//! Encoding rows for a model: the token ids of their texts.

use std::path::Path;

use fnet_encoder::{Batch, Pairs, Pool, Pooling};
use serde::{Deserialize, Serialize};

use super::rows::Row;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;

/// How a text that is too long for the model is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Long {
    /// It is read in windows, and what is read of it is read of all of them
    Windows,
    /// Its end is left out
    Cut,
    /// At once: fine-tuning adds positions, up to its longest sequence, which start as the trained ones. What is longer still
    /// is read in windows
    Extend,
}

impl Long {
    /// Windows if more than a text's ends is read.
    pub fn usual(pooling: &Pooling) -> Self {
        let ends = |pool: &Pool| matches!(pool, Pool::First | Pool::Last);
        if pooling.pools().iter().all(ends) { Self::Cut } else { Self::Windows }
    }
}

/// One text as the model reads it, or two texts that are read together: one sequence, or several windows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text {
    /// Token ids of all windows, each with special tokens.
    pub tokens: Vec<u32>,
    /// Segment ids.
    pub segments: Vec<u32>,
    /// Where each window ends among the tokens.
    pub ends: Vec<u32>,
}

impl Text {
    /// A text of one sequence.
    pub fn whole(tokens: Vec<u32>, segments: Vec<u32>) -> Self {
        let ends = vec![tokens.len() as u32];
        Self { tokens, segments, ends }
    }

    /// The range of window `i` in the tokens.
    pub fn window(&self, i: usize) -> std::ops::Range<usize> {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        start as usize..self.ends[i] as usize
    }

    /// Appends the text to a batch: all its windows, or the given ones.
    pub fn push_to(&self, batch: &mut Batch, windows: impl IntoIterator<Item = usize>) {
        let windows = windows.into_iter().map(|i| self.window(i));
        batch.push_windows(windows.map(|w| (&self.tokens[w.clone()], &self.segments[w])));
    }
}

/// One example: a text, a pair read together, or the two texts of a pair separately.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Example {
    /// What goes through the model.
    pub texts: Vec<Text>,
    /// Class id, number, or 1 or 0 for each of several labels; empty if nothing is known.
    pub target: Vec<f32>,
}

impl Example {
    /// Tokens of all its texts.
    pub fn tokens(&self) -> usize {
        self.texts.iter().map(|text| text.tokens.len()).sum()
    }

    /// Appends its texts to a batch.
    pub fn push_to(&self, batch: &mut Batch) {
        self.texts.iter().for_each(|text| text.push_to(batch, 0..text.ends.len()));
    }
}

/// How rows are encoded for a model.
pub struct Encoding<'a> {
    /// Splits texts into tokens.
    pub tokenizer: &'a Tokenizer,
    /// Longest sequence in tokens.
    pub longest: usize,
    /// The length that every sequence is padded to, if padding is mixed in.
    pub fixed_length: Option<usize>,
    /// How the texts of a pair are combined.
    pub pairs: Pairs,
    /// How texts that are too long are read.
    pub long: Long,
}

/// An example, and what was done about its length.
pub struct Encoded {
    /// The example.
    pub example: Example,
    /// Whether its end was left out.
    pub cut: bool,
    /// Whether a text of it is read in windows.
    pub windowed: bool,
}

/// How many examples were too long for the model.
#[derive(Debug, Clone, Copy, Default)]
pub struct LongOnes {
    /// Those whose end was left out.
    pub cut: usize,
    /// Those with a text that is read in windows.
    pub windowed: usize,
}

impl LongOnes {
    /// Counts an example.
    pub fn take(&mut self, Encoded { example, cut, windowed }: Encoded) -> Example {
        self.cut += usize::from(cut);
        self.windowed += usize::from(windowed);
        example
    }

    /// Adds the counts of another part.
    pub fn add(&mut self, other: Self) {
        self.cut += other.cut;
        self.windowed += other.windowed;
    }

    /// What was done with them, out of `all` examples of a file; `None` if there were none.
    pub fn sentence(&self, file: &Path, all: usize, longest: usize) -> Option<String> {
        let file = file.display();
        let said =
            |count: usize, what: &str| format!("{file}: {count} of {all} examples {what} {longest} tokens");
        match (self.cut, self.windowed) {
            (0, 0) => None,
            (0, count) => Some(said(count, "are read in windows of the model's")),
            (count, _) => Some(said(count, "were cut to the model's")),
        }
    }
}

impl Encoding<'_> {
    /// Encodes a row.
    ///
    /// # Errors
    /// If the tokenizer cannot encode a text.
    pub fn encode(&self, row: &Row, target: Vec<f32>) -> Result<Encoded> {
        let first = self.tokenizer.encode(&row.first)?;
        let second = row.second.as_ref().map(|s| self.tokenizer.encode(s)).transpose()?;
        let (mut texts, mut cut) = (Vec::new(), false);
        match second {
            Some(second) if self.pairs == Pairs::Together => {
                self.tokenizer.check_pairs()?;
                texts.push(self.sequence(&first, Some(&second), &mut cut));
            }
            second => {
                for ids in [Some(first), second].into_iter().flatten() {
                    texts.push(self.text(&ids, &mut cut));
                }
            }
        }
        let windowed = texts.iter().any(|text| text.ends.len() > 1);
        Ok(Encoded { example: Example { texts, target }, cut, windowed })
    }

    /// Encodes texts, each on its own.
    ///
    /// # Errors
    /// If the tokenizer cannot encode one.
    pub fn encode_apart(&self, texts: &[String], target: Vec<f32>) -> Result<Encoded> {
        let mut cut = false;
        let text = |text: &String| Ok(self.text(&self.tokenizer.encode(text)?, &mut cut));
        let texts: Vec<Text> = texts.iter().map(text).collect::<Result<_>>()?;
        let windowed = texts.iter().any(|text| text.ends.len() > 1);
        Ok(Encoded { example: Example { texts, target }, cut, windowed })
    }

    /// One text: a sequence, or windows of equal length.
    fn text(&self, ids: &[u32], cut: &mut bool) -> Text {
        let room = self.longest.saturating_sub(2).max(1);
        let windows = if self.long == Long::Cut { 1 } else { ids.len().div_ceil(room).max(1) };
        let mut whole = Text::default();
        for i in 0..windows {
            let part = &ids[ids.len() * i / windows..ids.len() * (i + 1) / windows];
            let window = self.sequence(part, None, cut);
            whole.tokens.extend(window.tokens);
            whole.segments.extend(window.segments);
            whole.ends.push(whole.tokens.len() as u32);
        }
        whole
    }

    fn sequence(&self, first: &[u32], second: Option<&[u32]>, cut: &mut bool) -> Text {
        let (mut tokens, mut segments) = (Vec::new(), Vec::new());
        *cut |= self.tokenizer.assemble(first, second, self.longest, &mut tokens, &mut segments);
        self.pad(&mut tokens, &mut segments);
        Text::whole(tokens, segments)
    }

    /// Pads a sequence if padding is fixed.
    pub fn pad(&self, tokens: &mut Vec<u32>, segments: &mut Vec<u32>) {
        if let Some(length) = self.fixed_length {
            self.tokenizer.fill_up(length, tokens, segments);
        }
    }
}
