//! The nearest of many vectors, by their dot products: exact, in blocks that fit the cache.

use std::cmp::Ordering;

use fnet_encoder::similarity::dot_products;
use rayon::prelude::*;

/// A vector that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Its row.
    pub row: usize,
    /// Its dot product with what was looked for: the cosine, if both have length one.
    pub score: f32,
}

impl Found {
    /// The more alike first, then the earlier row; a NaN last.
    fn order(&self, other: &Self) -> Ordering {
        let key = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
        key(other.score).total_cmp(&key(self.score)).then(self.row.cmp(&other.row))
    }
}

/// The dot product of two vectors, summed in float64: their cosine, if both have length one.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Bytes of rows that are compared with all queries while they are in the cache.
const BLOCK_BYTES: usize = 256 << 10;
/// Rows of a task, in blocks.
const BLOCKS: usize = 16;
/// Candidates beyond those that are asked for, so that rounding leaves none out: products of one query and of many are summed in
/// different orders, and what is found is compared again in float64.
const MORE: usize = 8;

/// For each query `[queries, width]` the `count` rows `[rows, width]` with the largest dot products, largest first. What is found
/// does not depend on the other queries or the number of threads.
pub fn top(rows: &[f32], width: usize, queries: &[f32], count: usize) -> Vec<Vec<Found>> {
    let (width, most) = (width.max(1), count.saturating_add(MORE));
    let block = (BLOCK_BYTES / (4 * width)).max(16);
    let asked = queries.len() / width;
    let tasks = rows.par_chunks(BLOCKS * block * width).enumerate().map(|(task, rows)| {
        let mut best: Vec<Vec<Found>> = vec![Vec::new(); asked];
        let mut products = Vec::new();
        for (i, part) in rows.chunks(block * width).enumerate() {
            let (first, len) = (task * BLOCKS * block + i * block, part.len() / width);
            products.resize(asked * len, 0.0);
            dot_products(queries, part, width, &mut products);
            for (best, products) in best.iter_mut().zip(products.chunks_exact(len)) {
                keep(best, products, first, most);
            }
        }
        best
    });
    let join = |mut a: Vec<Vec<Found>>, b: Vec<Vec<Found>>| {
        for (a, b) in a.iter_mut().zip(b) {
            a.extend(b);
            shorten(a, most);
        }
        a
    };
    let best = tasks.reduce(|| vec![Vec::new(); asked], join);
    let queries = queries.chunks_exact(width);
    let exact = |query: &[f32], row: usize| dot(query, &rows[row * width..][..width]) as f32;
    best.into_iter()
        .zip(queries)
        .map(|(mut best, query)| {
            best.iter_mut().for_each(|found| found.score = exact(query, found.row));
            shorten(&mut best, count);
            best
        })
        .collect()
}

/// Adds those of a block that may be among the best. `best` is sorted out when it has grown to twice of what is kept.
fn keep(best: &mut Vec<Found>, products: &[f32], first: usize, most: usize) {
    let mut least = if best.len() >= most { best[most - 1].score } else { f32::NEG_INFINITY };
    for (i, score) in products.iter().enumerate() {
        let score = if score.is_nan() { f32::NEG_INFINITY } else { *score };
        if score > least || best.len() < most {
            best.push(Found { row: first + i, score });
            if best.len() >= 2 * most {
                shorten(best, most);
                least = best[most - 1].score;
            }
        }
    }
    shorten(best, most);
}

fn shorten(best: &mut Vec<Found>, most: usize) {
    best.sort_unstable_by(Found::order);
    best.truncate(most);
}

/// The cosine of a text with itself may be less than one by this much.
const ROUNDING: f32 = 1e-6;

/// Hands all pairs of rows with a dot product of at least `least` to `each`, the earlier row first: near duplicates.
///
/// # Errors
/// What `each` returns.
pub fn pairs_above<E>(
    rows: &[f32],
    width: usize,
    least: f32,
    mut each: impl FnMut(usize, Found) -> Result<(), E>,
) -> Result<(), E> {
    let (width, least) = (width.max(1), least - ROUNDING);
    const SIDE: usize = 512;
    for (i, own) in rows.chunks(SIDE * width).enumerate() {
        let later = rows[i * SIDE * width..].par_chunks(SIDE * width).enumerate();
        let parts: Vec<Vec<(usize, Found)>> = later
            .map(|(j, others)| {
                let count = others.len() / width;
                let mut products = vec![0.0; own.len() / width * count];
                dot_products(own, others, width, &mut products);
                let (a, b) = (i * SIDE, (i + j) * SIDE);
                let pair = |(at, score): (usize, &f32)| {
                    (a + at / count, Found { row: b + at % count, score: *score })
                };
                let pairs = products.iter().enumerate().map(pair);
                pairs.filter(|(row, found)| *row < found.row && found.score >= least).collect()
            })
            .collect();
        let mut found: Vec<(usize, Found)> = parts.concat();
        found.sort_unstable_by_key(|(row, found)| (*row, found.row));
        found.into_iter().try_for_each(|(row, found)| each(row, found))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::generator;
    use rand::Rng;

    fn noise(rows: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut random = generator(seed, "vectors", 0);
        (0..rows * width).map(|_| random.random::<f32>() - 0.5).collect()
    }

    fn plain(rows: &[f32], width: usize, query: &[f32], count: usize) -> Vec<usize> {
        let score =
            |row: &[f32]| row.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let mut all: Vec<(f64, usize)> =
            rows.chunks_exact(width).enumerate().map(|(i, row)| (score(row), i)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all.iter().take(count).map(|(_, i)| *i).collect()
    }

    #[test]
    fn the_best_are_found_whatever_else_is_asked() {
        for (rows, width, asked, count) in
            [(3_000, 24, 9, 10), (1, 3, 2, 5), (20_000, 8, 1, 3), (40, 1, 6, 40)]
        {
            let (vectors, queries) = (noise(rows, width, 1), noise(asked, width, 2));
            let all = top(&vectors, width, &queries, count);
            for (query, found) in queries.chunks_exact(width).zip(&all) {
                let rows: Vec<usize> = found.iter().map(|found| found.row).collect();
                assert_eq!(rows, plain(&vectors, width, query, count));
                assert_eq!(&top(&vectors, width, query, count)[0], found);
            }
        }
        assert!(top(&[], 4, &[1.0; 4], 3) == [[]] && top(&[1.0; 4], 4, &[], 3).is_empty());
    }

    #[test]
    fn equal_rows_come_in_their_order_and_nan_last() {
        let rows = [1.0, 0.0, f32::NAN, 0.0, 1.0, 0.0, 0.5, 0.0];
        let found: Vec<usize> = top(&rows, 2, &[1.0, 0.0], 4)[0].iter().map(|found| found.row).collect();
        assert_eq!(found, [0, 2, 3, 1]);
    }

    #[test]
    fn near_duplicates_are_found_once() {
        let mut vectors = noise(1_100, 6, 3);
        vectors.chunks_exact_mut(6).for_each(crate::predictor::normalize);
        let copy = vectors[6 * 5..6 * 6].to_vec();
        vectors[6 * 1_050..6 * 1_051].copy_from_slice(&copy);
        let mut found = Vec::new();
        pairs_above(&vectors, 6, 0.99, |row, pair| {
            found.push((row, pair.row));
            Ok::<(), ()>(())
        })
        .unwrap();
        assert!(found.contains(&(5, 1_050)) && found.iter().all(|(a, b)| a < b));
        let n = found.len();
        found.dedup();
        assert_eq!(found.len(), n);
    }
}
