use std::ops::Range;

use crate::EncoderError;

/// Sequences of token ids or of vectors, packed one after another, with no padding between them.
///
/// All layers see `[tokens, hidden]`; only mixers look at the lengths. A text is one sequence, or several in a row:
/// the windows of a text too long for the model. Heads read all sequences of a text together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    tokens: Vec<u32>,
    vectors: Vec<f32>,
    vector_width: usize,
    segments: Vec<u32>,
    positions: Vec<u32>,
    /// Start of each sequence, then the number of tokens.
    starts: Vec<usize>,
    /// The index of each text's first sequence.
    texts: Vec<usize>,
}

impl Batch {
    /// Ids from here up stand for vectors: the id minus this is a row of [`vectors`](Self::vectors).
    pub const FIRST_VECTOR: u32 = 1 << 31;

    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes all sequences and keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.vectors.clear();
        self.segments.clear();
        self.positions.clear();
        self.starts.clear();
        self.texts.clear();
    }

    /// Appends a text of one sequence. Missing segment ids are 0.
    pub fn push(&mut self, tokens: &[u32], segments: &[u32]) {
        self.push_windows([(tokens, segments)]);
    }

    /// Appends a text as several sequences, its windows.
    pub fn push_windows<'a>(&mut self, windows: impl IntoIterator<Item = (&'a [u32], &'a [u32])>) {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.texts.push(self.len());
        windows.into_iter().for_each(|(tokens, segments)| self.push_sequence(tokens, segments));
    }

    /// Some of the texts, with their windows.
    ///
    /// # Panics
    /// If there are fewer texts.
    pub fn part(&self, texts: Range<usize>) -> Self {
        let mut part = Self { vectors: self.vectors.clone(), vector_width: self.vector_width, ..Self::new() };
        for text in texts {
            let end = self.texts.get(text + 1).copied().unwrap_or(self.len());
            part.push_windows((self.texts[text]..end).map(|sequence| {
                let own = self.range(sequence);
                (&self.tokens[own.clone()], &self.segments[own])
            }));
        }
        part
    }

    /// Appends a sequence of vectors, `[positions, width]`: patches of an image, steps of a series.
    ///
    /// # Errors
    /// If `vectors` does not hold whole ones, or earlier ones have another width.
    pub fn push_vectors(&mut self, vectors: &[f32], width: usize) -> Result<(), EncoderError> {
        let fail = |message: String| Err(EncoderError::Batch(message));
        if width == 0 || !vectors.len().is_multiple_of(width) {
            return fail(format!("{} values are no whole number of vectors of {width}", vectors.len()));
        }
        if !self.vectors.is_empty() && width != self.vector_width {
            let own = self.vector_width;
            return fail(format!("a vector of width {width} in a batch whose vectors have width {own}"));
        }
        let first = self.vectors.len() / width;
        let end = u32::try_from(first + vectors.len() / width).ok();
        let Some(end) = end.and_then(|end| end.checked_add(Self::FIRST_VECTOR)) else {
            return fail("more vectors than a batch can count".into());
        };
        self.vector_width = width;
        self.vectors.extend_from_slice(vectors);
        let ids: Vec<u32> = (Self::FIRST_VECTOR + first as u32..end).collect();
        self.push(&ids, &[]);
        Ok(())
    }

    /// Appends another batch's sequences, without their vectors: where these are projected already.
    pub(crate) fn append(&mut self, other: &Self) {
        for range in other.ranges() {
            self.push(&other.tokens[range.clone()], &other.segments[range]);
        }
    }

    /// All vectors, `[vectors, width]`.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// Width of the vectors; `None` if there are none.
    pub fn vector_width(&self) -> Option<usize> {
        (!self.vectors.is_empty()).then_some(self.vector_width)
    }

    /// The positions that hold vectors, in the vectors' order.
    pub(crate) fn vector_places(&self) -> impl Iterator<Item = usize> + '_ {
        let is_vector = |(place, id): (usize, &u32)| (*id >= Self::FIRST_VECTOR).then_some(place);
        self.tokens.iter().enumerate().filter_map(is_vector)
    }

    fn push_sequence(&mut self, tokens: &[u32], segments: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        self.segments.extend(segments.iter().take(tokens.len()));
        self.segments.resize(self.tokens.len(), 0);
        self.positions.extend(0..tokens.len() as u32);
        self.starts.push(self.tokens.len());
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of sequence `i`, as a range.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn range(&self, i: usize) -> Range<usize> {
        self.starts[i]..self.starts[i + 1]
    }

    /// Start of each sequence in the tokens, then the number of tokens; empty if there is no sequence.
    pub fn offsets(&self) -> &[usize] {
        &self.starts
    }

    /// The range of each sequence in the tokens.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.starts.windows(2).map(|w| w[0]..w[1])
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.texts.len()
    }

    /// The range of each text in the tokens.
    pub fn text_ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let start = |text: usize| self.starts[self.texts.get(text).copied().unwrap_or(self.len())];
        (0..self.texts()).map(move |text| start(text)..start(text + 1))
    }

    /// Token ids of all sequences; those of vectors are from [`FIRST_VECTOR`](Self::FIRST_VECTOR) up.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Segment ids of all tokens.
    pub fn segments(&self) -> &[u32] {
        &self.segments
    }

    /// Position of each token in its sequence.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }
}
