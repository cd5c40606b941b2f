use std::ops::{Range, RangeFrom};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// A tensor's entry in the table of [`Parameters`].
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Name in the weight file, as in Transformers.
    pub name: String,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// First value in the flat buffer.
    pub offset: usize,
    /// Whether the optimiser changes it.
    pub trainable: bool,
    /// Whether weight decay applies: not to biases and norms.
    pub decays: bool,
    /// Factor of the learning rate.
    pub rate: f32,
}

impl TensorInfo {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensor's range in the flat buffer.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// All weights of a model in one flat buffer, with a table of named tensors.
///
/// Gradients and optimiser moments are buffers of the same layout. Freezing is a property of the
/// table alone.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    table: Vec<TensorInfo>,
    /// How each tensor is initialised, and which of its rows starts at zero.
    inits: Vec<(Init, Option<usize>)>,
    values: Vec<f32>,
    /// Where handles of these tensors begin: 0, or [`OWN`] where others are a trunk's.
    first: usize,
}

/// From here on, handles are those of an adapter's own tensors; below, of its trunk's.
const OWN: usize = 1 << 48;

/// The weights that a pass reads: a model's, or a trunk's and an adapter's own.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    base: &'a [f32],
    own: &'a [f32],
}

impl<'a> Values<'a> {
    /// Those of a model that stands alone.
    pub(crate) fn of(parameters: &'a Parameters) -> Self {
        Self { base: parameters.values(), own: &[] }
    }

    /// Those of an adapter on a trunk.
    pub(crate) fn on(trunk: &'a Parameters, own: &'a Parameters) -> Self {
        Self { base: trunk.values(), own: own.values() }
    }
}

/// Where a tensor lies in the flat buffers and in the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tensor {
    offset: usize,
    len: usize,
    index: usize,
}

#[allow(clippy::len_without_is_empty)] // no tensor is empty
impl Tensor {
    /// Number of values.
    pub fn len(self) -> usize {
        self.len
    }

    /// Its values.
    pub fn of(self, values: Values<'_>) -> &[f32] {
        match self.offset.checked_sub(OWN) {
            Some(start) => &values.own[start..start + self.len],
            None => &values.base[self.range()],
        }
    }

    /// As a trunk holds it: no gradient is computed.
    pub(crate) fn of_trunk(info: &TensorInfo) -> Self {
        Self { offset: info.offset, len: info.len(), index: usize::MAX }
    }

    fn range(self) -> Range<usize> {
        self.offset..self.offset + self.len
    }

    /// Adjacent tensors as one.
    pub(crate) fn join<const N: usize>(tensors: [Self; N]) -> Self {
        debug_assert!(tensors.windows(2).all(|t| t[0].offset + t[0].len == t[1].offset));
        Self { len: tensors.iter().map(|t| t.len).sum(), ..tensors[0] }
    }
}

/// The gradients of all parameters, which backward passes add to. Those of frozen tensors are never
/// computed.
pub struct Gradients<'a> {
    buffer: &'a mut [f32],
    table: &'a [TensorInfo],
    first: usize,
}

impl<'a> Gradients<'a> {
    /// A buffer like that of the `parameters`.
    pub(crate) fn new(buffer: &'a mut [f32], parameters: &'a Parameters) -> Self {
        Self { buffer, table: parameters.table(), first: parameters.first }
    }

    /// All of them from an index on.
    pub(crate) fn from(&self, start: usize) -> &[f32] {
        &self.buffer[start..]
    }

    /// Where a tensor's gradient lies; `None` if it is frozen or a trunk's.
    fn range(&self, tensor: Tensor) -> Option<Range<usize>> {
        let start = tensor.offset.checked_sub(self.first)?;
        self.table[tensor.index].trainable.then(|| start..start + tensor.len)
    }

    /// A tensor's gradient; `None` if it is frozen.
    pub fn of(&mut self, tensor: Tensor) -> Option<&mut [f32]> {
        let range = self.range(tensor)?;
        Some(&mut self.buffer[range])
    }

    /// The gradient of adjacent tensors; `None` if all are frozen. If only some are, their gradients are computed
    /// but not used.
    pub(crate) fn of_joined<const N: usize>(&mut self, tensors: [Tensor; N]) -> Option<&mut [f32]> {
        let any = tensors.iter().any(|tensor| self.range(*tensor).is_some());
        let joined = Tensor::join(tensors);
        any.then(|| &mut self.buffer[joined.offset - self.first..][..joined.len])
    }

    /// Several tensors' gradients at once.
    ///
    /// # Panics
    /// If a tensor is named twice.
    pub fn all_of<const N: usize>(&mut self, tensors: [Tensor; N]) -> [Option<&mut [f32]>; N] {
        let ranges = tensors.map(|tensor| self.range(tensor));
        let slices = self.buffer.get_disjoint_mut(ranges.clone().map(Option::unwrap_or_default));
        let mut slices = slices.expect("different tensors lie apart").into_iter();
        ranges.map(|range| slices.next().filter(|_| range.is_some()))
    }
}

/// How a tensor is initialised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// All this value.
    All(f32),
    /// Normal with this standard deviation; decays.
    Normal(f32),
}

impl Parameters {
    /// Of an adapter's own tensors.
    pub(crate) fn of_adapter() -> Self {
        Self { first: OWN, ..Self::default() }
    }

