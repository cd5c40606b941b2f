//! `mix` on arrays of float32, and of halves by way of float32.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fnet_mixing::{FourierMixer, MixError, RaggedMixer};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::memory::{Pair, Values, pair};
use crate::threads::pool;

/// Plans by shape, or by hidden size where sequences have lengths of their own. All are dropped beyond so many.
struct Plans<K, M>(Mutex<Option<HashMap<K, M>>>);
const MOST_PLANS: usize = 64;

static SHAPES: Plans<[usize; 2], FourierMixer> = Plans(Mutex::new(None));
static HIDDEN_SIZES: Plans<usize, RaggedMixer> = Plans(Mutex::new(None));

impl<K: std::hash::Hash + Eq, M: Clone> Plans<K, M> {
    fn get(&self, key: K, make: impl FnOnce() -> Result<M, MixError>) -> Result<M, MixError> {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let plans = plans.get_or_insert_default();
        if let Some(plan) = plans.get(&key) {
            return Ok(plan.clone());
        }
        if plans.len() >= MOST_PLANS {
            plans.clear();
        }
        let plan = make()?;
        plans.insert(key, plan.clone());
        Ok(plan)
    }
}

/// How samples lie in an array, and at which lengths they are mixed.
enum Samples {
    /// All of one shape.
    Even(FourierMixer),
    /// As many rows each, of which the first of its length count; the others become zero.
    Padded { mixer: RaggedMixer, rows: usize, lengths: Vec<usize> },
    /// One after another, without padding.
    Packed { mixer: RaggedMixer, offsets: Vec<usize> },
}

/// So many values one thread mixes sooner than another wakes up: they are mixed where they are called for.
const SMALL: usize = 1 << 14;

/// Mixes the array at `input` into that at `output`, both contiguous: `samples` of `rows` of `hidden` values, in
/// `kind` 0 (float32), 1 (bfloat16) or 2 (float16).
#[pyfunction]
#[pyo3(signature = (input, output, samples, rows, hidden, kind, lengths, packed, threads))]
#[allow(clippy::too_many_arguments)] // a seam: `fnet_mixing.mix` is the function for people
pub fn mix(
    py: Python,
    input: usize,
    output: usize,
    samples: usize,
    rows: usize,
    hidden: usize,
    kind: u8,
    lengths: Option<Vec<usize>>,
    packed: bool,
    threads: usize,
) -> PyResult<()> {
    let refused = |e: MixError| PyValueError::new_err(e.to_string());
    let values = samples.checked_mul(rows).and_then(|n| n.checked_mul(hidden));
    let values = values.ok_or_else(|| PyValueError::new_err("the array is larger than memory"))?;
    let ragged = || HIDDEN_SIZES.get(hidden, || Ok(RaggedMixer::new(hidden))).map_err(refused);
    let layout = match lengths {
        None => {
            Samples::Even(SHAPES.get([rows, hidden], || FourierMixer::new(rows, hidden)).map_err(refused)?)
        }
        Some(lengths) if packed => {
            let mut offsets = vec![0_usize];
            for length in lengths {
                let end = offsets[offsets.len() - 1].checked_add(length);
                offsets.push(end.ok_or_else(|| PyValueError::new_err("`lengths` are larger than memory"))?);
            }
            if offsets[offsets.len() - 1] != rows {
                return Err(PyValueError::new_err("`lengths` of packed sequences must add up to the rows"));
            }
            Samples::Packed { mixer: ragged()?, offsets }
        }
        Some(lengths) => {
            if lengths.len() != samples || lengths.iter().any(|length| *length > rows) {
                return Err(PyValueError::new_err(
                    "`lengths`: one for each sequence, none longer than its rows",
                ));
            }
            Samples::Padded { mixer: ragged()?, rows, lengths }
        }
    };
    let run = || match kind {
        0 => mix_as::<f32>(&layout, hidden, input, output, values),
        1 => mix_as::<bf16>(&layout, hidden, input, output, values),
        _ => mix_as::<f16>(&layout, hidden, input, output, values),
    };
    if values <= SMALL {
        return run();
    }
    let pool = pool(threads)?;
    py.detach(|| pool.install(run))
}

