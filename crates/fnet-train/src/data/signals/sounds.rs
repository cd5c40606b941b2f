//! Sounds in WAV files: frames of a log-mel spectrogram.

use std::io::Cursor;
use std::ops::RangeInclusive;

use fnet_encoder::Head;
use hound::{SampleFormat, WavReader};
use rayon::prelude::*;
use realfft::RealFftPlanner;

use super::classes::{self, Labelled};
use super::entries::Entries;
use super::format::SOUNDS;
use super::spool::{self, Spool};
use super::{Place, Purpose, Reading, Scale, Shape, Signal, Source, Target};
use crate::error::{Error, Result};

/// Bands of a frame.
pub const BANDS: usize = 40;
/// Samples a second.
pub(super) const RATES: RangeInclusive<u32> = 1_000..=400_000;
/// Sounds read at once.
const BLOCK: usize = 256;

/// Sounds, each at its own length: frames of 25 ms every 10 ms, the logarithm of the energy in bands that are evenly spaced
/// on the mel scale, `2595 log10(1 + f / 700)`, up to half the rate.
pub struct Sounds {
    /// Of each sound, `[frames, BANDS]`.
    frames: Spool,
    targets: Vec<Target>,
    classes: Vec<String>,
    rate: u32,
    scale: Scale,
}

impl Sounds {
    /// Reads the sounds of a folder or archive.
    ///
    /// # Errors
    /// Names a sound that cannot be read, is empty, or has another rate than the first or the model's.
    pub fn open(place: &Place, purpose: Purpose) -> Result<Self> {
        let path = &place.path;
        let known = match purpose.reading() {
            None => None,
            Some(Reading::Sound { rate, scale }) => Some((*rate, scale.clone())),
            Some(_) => return purpose.refuse(path, "sounds"),
        };
        let mut entries = Entries::open(place, &SOUNDS)?;
        let mut spectrogram = known.as_ref().map(|(rate, _)| Spectrogram::new(*rate));
        let mut frames = Spool::default();
        while frames.len() < entries.len() {
            let start = frames.len();
            let packed = entries.read_block(start, BLOCK)?;
            let fail =
                |i: usize, message: String| Error::file(path, format!("{}: {message}", entries.name(i)));
            if spectrogram.is_none() {
                let (rate, _) = samples(&packed[0]).map_err(|message| fail(start, message))?;
                spectrogram = Some(Spectrogram::new(rate));
            }
            let Some(spectrogram) = &spectrogram else { continue };
            let block: Vec<_> = packed.into_par_iter().map(|bytes| spectrogram.of(&bytes)).collect();
            for (i, sound) in block.into_iter().enumerate() {
                frames.push(path, &spool::to_bytes(&sound.map_err(|message| fail(start + i, message))?))?;
            }
        }
        let rate = spectrogram.map_or(0, |spectrogram| spectrogram.rate);
        let own =
            || Scale::over(BANDS, |take| frames.each(|sound| spool::values(sound).for_each(&mut *take)));
        let scale = known.map_or_else(own, |known| Ok(known.1))?;
        let labels = entries.labels(purpose);
        let Labelled { targets, classes, .. } =
            classes::targets(path, &labels, None, purpose, |i| entries.name(i).to_string())?;
        Ok(Self { frames, targets, classes, rate, scale })
    }
}

/// Rate and samples of a file, from -1 to 1, the mean of its channels.
fn samples(bytes: &[u8]) -> std::result::Result<(u32, Vec<f32>), String> {
    let broken = |e: hound::Error| format!("is no whole WAV file: {e}");
    let mut reader = WavReader::new(Cursor::new(bytes)).map_err(broken)?;
    let spec = reader.spec();
    if spec.channels == 0 || !RATES.contains(&spec.sample_rate) {
        return Err(format!("has {} channels of {} samples a second", spec.channels, spec.sample_rate));
    }
    let all: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => {
            reader.samples::<f32>().collect::<std::result::Result<_, _>>().map_err(broken)?
        }
        SampleFormat::Int => {
            let most = (1_u64 << (u32::from(spec.bits_per_sample).clamp(1, 32) - 1)) as f32;
            let samples = reader.samples::<i32>().map(|sample| sample.map(|sample| sample as f32 / most));
            samples.collect::<std::result::Result<_, _>>().map_err(broken)?
        }
    };
    if let Some(value) = all.iter().find(|value| !value.is_finite()) {
        return Err(format!("has a sample of {value}"));
    }
    let channels = usize::from(spec.channels);
    let mono = all.chunks_exact(channels).map(|sample| sample.iter().sum::<f32>() / channels as f32);
    Ok((spec.sample_rate, mono.collect()))
}

