//! Vectors of texts by what is alike, as an objective of the training loop.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use fnet_encoder::similarity::{
    Contrast, ContrastGradients, ScoredLoss, all_cosines, contrastive, cosines, scored,
};
use fnet_encoder::{Batch, Dropout, Loss, Mode, Model, Workspace};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::alike::Kind;
use crate::data::tasks::dataset::{INFERENCE_TOKENS, metric_name, vectors};
use crate::data::tasks::encoding::{Example, Text};
use crate::data::tasks::metrics::{Metric, Ranks};
use crate::error::Result;
use crate::folder::state::Position;
use crate::random::generator;
use crate::team::{Team, gather_all};
use crate::train::finetune::{Variation, fingerprint, push};
use crate::train::leaves::Leaf;
use crate::train::trainer::{Evaluation, Gradient, Objective, StepOutcome};

/// The rows of one file: examples of one, two or three texts.
#[derive(Debug, Clone)]
pub struct Alike {
    /// The file's name in metrics; empty for the only one.
    pub name: String,
    /// What the rows are.
    pub kind: Kind,
    /// Texts, and the score of scored pairs.
    pub examples: Vec<Example>,
}

/// How vectors are compared.
#[derive(Debug, Clone)]
pub struct Comparing {
    /// Of scored pairs.
    pub loss: ScoredLoss,
    /// Factor of cosines in exponentials.
    pub scale: f32,
    /// Leading values of the vectors that are trained and judged as vectors of their own, besides the whole (Kusupati et
    /// al. 2022).
    pub dimensions: Vec<usize>,
}

/// Sizes of a step.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Rows of a batch.
    pub batch: usize,
    /// Tokens that go through the model at once: a batch with more takes two passes (Gao et al. 2021b).
    pub tokens: usize,
}

/// Training on what is alike.
pub struct SimilarityObjective {
    train: Vec<Alike>,
    dev: Vec<Alike>,
    comparing: Comparing,
    sizes: Sizes,
    variation: Variation,
    seed: u64,
    fingerprint: u64,
    /// The batches of the epoch `ordered`: which rows of which file.
    batches: Vec<(usize, Vec<u32>)>,
    ordered: Option<u64>,
    step: Step,
    team: Option<Arc<dyn Team>>,
}

/// A step's batch, drawn once for all of its leaves.
#[derive(Default)]
struct Step {
    /// Where it begins, once it is drawn.
    from: Option<Position>,
    /// Where the next one does.
    next: Position,
    drawn: Drawn,
    /// The texts of each leaf, in passes.
    passes: Vec<Vec<Batch>>,
    /// The loss, and its gradient by the vectors of all texts, once they are there.
    compared: Option<(Loss, Vec<f32>)>,
}

impl Step {
    /// The place of a leaf's vectors among all, in texts.
    fn texts(&self, leaf: Leaf) -> Range<usize> {
        let each = self.drawn.kind.texts();
        let rows = leaf.range(self.drawn.texts.len() / each);
        rows.start * each..rows.end * each
    }
}

impl SimilarityObjective {
    /// Trains on `train`, chooses the best by `dev`.
    pub fn new(
        train: Vec<Alike>,
        dev: Vec<Alike>,
        comparing: Comparing,
        sizes: Sizes,
        variation: Variation,
        seed: u64,
    ) -> Self {
        let fingerprint = fingerprint(train.iter().chain(&dev).map(|rows| rows.examples.as_slice()));
        let (batches, ordered, step) = (Vec::new(), None, Step::default());
        Self {
            train,
            dev,
            comparing,
            sizes,
            variation,
            seed,
            fingerprint,
            batches,
            ordered,
            step,
            team: None,
        }
    }

    /// The same, as one of several processes.
    pub fn with(self, team: Option<Arc<dyn Team>>) -> Self {
        Self { team, ..self }
    }

    /// Number of training rows.
    pub fn rows(&self) -> usize {
        self.train.iter().map(|rows| rows.examples.len()).sum()
    }

    /// Puts an epoch's batches in an order that the seed determines. A batch has rows of one file.
    fn shuffle(&mut self, epoch: u64) {
        let mut random = generator(self.seed, "shuffle", epoch);
        self.batches.clear();
        for (file, rows) in self.train.iter().enumerate() {
            let mut order: Vec<u32> = (0..rows.examples.len() as u32).collect();
            order.shuffle(&mut random);
            // In batches of equal size, for a batch of one row has nothing to be told from.
            let count = order.len().div_ceil(self.sizes.batch.max(1));
            let bound = |i: usize| order.len() * i / count.max(1);
            self.batches.extend((0..count).map(|i| (file, order[bound(i)..bound(i + 1)].to_vec())));
        }
        self.batches.shuffle(&mut random);
        self.ordered = Some(epoch);
    }

