//! What no other beats in both cost and quality.

/// Of points `(cost, quality)`, those that no other beats in both, from cheap to dear.
pub fn front(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut best = f64::NEG_INFINITY;
    sorted.retain(|p| {
        let better = p.1 > best;
        best = best.max(p.1);
        better
    });
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_what_no_other_beats() {
        let points = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.4), (2.5, 0.7), (4.0, 0.8), (1.0, 0.3)];
        assert_eq!(front(&points), [(1.0, 0.5), (2.5, 0.7), (3.0, 0.9)]);
        assert_eq!(front(&[]), []);
    }
}
