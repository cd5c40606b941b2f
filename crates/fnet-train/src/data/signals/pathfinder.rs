//! Pathfinder (Linsley et al. 2018), in the size of Long Range Arena (Tay et al. 2021, section 2.2.5): whether two discs are
//! joined by a dashed path, among other paths.

use fnet_encoder::Head;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::generated::Task;
use super::images::places;
use super::{Reading, Shape, Signal, Target};

/// Side of an image in pixels.
const SIDE: usize = 32;
/// In pixels: a dash, the space to the next, a disc's radius, and the distance between paths.
const DASH: f32 = 2.0;
const GAP: f32 = 1.0;
const RADIUS: f32 = 1.5;
const APART: f32 = 2.5;
/// Half of a dash's width.
const HALF_WIDTH: f32 = 0.4;
/// The largest turn between two dashes, in radians.
const TURN: f32 = 0.55;
/// Dashes of the paths that lead nowhere, all together.
const OTHERS: usize = 22;

/// Sizes of images and paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pathfinder {
    /// Dashes of each of the two long paths; 6, 9 or 14 in Long Range Arena.
    pub dashes: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
}

type Point = [f32; 2];

/// A path of dashes, each from a point to another.
type Path = Vec<[Point; 2]>;

impl Pathfinder {
    /// Refuses paths that find no place, and patches that do not divide an image.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(self) -> Result<(), String> {
        if !(3..=14).contains(&self.dashes) {
            return Err(format!("paths of {} dashes; there is place for 3 to 14", self.dashes));
        }
        if self.patch == 0 || !SIDE.is_multiple_of(self.patch) {
            return Err(format!("patches of {} in images of {SIDE} x {SIDE} pixels", self.patch));
        }
        Ok(())
    }

    /// An image, row by row, from 0 to 1, and whether its discs are joined.
    fn draw(self, random: &mut ChaCha8Rng) -> (Vec<f32>, bool) {
        let (mut paths, joined) = (Vec::new(), random.random());
        while paths.len() < 2 {
            match path(random, self.dashes, &paths) {
                Some(path) => paths.push(path),
                None => paths.clear(), // the first leaves no place for the second
            }
        }
        let ends = |path: &Path| [path[0][0], path[path.len() - 1][1]];
        let [first, second] = [ends(&paths[0]), ends(&paths[1])];
        let discs = if joined {
            first
        } else {
            [first[random.random_range(0..2)], second[random.random_range(0..2)]]
        };
        let short = (self.dashes / 3).max(1);
        for _ in 0..OTHERS / short {
            paths.extend(path(random, short, &paths));
        }
        let dashes: Vec<[Point; 2]> = paths.concat();
        let ink = |pixel: usize| {
            let at = [(pixel / SIDE) as f32 + 0.5, (pixel % SIDE) as f32 + 0.5];
            let of_dashes = dashes.iter().map(|dash| distance(at, *dash) - HALF_WIDTH);
            let of_discs = discs.iter().map(|disc| distance(at, [*disc, *disc]) - RADIUS);
            // An edge is a pixel wide.
            (0.5 - of_dashes.chain(of_discs).fold(f32::INFINITY, f32::min)).clamp(0.0, 1.0)
        };
        ((0..SIDE * SIDE).map(ink).collect(), joined)
    }
}

/// A path that keeps away from others, from the edge and from itself; `None` if none is found.
fn path(random: &mut ChaCha8Rng, dashes: usize, others: &[Path]) -> Option<Path> {
    const TRIES: usize = 60;
    let edge = RADIUS + 0.5;
    let inside = |point: Point| point.iter().all(|x| (edge..=SIDE as f32 - edge).contains(x));
    for _ in 0..TRIES {
        let mut path = Path::new();
        let mut start = [0, 1].map(|_| random.random_range(edge..SIDE as f32 - edge));
        let mut heading = random.random_range(0.0..std::f32::consts::TAU);
        for _ in 0..TRIES {
            let turned = if path.is_empty() { heading } else { heading + random.random_range(-TURN..TURN) };
            let along = |from: Point, far: f32| [from[0] + far * turned.sin(), from[1] + far * turned.cos()];
            let from = if path.is_empty() { start } else { along(start, GAP) };
            let dash = [from, along(from, DASH)];
            let middle = along(from, DASH / 2.0);
            let is_free = |other: &[Point; 2]| {
                [dash[0], middle, dash[1]].iter().all(|point| distance(*point, *other) >= APART)
            };
            let earlier = &path[..path.len().saturating_sub(1)];
            if inside(dash[1]) && inside(from) && others.iter().flatten().chain(earlier).all(is_free) {
                path.push(dash);
                (start, heading) = (dash[1], turned);
                if path.len() == dashes {
                    return Some(path);
                }
            }
        }
    }
    None
}