/// What turns sounds of one rate into frames.
struct Spectrogram {
    rate: u32,
    fft: std::sync::Arc<dyn realfft::RealToComplex<f32>>,
    window: Vec<f32>,
    hop: usize,
    /// Of each band: the first frequency, and the weights from there on.
    bands: Vec<(usize, Vec<f32>)>,
}

impl Spectrogram {
    fn new(rate: u32) -> Self {
        let len = (rate as usize / 40).max(2);
        let fft = RealFftPlanner::new().plan_fft_forward(len.next_power_of_two());
        let hann = |i: usize| 0.5 - 0.5 * (std::f32::consts::TAU * (i as f32 + 0.5) / len as f32).cos();
        let bands = bands(rate, len.next_power_of_two());
        Self { rate, fft, window: (0..len).map(hann).collect(), hop: (rate as usize / 100).max(1), bands }
    }

    fn of(&self, bytes: &[u8]) -> std::result::Result<Vec<f32>, String> {
        let (rate, samples) = samples(bytes)?;
        if rate != self.rate {
            return Err(format!("has {rate} samples a second, the others {}", self.rate));
        }
        if samples.is_empty() {
            return Err("holds no samples".into());
        }
        let len = self.window.len();
        let frames = samples.len().saturating_sub(len).div_ceil(self.hop) + 1;
        let mut input = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut all = Vec::with_capacity(frames * BANDS);
        for start in (0..frames).map(|frame| frame * self.hop) {
            input.fill(0.0);
            for ((x, sample), weight) in input.iter_mut().zip(&samples[start..]).zip(&self.window) {
                *x = sample * weight;
            }
            self.fft
                .process_with_scratch(&mut input, &mut spectrum, &mut scratch)
                .map_err(|e| e.to_string())?;
            for (first, weights) in &self.bands {
                let energy: f32 = spectrum[*first..].iter().zip(weights).map(|(x, w)| w * x.norm_sqr()).sum();
                all.push((energy / len as f32 + 1e-6).ln());
            }
        }
        if let Some(value) = all.iter().find(|value| !value.is_finite()) {
            return Err(format!("is so loud that its logarithm is {value}"));
        }
        Ok(all)
    }
}

/// Triangles between neighbours on the mel scale, each with the sum 1.
fn bands(rate: u32, fft: usize) -> Vec<(usize, Vec<f32>)> {
    let mel = |f: f32| 2595.0 * (1.0 + f / 700.0).log10();
    let top = mel(rate as f32 / 2.0);
    let step = top / (BANDS + 1) as f32;
    let frequency = |bin: usize| bin as f32 * rate as f32 / fft as f32;
    let band = |band: usize| {
        let centre = (band + 1) as f32 * step;
        let weight = |bin: usize| (1.0 - (mel(frequency(bin)) - centre).abs() / step).max(0.0);
        let inside: Vec<usize> = (0..=fft / 2).filter(|bin| weight(*bin) > 0.0).collect();
        // A narrow band may lie between two frequencies: it takes the nearest.
        let off = |bin: &usize| (mel(frequency(*bin)) - centre).abs();
        let nearest = (0..=fft / 2).min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(0);
        let (Some(first), Some(last)) = (inside.first(), inside.last()) else { return (nearest, vec![1.0]) };
        let weights: Vec<f32> = (*first..=*last).map(weight).collect();
        let sum: f32 = weights.iter().sum();
        (*first, weights.iter().map(|w| w / sum).collect())
    };
    (0..BANDS).map(band).collect()
}