    /// The step that begins at `from`, in as many leaves as there are with this one.
    fn begin(&mut self, from: Position, leaf: Leaf) {
        let mut random = generator(self.seed, "windows", from.epoch << 32 | from.index as u64);
        let mut next = from;
        let drawn = self.draw(&mut next);
        self.step = Step { from: Some(from), next, drawn, ..Step::default() };
        let step = &self.step;
        let passes = |leaf| passes(&step.drawn.texts[step.texts(leaf)], self.sizes.tokens, &mut random);
        self.step.passes = leaf.all().map(passes).collect();
    }

    /// The texts of the next batch, varied, in the order of its rows; a text alone comes twice.
    fn draw(&mut self, position: &mut Position) -> Drawn {
        if self.ordered != Some(position.epoch) {
            self.shuffle(position.epoch);
        }
        let mut random = generator(self.seed, "vary", position.epoch << 32 | position.index as u64);
        let mut drawn = Drawn::default();
        if let Some((file, rows)) = self.batches.get(position.index) {
            let file = &self.train[*file];
            drawn.kind = file.kind;
            let rows: Vec<&Example> = rows.iter().map(|row| &file.examples[*row as usize]).collect();
            drawn.groups = groups(file.kind, &rows);
            for row in rows {
                for _ in 0..if file.kind == Kind::Texts { 2 } else { 1 } {
                    let mut row = row.clone();
                    self.variation.apply(&mut row, &mut random);
                    drawn.texts.extend(row.texts);
                }
                drawn.scores.extend_from_slice(&row.target);
            }
        }
        position.index += 1;
        if position.index >= self.batches.len() {
            *position = Position { epoch: position.epoch + 1, index: 0 };
        }
        drawn
    }
}

/// A batch.
#[derive(Default)]
struct Drawn {
    kind: Kind,
    texts: Vec<Text>,
    scores: Vec<f32>,
    groups: Vec<u32>,
}

/// A number for each row: rows with the same one hold texts that belong together, because they share a text. Other texts of
/// theirs are no examples of what does not belong.
fn groups(kind: Kind, rows: &[&Example]) -> Vec<u32> {
    if kind == Kind::Scored {
        return Vec::new();
    }
    let mut first: HashMap<&[u32], usize> = HashMap::new();
    let mut parents: Vec<usize> = (0..rows.len()).collect();
    fn root(parents: &[usize], mut i: usize) -> usize {
        while parents[i] != i {
            i = parents[i];
        }
        i
    }
    for (i, row) in rows.iter().enumerate() {
        for text in row.texts.iter().take(2) {
            let other = *first.entry(&text.tokens).or_insert(i);
            let (a, b) = (root(&parents, i), root(&parents, other));
            parents[a.max(b)] = a.min(b);
        }
    }
    (0..rows.len()).map(|i| root(&parents, i) as u32).collect()
}

/// A group that nothing else has: of texts that are there to be told apart.
const ALONE: u32 = u32::MAX;

/// The mean loss of a batch's vectors `[texts, width]`, and its gradient.
fn loss_of(drawn: &Drawn, comparing: &Comparing, vectors: &[f32], width: usize) -> (Loss, Vec<f32>) {
    let sizes: Vec<usize> =
        comparing.dimensions.iter().copied().filter(|d| *d < width).chain([width]).collect();
    let mut d = vec![0.0; vectors.len()];
    let (mut loss, share) = (Loss::default(), 1.0 / sizes.len() as f32);
    for size in sizes {
        let short = shortened(vectors, width, size);
        let mut d_short = vec![0.0; short.len()];
        let (value, right) = loss_at(drawn, comparing, &short, size, share, &mut d_short);
        for (d, d_short) in d.chunks_exact_mut(width).zip(d_short.chunks_exact(size)) {
            d.iter_mut().zip(d_short).for_each(|(d, s)| *d += s);
        }
        let rows = drawn.texts.len() / drawn.kind.texts();
        loss.sum += f64::from(share) * value * rows as f64;
        (loss.count, loss.correct) = (rows, right); // at last, of the whole vectors
    }
    (loss, d)
}

/// The first `size` values of each vector.
fn shortened(vectors: &[f32], width: usize, size: usize) -> Vec<f32> {
    vectors.chunks_exact(width).flat_map(|row| row[..size].iter().copied()).collect()
}