/// Distance of a point from a line between two others.
fn distance(point: Point, [a, b]: [Point; 2]) -> f32 {
    let (ab, ap) = ([b[0] - a[0], b[1] - a[1]], [point[0] - a[0], point[1] - a[1]]);
    let length = ab[0] * ab[0] + ab[1] * ab[1];
    let along = if length > 0.0 { ((ab[0] * ap[0] + ab[1] * ap[1]) / length).clamp(0.0, 1.0) } else { 0.0 };
    let off = [ap[0] - along * ab[0], ap[1] - along * ab[1]];
    (off[0] * off[0] + off[1] * off[1]).sqrt()
}

impl Task for Pathfinder {
    const EXAMPLES: [usize; 2] = [10_000, 2_000];
    const PURPOSES: [&'static str; 2] = ["paths", "valid paths"];
    const VALIDATION_SEED: u64 = 20_180_529;

    fn shape(self) -> Shape {
        Shape {
            width: self.patch * self.patch,
            longest: (SIDE / self.patch) * (SIDE / self.patch),
            head: Head::Classification { labels: 2 },
            classes: ["apart", "joined"].map(String::from).to_vec(),
        }
    }

    fn reading(self) -> Reading {
        Reading::Pathfinder(self)
    }

    fn example(self, random: &mut ChaCha8Rng, into: &mut Signal) {
        let (image, joined) = self.draw(random);
        let in_patches = places(SIDE, SIDE, self.patch).map(|[row, column]| image[row * SIDE + column]);
        into.vectors.extend(in_patches.map(|ink| 3.0 * ink)); // about the size of other signals
        into.target = Target::Class(u32::from(joined));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::generator;

    #[test]
    fn discs_lie_on_ink_that_joins_them_or_not() {
        let mut joined = 0;
        for index in 0..200 {
            let task = Pathfinder { dashes: [6, 9, 14][index as usize % 3], patch: 1 };
            let (image, is_joined) = task.draw(&mut generator(1, "test", index));
            joined += usize::from(is_joined);
            // A disc covers its middle wholly, a dash does not.
            let covered = |row: usize, column: usize| {
                (0..2).all(|r| (0..2).all(|c| image[(row + r) * SIDE + column + c] > 0.6))
            };
            let discs =
                (0..(SIDE - 1) * (SIDE - 1)).filter(|i| covered(i / (SIDE - 1), i % (SIDE - 1))).count();
            assert!((2..=12).contains(&discs), "{discs} of image {index}");
        }
        assert!((70..130).contains(&joined), "{joined}");
    }

    #[test]
    fn paths_keep_apart() {
        let mut random = generator(2, "test", 0);
        let first = path(&mut random, 9, &[]).unwrap();
        assert_eq!(first.len(), 9);
        for pair in first.windows(2) {
            let gap = distance(pair[0][1], [pair[1][0], pair[1][0]]);
            assert!((gap - GAP).abs() < 1e-4, "{gap}");
        }
        let others = [first];
        let second = path(&mut random, 6, &others).unwrap();
        for dash in &second {
            assert!(others[0].iter().all(|other| distance(dash[0], *other) >= APART));
        }
        assert!(Pathfinder { dashes: 20, patch: 1 }.check().is_err());
        assert!(Pathfinder { dashes: 6, patch: 3 }.check().is_err());
    }
}
