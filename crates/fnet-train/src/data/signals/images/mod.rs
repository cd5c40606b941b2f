//! Images cut into square patches, row by row.

use std::path::Path;

use fnet_encoder::Head;
use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, RgbImage};
use rand::Rng;

use super::classes::{self, Labelled};
use super::spool::Spool;
use super::{Format, Options, Place, Purpose, Reading, Scale, Shape, Signal, Source, Target, Variation};
use crate::error::{Error, Result};
use crate::random::generator;
use crate::settings::{refused, setting};

mod cifar;
mod idx;
mod pictures;

/// Images, a byte a value.
pub struct Images {
    pixels: Pixels,
    targets: Vec<Target>,
    classes: Vec<String>,
    patch: usize,
    resized: bool,
    scale: Scale,
    variation: Variation,
}

/// What files of images hold.
struct Pixels {
    rows: usize,
    columns: usize,
    /// 1 or 3.
    channels: usize,
    /// Of each image `[rows, columns, channels]`.
    values: Spool,
    labels: Vec<String>,
    /// Classes in their own order, where a file says it.
    order: Option<Vec<String>>,
    /// Names of the images, where they have any.
    names: Vec<String>,
}

/// How images come out of their files.
#[derive(Clone, Copy)]
struct Look {
    grey: bool,
    /// Rows and columns that all are resized to.
    size: Option<[usize; 2]>,
}

/// Longest side of an image.
pub(crate) const MOST_PIXELS: usize = 1 << 14;

impl Look {
    fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Learn(options) => {
                Self { grey: options.grey, size: options.resize.map(|side| [side, side]) }
            }
            Purpose::Judge(reading, _) | Purpose::Predict(reading) => match reading {
                Reading::Image { rows, columns, channels, resized, .. } => {
                    Self { grey: *channels == 1, size: resized.then_some([*rows, *columns]) }
                }
                _ => Self { grey: false, size: None },
            },
        }
    }

    /// Rows, columns and bytes of an image.
    fn apply(self, mut image: DynamicImage) -> ([usize; 2], Vec<u8>) {
        if let Some([rows, columns]) = self.size {
            image = image.resize_exact(columns as u32, rows as u32, FilterType::Triangle);
        }
        let size = [image.height() as usize, image.width() as usize];
        (size, if self.grey { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() })
    }
}

impl Pixels {
    fn count(&self) -> usize {
        self.labels.len()
    }

    /// Grey or resized ones, if that is asked for.
    fn looking(self, path: &Path, look: Look) -> Result<Self> {
        let grey = look.grey && self.channels == 3;
        let size = look.size.filter(|size| *size != [self.rows, self.columns]);
        if !grey && size.is_none() {
            return Ok(self);
        }
        let (rows, columns) = (self.rows as u32, self.columns as u32);
        let look = Look { grey: look.grey || self.channels == 1, size };
        let (mut values, mut bytes) = (Spool::default(), Vec::new());
        let mut seen = [self.rows, self.columns];
        for index in 0..self.count() {
            self.values.read(index, &mut bytes)?;
            let bytes = std::mem::take(&mut bytes);
            let image = if self.channels == 1 {
                GrayImage::from_raw(columns, rows, bytes).map(DynamicImage::from)
            } else {
                RgbImage::from_raw(columns, rows, bytes).map(DynamicImage::from)
            };
            let (size, bytes) = look.apply(image.unwrap_or_default());
            values.push(path, &bytes)?;
            seen = size;
        }
        let channels = if look.grey { 1 } else { 3 };
        Ok(Self { rows: seen[0], columns: seen[1], channels, values, ..self })
    }
}

impl Images {
    /// Reads images with their classes.
    ///
    /// # Errors
    /// If a file is broken, images differ in size or are of another than the model's, or a patch does not divide it.
    pub fn open(place: &Place, format: Format, purpose: Purpose) -> Result<Self> {
        let (path, look) = (place.path.as_path(), Look::of(purpose));
        let pixels = match format {
            Format::Idx => idx::read(path, purpose.needs_labels())?,
            Format::Cifar => cifar::read(place)?,
            _ => pictures::read(place, look, purpose)?,
        };
        let pixels = pixels.looking(path, look)?;
        let (patch, scale, resized, variation) = match (purpose, purpose.reading()) {
            (Purpose::Learn(options), _) => {
                check_patch(&pixels, options)?;
                let scale = Scale::over(pixels.channels, |take| {
                    pixels.values.each(|image| image.iter().for_each(|value| take(f32::from(*value))))
                })?;
                (options.patch, scale, options.resize.is_some(), options.variation)
            }
            (_, Some(Reading::Image { rows, columns, channels, patch, scale, resized })) => {
                if (*rows, *columns, *channels) != (pixels.rows, pixels.columns, pixels.channels) {
                    return Err(wrong_size(path, &pixels, [*rows, *columns, *channels]));
                }
                (*patch, scale.clone(), *resized, Variation::default())
            }
            _ => return purpose.refuse(path, "images"),
        };
        let place_of = |i: usize| match pixels.names.get(i) {
            Some(name) => name.clone(),
            None => format!("image {}", i + 1),
        };
        let order = pixels.order.clone();
        let Labelled { targets, classes, .. } =
            classes::targets(path, &pixels.labels, order, purpose, place_of)?;
        Ok(Self { pixels, targets, classes, patch, resized, scale, variation })
    }
}

