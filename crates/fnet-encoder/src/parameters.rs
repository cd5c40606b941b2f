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

    /// Where the tensor lies in the flat buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
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
    values: Vec<f32>,
}

/// Where a tensor lies in the flat buffers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tensor {
    offset: usize,
    len: usize,
}

impl Tensor {
    pub fn start(self) -> usize {
        self.offset
    }

    pub fn len(self) -> usize {
        self.len
    }

    pub fn of(self, buffer: &[f32]) -> &[f32] {
        &buffer[self.offset..self.offset + self.len]
    }

    pub fn of_mut(self, buffer: &mut [f32]) -> &mut [f32] {
        &mut buffer[self.offset..self.offset + self.len]
    }
}

/// Two neighbouring tensors at once: a weight and its bias, a norm's scale and shift.
pub(crate) fn pair_mut(buffer: &mut [f32], first: Tensor, second: Tensor) -> (&mut [f32], &mut [f32]) {
    debug_assert_eq!(first.offset + first.len, second.offset);
    buffer[first.offset..second.offset + second.len].split_at_mut(first.len)
}

/// How a tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Init {
    Zeros,
    Ones,
    /// Normal with this standard deviation; decays.
    Normal(f32),
}

impl Parameters {
    /// Appends a tensor. Its first values depend on its name and the seed alone, so that a model
    /// with another head starts with the same encoder.
    pub(crate) fn add(&mut self, name: &str, shape: &[usize], init: Init, seed: u64) -> Tensor {
        let (offset, len) = (self.values.len(), shape.iter().product());
        match init {
            Init::Zeros => self.values.resize(offset + len, 0.0),
            Init::Ones => self.values.resize(offset + len, 1.0),
            Init::Normal(deviation) => {
                let mut random = ChaCha8Rng::seed_from_u64(hash(name) ^ seed);
                let mut normal = || -> f32 { StandardNormal.sample(&mut random) };
                self.values.extend((0..len).map(|_| deviation * normal()));
            }
        }
        self.table.push(TensorInfo {
            name: name.into(),
            shape: shape.into(),
            offset,
            trainable: true,
            decays: matches!(init, Init::Normal(_)),
        });
        Tensor { offset, len }
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

    /// A tensor's values by name.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        let info = self.table.iter().find(|t| t.name == name)?;
        Some(&self.values[info.range()])
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Number of weights that the optimiser changes.
    pub fn trainable_len(&self) -> usize {
        self.table.iter().filter(|t| t.trainable).map(TensorInfo::len).sum()
    }

    /// Freezes every tensor whose name matches `pattern`, where `*` stands for any characters;
    /// returns how many matched.
    pub fn freeze(&mut self, pattern: &str) -> usize {
        let matching = self.table.iter_mut().filter(|t| matches_pattern(pattern, &t.name));
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
        a.add("first", &[3], Init::Ones, 1);
        a.add("x", &[4, 5], Init::Normal(0.02), 1);
        let mut b = Parameters::default();
        b.add("x", &[4, 5], Init::Normal(0.02), 1);
        assert_eq!(a.get("x"), b.get("x"));
        b.add("y", &[4, 5], Init::Normal(0.02), 1);
        assert_ne!(b.get("x"), b.get("y"));
        assert_eq!(a.freeze("*x*"), 1);
        assert_eq!(a.trainable_len(), 3);
    }
}
