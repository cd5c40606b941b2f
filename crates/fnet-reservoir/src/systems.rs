//! Systems whose series are forecast as examples.
//!
//! Each series begins after a time in which the system forgets where it started.

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Steps of each system that are left out at the start.
const FORGOTTEN: usize = 1_000;

/// Mackey and Glass (1977): `dx/dt = 0.2 x(t - τ) / (1 + x(t - τ)^10) - 0.1 x(t)`, one value a unit of time, `[steps, 1]`.
/// Chaotic from `τ` = 17 on. By the fourth-order Runge-Kutta method in steps of 0.1, delayed values between steps by cubic
/// interpolation.
pub fn mackey_glass(steps: usize, tau: f64) -> Array2<f64> {
    const PER_UNIT: usize = 10;
    let h = 1.0 / PER_UNIT as f64;
    let delay = (tau / h).round() as usize;
    // x(t) of the last `delay` steps, and two more for interpolation.
    let mut x = vec![1.2; delay + 2];
    let slope = |x: f64, past: f64| 0.2 * past / (1.0 + past.powi(10)) - 0.1 * x;
    let total = (FORGOTTEN + steps) * PER_UNIT;
    for _ in 0..total {
        let (now, n) = (x[x.len() - 1], x.len());
        let at = |back: usize| x[n - 1 - back];
        let (start, end) = (at(delay), if delay > 0 { at(delay - 1) } else { now });
        let middle = if delay > 1 {
            (-at(delay + 1) + 9.0 * start + 9.0 * end - at(delay - 2)) / 16.0
        } else {
            (start + end) / 2.0
        };
        let a = slope(now, start);
        let b = slope(now + 0.5 * h * a, middle);
        let c = slope(now + 0.5 * h * b, middle);
        let d = slope(now + h * c, end);
        x.push(now + h / 6.0 * (a + 2.0 * b + 2.0 * c + d));
    }
    let first = x.len() - steps * PER_UNIT;
    Array2::from_shape_fn((steps, 1), |(t, _)| x[first + t * PER_UNIT])
}

/// Lorenz (1963) with `σ` = 10, `ρ` = 28, `β` = 8/3, a value every `dt`, `[steps, 3]`. Largest Lyapunov exponent 0.906.
pub fn lorenz(steps: usize, dt: f64) -> Array2<f64> {
    let slope = |[x, y, z]: [f64; 3]| [10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z];
    integrate(steps, dt, [1.0, 1.0, 25.0], slope)
}

/// Rössler (1976) with `a` = `b` = 0.2, `c` = 5.7, a value every `dt`, `[steps, 3]`. Largest Lyapunov exponent 0.071.
pub fn rossler(steps: usize, dt: f64) -> Array2<f64> {
    let slope = |[x, y, z]: [f64; 3]| [-y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)];
    integrate(steps, dt, [1.0, 1.0, 0.0], slope)
}

/// By the fourth-order Runge-Kutta method, in ten steps for each value.
fn integrate(steps: usize, dt: f64, start: [f64; 3], slope: impl Fn([f64; 3]) -> [f64; 3]) -> Array2<f64> {
    const PARTS: usize = 10;
    let h = dt / PARTS as f64;
    let mut series = Array2::zeros((steps, 3));
    let mut x = start;
    let along = |x: [f64; 3], d: [f64; 3], by: f64| std::array::from_fn(|i| x[i] + by * d[i]);
    let mut advance = || {
        for _ in 0..PARTS {
            let a = slope(x);
            let b = slope(along(x, a, 0.5 * h));
            let c = slope(along(x, b, 0.5 * h));
            let d = slope(along(x, c, h));
            x = std::array::from_fn(|i| x[i] + h / 6.0 * (a[i] + 2.0 * b[i] + 2.0 * c[i] + d[i]));
        }
        x
    };
    for _ in 0..FORGOTTEN {
        advance();
    }
    for mut row in series.rows_mut() {
        row.iter_mut().zip(advance()).for_each(|(value, x)| *value = x);
    }
    series
}