fn check_patch(pixels: &Pixels, options: &Options) -> Result<()> {
    let Pixels { rows, columns, .. } = *pixels;
    let patch = options.patch;
    if patch == 0 || !rows.is_multiple_of(patch) || !columns.is_multiple_of(patch) {
        let message = format!("does not divide images of {rows} x {columns} pixels");
        return Err(refused(&format!("patch {patch}"), message));
    }
    Ok(())
}

fn wrong_size(path: &Path, pixels: &Pixels, wanted: [usize; 3]) -> Error {
    let spelled = |rows, columns, channels| {
        format!("{rows} x {columns} pixels{}", if channels == 1 { " in grey" } else { " in colour" })
    };
    let own = spelled(pixels.rows, pixels.columns, pixels.channels);
    let message =
        format!("has images of {own}; the model reads {}", spelled(wanted[0], wanted[1], wanted[2]));
    Error::file(path, message)
}

/// The error of images of several sizes.
fn several_sizes(path: &Path, name: &str, size: [usize; 2], first: [usize; 2]) -> Error {
    let [[r, c], [rows, columns]] = [size, first];
    let message = format!(
        "{name} has {r} x {c} pixels, the first {rows} x {columns}: {} makes them equal",
        setting("resize")
    );
    Error::file(path, message)
}

/// Rows and columns of an image's pixels, patch by patch.
pub(super) fn places(rows: usize, columns: usize, patch: usize) -> impl Iterator<Item = [usize; 2]> {
    let patches = (0..rows)
        .step_by(patch)
        .flat_map(move |top| (0..columns).step_by(patch).map(move |left| (top, left)));
    patches.flat_map(move |(top, left)| {
        (top..top + patch).flat_map(move |row| (left..left + patch).map(move |column| [row, column]))
    })
}

impl Source for Images {
    fn shape(&self) -> Shape {
        let Pixels { rows, columns, channels, .. } = self.pixels;
        Shape {
            width: self.patch * self.patch * channels,
            longest: rows / self.patch * (columns / self.patch),
            head: Head::Classification { labels: self.classes.len().max(1) },
            classes: self.classes.clone(),
        }
    }

    fn len(&self) -> usize {
        self.pixels.count()
    }

    fn is_fixed(&self) -> bool {
        !self.variation.flip && self.variation.crop == 0
    }

    fn read(&self, pass: u64, index: usize, into: &mut Signal) -> Result<()> {
        let (patch, Pixels { rows, columns, channels, .. }) = (self.patch, &self.pixels);
        let mut image = Vec::new();
        self.pixels.values.read(index, &mut image)?;
        let Variation { flip, crop, seed } = self.variation;
        let (mut is_flipped, mut down, mut right) = (false, 0, 0);
        if flip || crop > 0 {
            let mut random = generator(seed, "variation", (pass << 32) | index as u64);
            is_flipped = flip && random.random();
            let mut shift =
                || if crop > 0 { random.random_range(0..=2 * crop) as isize - crop as isize } else { 0 };
            (down, right) = (shift(), shift());
        }
        into.vectors.clear();
        into.tokens.clear();
        let scale = |channel: usize, value: u8| self.scale.apply(channel, f32::from(value));
        for [row, column] in places(*rows, *columns, patch) {
            let column = if is_flipped { columns - 1 - column } else { column };
            match (row.checked_add_signed(down), column.checked_add_signed(right)) {
                (Some(row), Some(column)) if row < *rows && column < *columns => {
                    let pixel = &image[(row * columns + column) * channels..][..*channels];
                    into.vectors.extend(pixel.iter().enumerate().map(|(c, v)| scale(c, *v)));
                }
                _ => into.vectors.resize(into.vectors.len() + channels, 0.0), // the mean colour
            }
        }
        into.target = self.targets[index].clone();
        Ok(())
    }

    fn reading(&self) -> Reading {
        let Pixels { rows, columns, channels, .. } = self.pixels;
        let (patch, resized, scale) = (self.patch, self.resized, self.scale.clone());
        Reading::Image { rows, columns, channels, resized, patch, scale }
    }
}
