//! A wide random layer in front of a readout: random filters over every place of an image or series, rectified and pooled.
//!
//! A window of an image, or of some steps of a series, is multiplied by fixed random filters (McDonnell and Vladusich 2015, a
//! shallow convolution without training). What is above a threshold, in either direction, is averaged over each of a few
//! regions. Windows of images have mean 0 and deviation 1, so that neither light nor contrast counts.

use std::ops::Range;
use std::sync::OnceLock;

use ndarray::{Array2, ArrayView2, s};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::featured::Features;
use super::{Reading, Signal};
use crate::random::generator;

/// Side of a window of an image in pixels.
const WINDOW: usize = 6;
/// Steps of a window of a series.
const STEPS: usize = 9;
/// Regions of an image on each side, and of a series.
const REGIONS: usize = 3;
/// A product of a window and a filter, which has deviation 1, counts as far as it is above this.
const THRESHOLD: f32 = 0.5;
/// More places of an image, and values at a place, than filters are moved over.
const MOST_PLACES: usize = 1 << 20;
const MOST_CHANNELS: usize = 1 << 16;
/// Values of products that are in memory at once.
const MOST_PRODUCTS: usize = 1 << 22;
/// Deviation of a window that is as good as none, in units of the training images' values.
const FLAT: f32 = 0.05;

/// Which random features examples become.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandomFeatures {
    /// Number of filters.
    pub filters: usize,
    /// From which the filters follow.
    pub seed: u64,
    /// Rows and columns of an image's pixels; of series, one row and no number of columns.
    pub rows: usize,
    /// See `rows`.
    pub columns: Option<usize>,
    /// Values at each place.
    pub channels: usize,
}

impl RandomFeatures {
    /// At least so many features of what is read so.
    ///
    /// # Errors
    /// What they cannot be made of.
    pub fn of(
        reading: &Reading,
        channels: usize,
        count: usize,
        seed: u64,
    ) -> std::result::Result<Self, &'static str> {
        let [rows, columns] = match reading {
            Reading::Image { patch, .. } if *patch != 1 => return Err("patches: pixels are read"),
            Reading::Image { rows, columns, .. } => [*rows, *columns],
            Reading::RandomFeatures { .. } | Reading::ModelSpace { .. } => return Err("features"),
            _ if channels == 0 => return Err("tokens"),
            _ => [1, 0],
        };
        let columns = Some(columns).filter(|columns| *columns > 0);
        let mut own = Self { filters: 1, seed, rows, columns, channels };
        own.filters = count.div_ceil(own.width()).max(1);
        Ok(own)
    }

    /// Number of features.
    pub fn width(&self) -> usize {
        2 * self.filters * self.regions().iter().product::<usize>()
    }

    fn regions(&self) -> [usize; 2] {
        if self.columns.is_some() { [REGIONS, REGIONS] } else { [1, REGIONS] }
    }

    /// Refuses what no training can have written, for examples of `width` values at each place.
    pub(super) fn check(&self, of: &Reading, width: usize) -> std::result::Result<(), String> {
        let channels_fit = match of {
            Reading::Image { rows, columns, channels, patch: 1, .. } => {
                (self.rows, self.columns, self.channels) == (*rows, Some(*columns), *channels)
            }
            Reading::Image { .. }
            | Reading::RandomFeatures { .. }
            | Reading::ModelSpace { .. }
            | Reading::Words { .. } => false,
            _ => {
                of.check(self.channels)?;
                let generated = of.generated(None).map(|source| source.shape().width);
                let fits = generated.is_none_or(|width| width == self.channels);
                (self.rows, self.columns) == (1, None) && fits && (1..=MOST_CHANNELS).contains(&self.channels)
            }
        };
        if self.rows.saturating_mul(self.columns.unwrap_or(0)) > MOST_PLACES {
            return Err(format!("images of {} rows", self.rows));
        }
        if !channels_fit || self.filters == 0 || self.filters > 1 << 20 || self.width() != width {
            return Err(format!("{} random filters in vectors of {width}", self.filters));
        }
        of.check(self.channels)
    }

    /// Rows and columns of a window of an example of so many places.
    fn window(&self) -> [usize; 2] {
        match self.columns {
            Some(columns) => [WINDOW.min(self.rows), WINDOW.min(columns)],
            None => [1, STEPS],
        }
    }

    /// `[values of a window, filters]`: of images each filter has sum 0.
    fn filters(&self) -> Array2<f32> {
        let [rows, columns] = self.window();
        let size = rows * columns * self.channels;
        let mut filters = Array2::zeros((size, self.filters));
        for (i, mut filter) in filters.columns_mut().into_iter().enumerate() {
            let mut random = generator(self.seed, "filter", i as u64);
            filter.iter_mut().for_each(|value: &mut f32| *value = StandardNormal.sample(&mut random));
            if self.columns.is_some() {
                let mean = filter.sum() / size as f32;
                filter.mapv_inplace(|value| value - mean);
            }
            let length = filter.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
            filter.mapv_inplace(|value| value / length);
        }
        filters
    }
}