/// Hénon (1976): `x(t+1) = 1 - 1.4 x(t)² + y(t)`, `y(t+1) = 0.3 x(t)`, `[steps, 2]`. Largest Lyapunov exponent 0.419.
pub fn henon(steps: usize) -> Array2<f64> {
    let mut point = [0.1, 0.1];
    let mut next = || {
        point = [1.0 - 1.4 * point[0] * point[0] + point[1], 0.3 * point[0]];
        point
    };
    for _ in 0..FORGOTTEN {
        next();
    }
    let mut series = Array2::zeros((steps, 2));
    for mut row in series.rows_mut() {
        row.iter_mut().zip(next()).for_each(|(value, x)| *value = x);
    }
    series
}

/// NARMA-10 (Atiya and Parlos 2000): inputs drawn evenly from 0 to 0.5, `[steps, 1]`, and outputs `y(t+1) = 0.3 y(t) +
/// 0.05 y(t) (y(t) + .. + y(t-9)) + 1.5 u(t-9) u(t) + 0.1`, `[steps, 1]`, so that the output of a row follows the inputs of
/// rows before it. A draw that runs away is drawn anew.
pub fn narma10(steps: usize, seed: u64) -> (Array2<f64>, Array2<f64>) {
    let total = steps + 100;
    for attempt in 0.. {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(attempt);
        let u: Vec<f64> = (0..total).map(|_| 0.5 * random.random::<f64>()).collect();
        let mut y = vec![0.0; total];
        for t in 9..total - 1 {
            let sum: f64 = y[t - 9..=t].iter().sum();
            y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * sum + 1.5 * u[t - 9] * u[t] + 0.1;
        }
        if y.iter().all(|value| *value < 1.5) || attempt == 1_000 {
            let column = |values: &[f64]| Array2::from_shape_fn((steps, 1), |(t, _)| values[100 + t]);
            return (column(&u), column(&y));
        }
    }
    (Array2::zeros((0, 1)), Array2::zeros((0, 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_stay_on_their_attractors() {
        let range = |series: Array2<f64>| {
            let column = series.column(0).to_vec();
            (column.iter().copied().fold(f64::MAX, f64::min), column.iter().copied().fold(f64::MIN, f64::max))
        };
        let (low, high) = range(mackey_glass(3_000, 17.0));
        assert!((0.38..0.45).contains(&low) && (1.27..1.33).contains(&high), "{low} {high}");
        let (low, high) = range(lorenz(3_000, 0.02));
        assert!((-20.0..-15.0).contains(&low) && (15.0..20.0).contains(&high), "{low} {high}");
        let (low, high) = range(rossler(3_000, 0.1));
        assert!((-10.0..-8.0).contains(&low) && (10.0..12.5).contains(&high), "{low} {high}");
        let (low, high) = range(henon(3_000));
        assert!((-1.3..-1.25).contains(&low) && (1.25..1.3).contains(&high), "{low} {high}");
        let (u, y) = narma10(3_000, 1);
        assert!(y.iter().all(|y| (0.1..1.5).contains(y)) && u.iter().all(|u| (0.0..0.5).contains(u)));
        assert_ne!(narma10(50, 1).0, narma10(50, 2).0);
    }

    /// A constant past that is a fixed point, `x^10 = 1`, stays: 0.2 / 2 = 0.1.
    #[test]
    fn equations_hold() {
        let (u, y) = narma10(40, 3);
        for t in 9..39 {
            let sum: f64 = (t - 9..=t).map(|i| y[[i, 0]]).sum();
            let expected = 0.3 * y[[t, 0]] + 0.05 * y[[t, 0]] * sum + 1.5 * u[[t - 9, 0]] * u[[t, 0]] + 0.1;
            assert!((y[[t + 1, 0]] - expected).abs() < 1e-12);
        }
        // The slope by central differences, against the equation.
        let fine = lorenz(300, 1e-3);
        let (a, b, c) = (fine.row(100), fine.row(101), fine.row(102));
        let slope = (c[0] - a[0]) / 2e-3;
        assert!((slope - 10.0 * (b[1] - b[0])).abs() < 1e-2 * slope.abs().max(1.0));
    }
}