/// The vectors of all rows' first texts, and those of all second ones followed by all third ones, from `[rows, texts * width]`.
fn anchors_and_candidates(vectors: &[f32], width: usize, texts: usize) -> (Vec<f32>, Vec<f32>) {
    let place = |text: usize| -> Vec<f32> {
        let rows = vectors.chunks_exact(texts * width);
        rows.flat_map(|row| row[text * width..(text + 1) * width].iter().copied()).collect()
    };
    (place(0), (1..texts).flat_map(place).collect())
}

fn loss_at(
    drawn: &Drawn,
    comparing: &Comparing,
    vectors: &[f32],
    width: usize,
    share: f32,
    d: &mut [f32],
) -> (f64, usize) {
    if drawn.kind == Kind::Scored {
        let Comparing { loss, scale, .. } = *comparing;
        return (scored(loss, vectors, width, &drawn.scores, scale, share, d), 0);
    }
    let (texts, mut candidate_groups) = (drawn.kind.texts(), drawn.groups.clone());
    candidate_groups.extend((0..drawn.groups.len() * (texts - 2)).map(|_| ALONE));
    let (anchors, candidates) = anchors_and_candidates(vectors, width, texts);
    let contrast = Contrast {
        anchors: &anchors,
        candidates: &candidates,
        anchor_groups: &drawn.groups,
        candidate_groups: &candidate_groups,
    };
    let (mut d_anchors, mut d_candidates) = (vec![0.0; anchors.len()], vec![0.0; candidates.len()]);
    let gradients = ContrastGradients { anchors: &mut d_anchors, candidates: &mut d_candidates };
    let value = contrastive(contrast, width, comparing.scale, share, gradients);
    for (i, d) in d.chunks_exact_mut(texts * width).enumerate() {
        let (of_anchor, of_others) = d.split_at_mut(width);
        of_anchor.copy_from_slice(&d_anchors[i * width..][..width]);
        for (text, d) in of_others.chunks_exact_mut(width).enumerate() {
            d.copy_from_slice(&d_candidates[text * anchors.len() + i * width..][..width]);
        }
    }
    value
}

/// Texts in passes of at most so many tokens.
fn passes(texts: &[Text], most: usize, random: &mut ChaCha8Rng) -> Vec<Batch> {
    let (mut passes, mut batch) = (Vec::new(), Batch::new());
    for text in texts {
        if !batch.is_empty() && batch.tokens().len() + text.tokens.len() > most {
            passes.push(std::mem::take(&mut batch));
        }
        push(text, &mut batch, random);
    }
    if !batch.is_empty() {
        passes.push(batch);
    }
    passes
}

impl Objective for SimilarityObjective {
    /// A batch that is one pass of one leaf goes through the model once. Otherwise all vectors are computed first, since the
    /// loss compares them, those of a leaf by the process that has it; then each leaf goes through the model again.
    fn step(
        &mut self,
        model: &Model,
        position: &mut Position,
        leaf: Leaf,
        dropout: Dropout,
        gradient: Gradient,
        w: &mut Workspace,
    ) -> Result<StepOutcome> {
        let begun = Instant::now();
        if self.step.from != Some(*position) {
            self.begin(*position, leaf);
        }
        let (step, drawing, width) = (&mut self.step, begun.elapsed(), model.vector_width().unwrap_or(0));
        *position = step.next;
        let Gradient { values, mut told } = gradient;
        let mode = |leaf: Leaf, i: usize| Mode::Train(leaf.dropout(dropout, i));
        if let ([only], true) = (step.passes[leaf.number()].as_slice(), leaf.is_whole()) {
            let mut forward = model.forward(only, mode(leaf, 0), w)?;
            let (loss, d) = loss_of(&step.drawn, &self.comparing, forward.vectors()?, width);
            forward.backward_vectors(&d, values)?;
            return Ok(StepOutcome { loss, tokens: only.tokens().len(), drawing, ..StepOutcome::default() });
        }
        if step.compared.is_none() {
            let mut vectors = Vec::new();
            let is_own = |leaf: Leaf| self.team.as_ref().is_none_or(|team| leaf.is_own(&**team));
            for (leaf, passes) in leaf.all().zip(&step.passes).filter(|(leaf, _)| is_own(*leaf)) {
                for (i, pass) in passes.iter().enumerate() {
                    vectors.extend_from_slice(model.forward(pass, mode(leaf, i), w)?.vectors()?);
                }
            }
            if let Some(team) = &self.team {
                vectors = gather_all(&**team, &vectors)?.concat();
            }
            step.compared = Some(loss_of(&step.drawn, &self.comparing, &vectors, width));
        }
        let mut outcome = StepOutcome { drawing, ..StepOutcome::default() };
        let (Some((loss, d)), passes) = (&step.compared, &step.passes[leaf.number()]) else {
            return Ok(outcome);
        };
        if leaf.number() == 0 {
            outcome.loss = *loss;
        }
        let mut rest = &d[step.texts(leaf).start * width..];
        for (i, pass) in passes.iter().enumerate() {
            let (own, after) = rest.split_at(pass.texts() * width);
            rest = after;
            let told = if i + 1 == passes.len() { told.take() } else { None };
            model.forward(pass, mode(leaf, i), w)?.backward_vectors_by_layers(own, values, told)?;
            outcome.tokens += pass.tokens().len();
        }
        Ok(outcome)
    }