/// Makes random features of examples.
pub(crate) struct Filters {
    features: RandomFeatures,
    filters: OnceLock<Array2<f32>>,
}

impl Filters {
    pub fn new(features: RandomFeatures) -> Self {
        Self { features, filters: OnceLock::new() }
    }

    /// The windows of an example, `[places, values of a window]`, with the rows and columns of places.
    fn windows(&self, signal: &Signal) -> (Array2<f32>, [usize; 2]) {
        let (own, channels) = (&self.features, self.features.channels);
        let there = signal.vectors.len() / channels;
        let [rows, columns] = [own.rows, own.columns.unwrap_or(there)];
        let [high, wide] = own.window();
        // A short series is followed by zeros.
        let places = [rows - high + 1, columns.max(wide) - wide + 1];
        let run = wide * channels;
        let mut windows = Array2::zeros((places[0] * places[1], high * run));
        for (i, mut window) in windows.rows_mut().into_iter().enumerate() {
            let [top, left] = [i / places[1], i % places[1]];
            for row in 0..high {
                let first = ((top + row) * columns + left) * channels;
                let values = &signal.vectors[first.min(signal.vectors.len())..];
                let values = &values[..run.min(values.len())];
                window.iter_mut().skip(row * run).zip(values).for_each(|(own, value)| *own = *value);
            }
        }
        (windows, places)
    }
}

impl Features for Filters {
    fn width(&self) -> usize {
        self.features.width()
    }

    fn apply(&self, signal: &mut Signal) {
        let own = &self.features;
        let (windows, places) = self.windows(signal);
        let filters = self.filters.get_or_init(|| own.filters());
        let size = windows.ncols() as f32;
        let scale = |window: ndarray::ArrayView1<f32>| {
            let mean = window.sum() / size;
            let variance = window.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / size;
            1.0 / (variance + FLAT * FLAT).sqrt()
        };
        // Filters have length 1, so what is left has deviation 1.
        let scales: Vec<f32> = match own.columns {
            Some(_) => windows.rows().into_iter().map(scale).collect(),
            None => vec![1.0; windows.nrows()],
        };
        signal.vectors.clear();
        signal.tokens.clear();
        signal.vectors.resize(own.width(), 0.0);
        let [down, across] = own.regions();
        let at_once = (MOST_PRODUCTS / windows.nrows().max(1)).clamp(1, own.filters);
        for first in (0..own.filters).step_by(at_once) {
            let some = first..(first + at_once).min(own.filters);
            let mut products = windows.dot(&filters.slice(s![.., some.clone()]));
            for (mut products, scale) in products.rows_mut().into_iter().zip(&scales) {
                products.mapv_inplace(|product| product * scale);
            }
            for region in 0..down * across {
                let [i, j] = [region / across, region % across];
                let rows = i * places[0] / down..((i + 1) * places[0]).div_ceil(down);
                let columns = j * places[1] / across..((j + 1) * places[1]).div_ceil(across);
                let own_part = &mut signal.vectors[2 * region * own.filters..][..2 * own.filters];
                let (above, below) = own_part.split_at_mut(own.filters);
                pool(
                    products.view(),
                    places[1],
                    rows,
                    columns,
                    &mut above[some.clone()],
                    &mut below[some.clone()],
                );
            }
        }
    }

    fn reading(&self, of: Reading) -> Reading {
        Reading::RandomFeatures { of: Box::new(of), features: self.features.clone() }
    }
}