fn mix_as<T: Value>(
    layout: &Samples,
    hidden: usize,
    input: usize,
    output: usize,
    len: usize,
) -> PyResult<()> {
    let (input, output) = (Values::new::<T>(input, len)?, Values::new::<T>(output, len)?);
    // SAFETY: `fnet_mixing.mix` and `fnet_mixing.torch` give addresses and sizes of arrays that they hold until this
    // returns. Tests: `test_mix.py`.
    let (x, y) = match unsafe { pair::<T>(input, output) }? {
        Pair::Same(data) => (None, data),
        Pair::Two(x, y) => (Some(x), y),
    };
    T::mix(layout, hidden, x, y).map_err(|e| PyValueError::new_err(e.to_string()))
}

impl Samples {
    /// Mixes `x`, or `y` in place.
    fn mix(&self, hidden: usize, x: Option<&[f32]>, y: &mut [f32]) -> Result<(), MixError> {
        let is_small = y.len() <= SMALL;
        match self {
            Self::Even(mixer) if is_small => {
                let len = mixer.seq_len() * mixer.hidden();
                y.chunks_mut(len).enumerate().try_for_each(|(i, y)| match x {
                    Some(x) => mixer.mix(&x[i * len..][..len], y),
                    None => mixer.mix_in_place(y),
                })
            }
            Self::Even(mixer) => match x {
                Some(x) => mixer.mix(x, y),
                None => mixer.mix_in_place(y),
            },
            Self::Packed { mixer, offsets } if is_small => offsets.windows(2).try_for_each(|ends| {
                let own = ends[0] * hidden..ends[1] * hidden;
                sequence(
                    mixer,
                    hidden,
                    x.and_then(|x| x.get(own.clone())),
                    y.get_mut(own).unwrap_or_default(),
                )
            }),
            Self::Packed { mixer, offsets } => match x {
                Some(x) => mixer.mix(offsets, x, y),
                None => mixer.mix_in_place(offsets, y),
            },
            Self::Padded { mixer, rows, lengths } => {
                let len = (rows * hidden).max(1);
                let sample = |(i, y): (usize, &mut [f32])| {
                    let (own, padding) = y.split_at_mut(lengths[i] * hidden);
                    padding.fill(0.0);
                    sequence(mixer, hidden, x.map(|x| &x[i * len..][..own.len()]), own)
                };
                if is_small {
                    return y.chunks_mut(len).enumerate().try_for_each(sample);
                }
                y.par_chunks_mut(len).enumerate().try_for_each(sample)
            }
        }
    }
}

/// One whole sequence.
fn sequence(mixer: &RaggedMixer, hidden: usize, x: Option<&[f32]>, y: &mut [f32]) -> Result<(), MixError> {
    let offsets = [0, y.len() / hidden.max(1)];
    match x {
        Some(x) => mixer.mix(&offsets, x, y),
        None => mixer.mix_in_place(&offsets, y),
    }
}

/// A type of values that is mixed.
trait Value: Sized {
    fn mix(layout: &Samples, hidden: usize, x: Option<&[Self]>, y: &mut [Self]) -> Result<(), MixError>;
}

impl Value for f32 {
    fn mix(layout: &Samples, hidden: usize, x: Option<&[f32]>, y: &mut [f32]) -> Result<(), MixError> {
        layout.mix(hidden, x, y)
    }
}

impl Value for bf16 {
    fn mix(layout: &Samples, hidden: usize, x: Option<&[bf16]>, y: &mut [bf16]) -> Result<(), MixError> {
        by_float32(layout, hidden, x, y)
    }
}

impl Value for f16 {
    fn mix(layout: &Samples, hidden: usize, x: Option<&[f16]>, y: &mut [f16]) -> Result<(), MixError> {
        by_float32(layout, hidden, x, y)
    }
}

/// Mixes halves as float32, and rounds the result once.
fn by_float32<T: Copy + Send + Sync>(
    layout: &Samples,
    hidden: usize,
    x: Option<&[T]>,
    y: &mut [T],
) -> Result<(), MixError>
where
    [T]: HalfFloatSliceExt,
{
    let mut floats = vec![0.0; y.len()];
    let is_small = y.len() <= SMALL;
    let x = x.unwrap_or(y);
    if is_small {
        x.convert_to_f32_slice(&mut floats);
    } else {
        let parts = floats.par_chunks_mut(SMALL).zip(x.par_chunks(SMALL));
        parts.for_each(|(floats, x)| x.convert_to_f32_slice(floats));
    }
    layout.mix(hidden, None, &mut floats)?;
    if is_small {
        y.convert_from_f32_slice(&floats);
    } else {
        let parts = y.par_chunks_mut(SMALL).zip(floats.par_chunks(SMALL));
        parts.for_each(|(y, floats)| y.convert_from_f32_slice(floats));
    }
    Ok(())
}
