use std::ops::Range;

/// Sequences of token ids packed one after another, with no padding between them.
///
/// All layers see `[tokens, hidden]`; only mixers look at the lengths. A text is one sequence, or several in a row:
/// the windows of a text too long for the model. Heads read all sequences of a text together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    tokens: Vec<u32>,
    segments: Vec<u32>,
    positions: Vec<u32>,
    /// Start of each sequence, then the number of tokens.
    starts: Vec<usize>,
    /// The index of each text's first sequence.
    texts: Vec<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes all sequences and keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
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

    /// Token ids of all sequences.
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