    fn epochs(&self, position: Position) -> f64 {
        let batches = |rows: &Alike| rows.examples.len().div_ceil(self.sizes.batch.max(1));
        let batches: usize = self.train.iter().map(batches).sum();
        position.epoch as f64 + position.index as f64 / batches.max(1) as f64
    }

    fn evaluate(&mut self, model: &Model, w: &mut Workspace) -> Result<Option<Evaluation>> {
        let (mut values, mut chosen) = (Vec::new(), Vec::new());
        for rows in &self.dev {
            judge(model, rows, &self.comparing.dimensions, w, &mut values, &mut chosen)?;
        }
        let score = chosen.iter().sum::<f64>() / chosen.len().max(1) as f64;
        Ok((!values.is_empty()).then_some(Evaluation { values, score }))
    }

    fn data(&self) -> u64 {
        self.fingerprint
    }

    fn keeps_best(&self) -> bool {
        !self.dev.is_empty()
    }
}

/// The metrics that choose the best, of whole vectors.
const CHOOSE: [&str; 2] = ["spearman", "mrr"];

/// How well vectors tell what is alike: correlations for scored pairs, for others how soon a text's own partner is found among
/// all partners. Adds to all `values`, and to those that choose the best.
fn judge(
    model: &Model,
    rows: &Alike,
    dimensions: &[usize],
    w: &mut Workspace,
    values: &mut Vec<(String, f64)>,
    chosen: &mut Vec<f64>,
) -> Result<()> {
    let width = model.vector_width().unwrap_or(0);
    let vectors = vectors(model, &rows.examples, INFERENCE_TOKENS, w)?;
    for size in [width].into_iter().chain(dimensions.iter().copied().filter(|size| *size < width)) {
        let vectors = shortened(&vectors, width, size);
        let at = if size == width { String::new() } else { format!("_at_{size}") };
        let measured = measure(rows, &vectors, size);
        let chooses = measured.iter().filter(|(name, _)| size == width && CHOOSE.contains(name));
        chosen.extend(chooses.map(|(_, value)| value));
        let named = |name: &str| metric_name(&format!("{name}{at}"), &rows.name);
        values.extend(measured.into_iter().map(|(name, value)| (named(name), value)));
    }
    Ok(())
}

fn measure(rows: &Alike, vectors: &[f32], width: usize) -> Vec<(&'static str, f64)> {
    match rows.kind {
        Kind::Scored => {
            let wide = |x: &f32| f64::from(*x);
            let found: Vec<f64> = cosines(vectors, width).iter().map(wide).collect();
            let scores: Vec<f64> = rows.examples.iter().flat_map(|row| row.target.iter().map(wide)).collect();
            [Metric::Spearman, Metric::Pearson]
                .map(|metric| (metric.name(), metric.of_values(&found, &scores)))
                .into()
        }
        Kind::Texts => Vec::new(),
        Kind::Pairs | Kind::Triplets => {
            let (anchors, candidates) = anchors_and_candidates(vectors, width, rows.kind.texts());
            let count = candidates.len() / width;
            let mut found = Vec::new();
            for (block, anchors) in anchors.chunks(RANKED * width).enumerate() {
                let cosines = all_cosines(anchors, &candidates, width);
                let first = block * RANKED;
                let own = first..first + anchors.len() / width;
                found.extend(ranks(rows, own, |i, j| cosines[(i - first) * count + j]));
            }
            Ranks(found).named()
        }
    }
}

/// Rows whose cosines with all others are held at a time.
const RANKED: usize = 256;