/// The mean of each product above the threshold, and of each below its negative, over a region.
fn pool(
    products: ArrayView2<f32>,
    wide: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    above: &mut [f32],
    below: &mut [f32],
) {
    let share = 1.0 / (rows.len() * columns.len()).max(1) as f32;
    for row in rows {
        for column in columns.clone() {
            let place = products.row(row * wide + column);
            for ((above, below), product) in above.iter_mut().zip(&mut *below).zip(place) {
                *above += (product - THRESHOLD).max(0.0);
                *below += (-product - THRESHOLD).max(0.0);
            }
        }
    }
    above.iter_mut().chain(below).for_each(|value| *value *= share);
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnet_encoder::Head;

    use crate::data::signals::featured::Featured;
    use crate::data::signals::{Asked, Scale, Shape, Source, Target};
    use crate::error::Result;

    struct One(Signal, Reading);

    impl Source for One {
        fn shape(&self) -> Shape {
            Shape { width: 1, longest: 99, head: Head::Regression, classes: Vec::new() }
        }
        fn len(&self) -> usize {
            1
        }
        fn read(&self, _: u64, _: usize, into: &mut Signal) -> Result<()> {
            into.clone_from(&self.0);
            Ok(())
        }
        fn reading(&self) -> Reading {
            self.1.clone()
        }
    }

    fn features(vectors: Vec<f32>, reading: Reading, count: usize) -> Vec<f32> {
        let features = RandomFeatures::of(&reading, 1, count, 7).unwrap();
        let signal = Signal { vectors, target: Target::Number(1.0), ..Signal::default() };
        let source = Featured { source: Box::new(One(signal, reading)), features: Filters::new(features) };
        let mut signal = Signal::default();
        source.read(0, 0, &mut signal).unwrap();
        assert_eq!(signal.vectors.len(), source.shape().width);
        signal.vectors
    }

    fn scale() -> Scale {
        Scale { mean: vec![0.0], deviation: vec![1.0] }
    }

    fn image(rows: usize, columns: usize) -> Reading {
        Reading::Image { rows, columns, channels: 1, resized: false, patch: 1, scale: scale() }
    }

    #[test]
    fn light_and_contrast_of_images_do_not_count() {
        let pixel = |i: usize| ((i * 7919) % 101) as f32 / 20.0;
        let plain: Vec<f32> = (0..90).map(pixel).collect();
        let other: Vec<f32> = plain.iter().map(|v| 3.0 * v - 8.0).collect();
        let [a, b] = [plain, other].map(|vectors| features(vectors, image(9, 10), 100));
        assert_eq!(a.len(), 108);
        assert!(a.iter().any(|v| *v > 0.1) && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.02));
        // A filter in the other direction: a negative sees what the image shows from below.
        let negative = features((0..90).map(|i| -pixel(i)).collect(), image(9, 10), 100);
        for region in 0..9 {
            for i in 0..6 {
                let (up, down) = (a[region * 12 + i], negative[region * 12 + 6 + i]);
                assert!((up - down).abs() < 1e-5, "{region} {i}");
            }
        }
    }

    #[test]
    fn what_no_training_has_written_is_refused() {
        let good = RandomFeatures { filters: 1, seed: 1, rows: 9, columns: Some(9), channels: 1 };
        assert!(good.check(&image(9, 9), 18).is_ok());
        assert!(good.check(&image(9, 8), 18).is_err() && good.check(&image(9, 9), 17).is_err());
        let nested = Reading::RandomFeatures { of: Box::new(image(9, 9)), features: good.clone() };
        assert!(good.check(&nested, 18).is_err());
        let huge = RandomFeatures { rows: 16_384, columns: Some(16_384), ..good.clone() };
        assert!(huge.check(&image(16_384, 16_384), 18).is_err());
        let task = Reading::Mnist1d(crate::data::signals::mnist1d::Mnist1d { length: 40 });
        let wide = RandomFeatures { rows: 1, columns: None, channels: 1 << 40, ..good.clone() };
        assert!(wide.check(&task, 6).is_err());
        assert!(RandomFeatures { channels: 1, ..wide }.check(&task, 6).is_ok());
    }

    #[test]
    fn any_size_has_features() {
        for (rows, columns) in [(1, 1), (1, 30), (2, 3), (6, 6), (7, 8)] {
            let all = features((0..rows * columns).map(|i| i as f32).collect(), image(rows, columns), 1);
            assert!(all.len() == 18 && all.iter().all(|v| v.is_finite()), "{rows} {columns}");
        }
        let series =
            || Reading::Series { scale: scale(), table: None, asked: Asked::Class, ignored_label: None };
        for steps in [0, 1, 5, 9, 10, 300] {
            let all = features((0..steps).map(|i| (i as f32).sin()).collect(), series(), 20);
            assert!(all.len() == 24 && all.iter().all(|v| v.is_finite()), "{steps}");
        }
        assert!(
            RandomFeatures::of(
                &Reading::Words {
                    columns: crate::data::tasks::rows::Columns::named(&["a".into()], None, true).unwrap()
                },
                0,
                5,
                1
            )
            .is_err()
        );
    }
}
