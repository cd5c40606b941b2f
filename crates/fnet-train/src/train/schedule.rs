//! The learning rate over a run.

/// The learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Straight down to zero.
    Linear,
    /// Half a cosine down to zero.
    Cosine,
    /// Stays.
    Constant,
}

/// Learning rate over a run: linear warm-up, then decay.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Fraction of the run spent on warm-up.
    pub warm_up: f64,
    /// What follows.
    pub decay: Decay,
}

impl Schedule {
    /// Learning rate at `progress` through the run (0 to 1).
    pub fn at(&self, progress: f64) -> f64 {
        let progress = progress.clamp(0.0, 1.0);
        if progress < self.warm_up {
            return self.learning_rate * progress / self.warm_up;
        }
        let rest = (progress - self.warm_up) / (1.0 - self.warm_up).max(1e-9);
        self.learning_rate
            * match self.decay {
                Decay::Linear => 1.0 - rest,
                Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * rest).cos()),
                Decay::Constant => 1.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_shapes() {
        let s = |decay| Schedule { learning_rate: 2.0, warm_up: 0.5, decay };
        for decay in [Decay::Linear, Decay::Cosine, Decay::Constant] {
            assert_eq!(s(decay).at(0.0), 0.0);
            assert_eq!(s(decay).at(0.25), 1.0);
            assert!((s(decay).at(0.5) - 2.0).abs() < 1e-9);
        }
        assert!((s(Decay::Linear).at(0.75) - 1.0).abs() < 1e-9);
        assert!((s(Decay::Cosine).at(0.75) - 1.0).abs() < 1e-9);
        assert_eq!(s(Decay::Constant).at(1.0), 2.0);
        assert_eq!(s(Decay::Linear).at(7.0), 0.0);
        let none = Schedule { learning_rate: 1.0, warm_up: 0.0, decay: Decay::Linear };
        assert_eq!(none.at(0.0), 1.0);
    }
}