/// The ranks of some rows' second texts among those of all, and of triplets the third ones too, by how alike they are to the
/// first.
fn ranks(rows: &Alike, of: Range<usize>, alike: impl Fn(usize, usize) -> f32 + Sync) -> Vec<usize> {
    use rayon::prelude::*;
    let examples = &rows.examples;
    let candidates: Vec<&Text> =
        (1..rows.kind.texts()).flat_map(|text| examples.iter().map(move |row| &row.texts[text])).collect();
    let rank = |i: usize| {
        let is_same = |j: usize| candidates[j].tokens == candidates[i].tokens;
        Ranks::of(i, candidates.len(), is_same, |j| alike(i, j))
    };
    of.into_par_iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use fnet_encoder::{Head, ModelConfig, SentenceConfig};

    use super::*;

    fn model() -> Model {
        let preset = ModelConfig::preset("tiny").unwrap();
        let sentence = Some(SentenceConfig::square("mean+weighted".parse().unwrap(), 256));
        let config = ModelConfig { vocab_size: 60, sentence, initializer_range: 0.1, ..preset };
        Model::new(config, Head::Sentence, 1).unwrap()
    }

    fn rows(kind: Kind, texts: usize, scores: bool) -> Alike {
        let text = |i: usize| {
            let tokens: Vec<u32> = (0..3 + i % 5).map(|t| 4 + ((i * 7 + t * 3) % 50) as u32).collect();
            Text::whole(tokens.clone(), vec![0; tokens.len()])
        };
        let row = |i: usize| Example {
            texts: (0..texts).map(|t| text(3 * i + t)).collect(),
            target: if scores { vec![i as f32] } else { Vec::new() },
        };
        Alike { name: String::new(), kind, examples: (0..9).map(row).collect() }
    }

    fn gradients(kind: Kind, texts: usize, tokens: usize) -> (f64, Vec<f32>) {
        let model = model();
        let comparing = Comparing { loss: ScoredLoss::Cosent, scale: 20.0, dimensions: vec![256, 64, 16] };
        let sizes = Sizes { batch: 9, tokens };
        let variation = Variation { hide_rate: 0.0, mask: 1, special: vec![false; 60], swap_rate: 0.0 };
        let train = vec![rows(kind, texts, kind == Kind::Scored)];
        let mut objective = SimilarityObjective::new(train, Vec::new(), comparing, sizes, variation, 1);
        let mut gradients = vec![0.0; model.parameters().len()];
        let (mut position, mut w) = (Position::default(), Workspace::new());
        let dropout = Dropout { rate: 0.0, key: 3 };
        let gradient = Gradient { values: &mut gradients, told: None };
        let outcome = objective.step(&model, &mut position, Leaf::WHOLE, dropout, gradient, &mut w).unwrap();
        assert_eq!((position.epoch, position.index, outcome.loss.count), (1, 0, 9));
        (outcome.loss.mean(), gradients)
    }

    #[test]
    fn parts_have_the_gradients_of_the_whole() {
        for (kind, texts) in [(Kind::Scored, 2), (Kind::Pairs, 2), (Kind::Triplets, 3)] {
            let ((loss, whole), (part_loss, parts)) =
                (gradients(kind, texts, 10_000), gradients(kind, texts, 12));
            assert!((loss - part_loss).abs() < 1e-6 && loss > 0.0, "{kind:?}");
            let norm = |g: &[f32]| g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let off: Vec<f32> = whole.iter().zip(&parts).map(|(a, b)| a - b).collect();
            assert!(norm(&off) < 1e-6 * norm(&whole), "{kind:?}: {} of {}", norm(&off), norm(&whole));
        }
    }

    #[test]
    fn rows_that_share_a_text_are_of_one_group() {
        let text = |id: u32| Text::whole(vec![id], vec![0]);
        let row = |a, b| Example { texts: vec![text(a), text(b)], target: Vec::new() };
        let rows = [row(1, 2), row(3, 4), row(2, 5), row(6, 7), row(4, 6)];
        let rows: Vec<&Example> = rows.iter().collect();
        assert_eq!(groups(Kind::Pairs, &rows), [0, 1, 0, 1, 1]);
    }

    #[test]
    fn a_partner_is_found_or_not() {
        let mut rows = rows(Kind::Pairs, 2, false);
        rows.examples.truncate(3);
        let found = ranks(&rows, 0..3, |i, j| if i == j { 1.0 } else { 0.0 });
        assert_eq!(found, [1, 1, 1]);
        assert_eq!(ranks(&rows, 1..3, |_, _| 0.5), [3, 3], "what is all alike is not found");
        assert_eq!(Ranks(found).named(), [("recall_1", 1.0), ("recall_10", 1.0), ("mrr", 1.0)]);
    }
}