    /// Appends a tensor to the table; see [`allocate`](Self::allocate).
    pub(crate) fn add(&mut self, name: &str, shape: &[usize], init: Init) -> Tensor {
        let offset = self.table.last().map_or(0, |last| last.range().end);
        self.table.push(TensorInfo {
            name: name.into(),
            shape: shape.into(),
            offset,
            trainable: true,
            decays: matches!(init, Init::Normal(_)),
            rate: 1.0,
        });
        self.inits.push((init, None));
        Tensor { offset: self.first + offset, len: shape.iter().product(), index: self.table.len() - 1 }
    }

    /// Multiplies the learning rate of some tensors.
    pub(crate) fn learn_faster(&mut self, tensors: RangeFrom<usize>, rate: f32) {
        self.table[tensors].iter_mut().for_each(|tensor| tensor.rate *= rate);
    }

    /// Makes a row of a matrix start at zero.
    pub(crate) fn start_row_at_zero(&mut self, tensor: Tensor, row: usize) {
        if let Some(init) = self.inits.get_mut(tensor.index) {
            init.1 = Some(row);
        }
    }

    /// Allocates all values, zero: the system provides the pages when they are first touched.
    pub(crate) fn allocate(&mut self) {
        self.values = vec![0.0; self.len()];
    }

    /// Initialises the chosen tensors. Their values depend on a tensor's name and the seed alone, so a model with
    /// another head starts with the same encoder.
    pub(crate) fn start_where(&mut self, seed: u64, choose: impl Fn(&TensorInfo) -> bool) {
        for (info, (init, zero_row)) in self.table.iter().zip(&self.inits) {
            if !choose(info) {
                continue;
            }
            let values = &mut self.values[info.range()];
            match init {
                Init::Zeros => values.fill(0.0),
                Init::Ones => values.fill(1.0),
                Init::All(value) => values.fill(*value),
                Init::Normal(deviation) => {
                    let mut random = ChaCha8Rng::seed_from_u64(hash(&info.name) ^ seed);
                    let mut normal = || -> f32 { StandardNormal.sample(&mut random) };
                    values.iter_mut().for_each(|v| *v = deviation * normal());
                }
            }
            if let Some(row) = zero_row {
                let width = info.shape[1];
                values[row * width..][..width].fill(0.0);
            }
        }
    }

    /// Whether any of the first `count` tensors is trained.
    pub(crate) fn any_trainable(&self, count: usize) -> bool {
        self.table[..count].iter().any(|t| t.trainable)
    }

    /// The tensors in the order of the buffer.
    pub fn table(&self) -> &[TensorInfo] {
        &self.table
    }

    /// All weights.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All weights, for the optimiser.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The table, and all weights, mutable.
    pub(crate) fn split_mut(&mut self) -> (&[TensorInfo], &mut [f32]) {
        (&self.table, &mut self.values)
    }

    /// A tensor's values by name.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        let info = self.table.iter().find(|t| t.name == name)?;
        Some(&self.values[info.range()])
    }

    /// A tensor's values by name, mutable.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let info = self.table.iter().find(|t| t.name == name)?;
        Some(&mut self.values[info.range()])
    }

    /// Copies one tensor's values into another of its shape.
    pub(crate) fn copy(&mut self, from: &str, to: &str) {
        let range = |name| self.table.iter().find(|t| t.name == name).map(TensorInfo::range);
        if let (Some(from), Some(to)) = (range(from), range(to)) {
            self.values.copy_within(from, to.start);
        }
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.table.last().map_or(0, |last| last.range().end)
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of weights that the optimiser changes.
    pub fn trainable_len(&self) -> usize {
        self.table.iter().filter(|t| t.trainable).map(TensorInfo::len).sum()
    }

    /// Freezes every tensor whose name matches `pattern`, where `*` stands for any characters;
    /// returns how many matched.
    pub fn freeze(&mut self, pattern: &str) -> usize {
        self.freeze_where(|name| matches_pattern(pattern, name))
    }

    /// Freezes every tensor whose name is chosen; returns the number of them.
    pub fn freeze_where(&mut self, choose: impl Fn(&str) -> bool) -> usize {
        let matching = self.table.iter_mut().filter(|t| choose(&t.name));
        matching.map(|t| t.trainable = false).count()
    }
}

/// FNV-1a, which, unlike the standard library's hasher, is the same in every release.
fn hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).filter(|i| tail.is_char_boundary(*i)).any(|i| matches_pattern(rest, &tail[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, matches) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("a.*", "a.b.c", true),
            ("*.bias", "x.y.bias", true),
            ("*.bias", "x.y.weight", false),
            ("*layer.0*weight", "fnet.encoder.layer.0.output.dense.weight", true),
            ("*", "", true),
        ] {
            assert_eq!(matches_pattern(pattern, name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn start_values_depend_on_name_and_seed_alone() {
        let mut a = Parameters::default();
        a.add("first", &[3], Init::Ones);
        a.add("x", &[4, 5], Init::Normal(0.02));
        let mut b = Parameters::default();
        b.add("x", &[4, 5], Init::Normal(0.02));
        b.add("y", &[4, 5], Init::Normal(0.02));
        for parameters in [&mut a, &mut b] {
            parameters.allocate();
            parameters.start_where(1, |_| true);
        }
        assert_eq!(a.get("x"), b.get("x"));
        assert_ne!(b.get("x"), b.get("y"));
        assert_eq!(a.freeze("*x*"), 1);
        assert_eq!(a.trainable_len(), 3);
    }
}