impl Source for Sounds {
    fn shape(&self) -> Shape {
        Shape {
            width: BANDS,
            longest: (0..self.len()).map(|sound| self.frames.size(sound) / (4 * BANDS)).max().unwrap_or(0),
            head: Head::Classification { labels: self.classes.len().max(1) },
            classes: self.classes.clone(),
        }
    }

    fn len(&self) -> usize {
        self.frames.len()
    }

    fn read(&self, _pass: u64, index: usize, into: &mut Signal) -> Result<()> {
        into.vectors.clear();
        into.tokens.clear();
        let mut bytes = Vec::new();
        self.frames.read(index, &mut bytes)?;
        let values = spool::values(&bytes).enumerate();
        into.vectors.extend(values.map(|(i, value)| self.scale.apply(i % BANDS, value)));
        into.target = self.targets[index].clone();
        Ok(())
    }

    fn reading(&self) -> Reading {
        Reading::Sound { rate: self.rate, scale: self.scale.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hound::{WavSpec, WavWriter};

    use super::*;
    use crate::data::signals::Options;

    fn write(path: &Path, rate: u32, channels: u16, samples: impl Iterator<Item = f32>) {
        let spec =
            WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut writer = WavWriter::create(path, spec).unwrap();
        for sample in samples {
            (0..channels).for_each(|_| writer.write_sample((sample * 30_000.0) as i16).unwrap());
        }
        writer.finalize().unwrap();
    }

    fn tone(rate: u32, frequency: f32, len: usize) -> impl Iterator<Item = f32> {
        (0..len).map(move |i| (std::f32::consts::TAU * frequency * i as f32 / rate as f32).sin())
    }

    #[test]
    fn a_tone_is_loudest_in_its_band() {
        let place = tempfile::tempdir().unwrap();
        write(&place.path().join("low_1.wav"), 8_000, 1, tone(8_000, 300.0, 800));
        write(&place.path().join("high_1.wav"), 8_000, 2, tone(8_000, 2_000.0, 801));
        write(&place.path().join("short_1.wav"), 8_000, 1, tone(8_000, 2_000.0, 3));
        let options = Options::default();
        let sounds = Sounds::open(&Place::from(place.path()), Purpose::Learn(&options)).unwrap();
        assert_eq!(sounds.classes, ["high", "low", "short"]);
        let lens: Vec<usize> = (0..3).map(|sound| sounds.frames.size(sound) / (4 * BANDS)).collect();
        assert_eq!(lens, [9, 9, 1], "200 samples every 80");
        let mel = |f: f32| 2595.0 * (1.0 + f / 700.0).log10();
        for (sound, frequency) in [(0, 2_000.0), (1, 300.0)] {
            let mut bytes = Vec::new();
            sounds.frames.read(sound, &mut bytes).unwrap();
            let frame: Vec<f32> = spool::values(&bytes).skip(4 * BANDS).take(BANDS).collect();
            let loudest = (0..BANDS).max_by(|a, b| frame[*a].total_cmp(&frame[*b])).unwrap();
            let expected = mel(frequency) / (mel(4_000.0) / (BANDS + 1) as f32) - 1.0;
            assert!((loudest as f32 - expected).abs() <= 1.5, "band {loudest}, expected {expected}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let place = tempfile::tempdir().unwrap();
        let options = Options::default();
        let open =
            || Sounds::open(&Place::from(place.path()), Purpose::Learn(&options)).err().unwrap().to_string();
        write(&place.path().join("a_1.wav"), 8_000, 1, tone(8_000, 300.0, 800));
        write(&place.path().join("b_1.wav"), 16_000, 1, tone(16_000, 300.0, 800));
        assert!(open().contains("b_1.wav: has 16000 samples a second, the others 8000"), "{}", open());
        write(&place.path().join("b_1.wav"), 8_000, 1, tone(8_000, 300.0, 0));
        assert!(open().contains("b_1.wav: holds no samples"), "{}", open());
        let whole = std::fs::read(place.path().join("a_1.wav")).unwrap();
        std::fs::write(place.path().join("b_1.wav"), &whole[..30]).unwrap();
        assert!(open().contains("b_1.wav: is no whole WAV file"), "{}", open());
    }
}
