#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod arch;
mod cholesky;
mod connections;
mod dynamics;
mod echo_state;
mod error;
mod forecaster;
mod model_space;
mod nvar;
mod products;
mod radius;
mod real;
mod reservoir;
pub mod ridge;
mod rls;
pub mod score;
pub mod systems;

pub use connections::Connections;
pub use dynamics::Dynamics;
pub use echo_state::{Arrangement, EchoState, EchoStateSettings, EchoStates};
pub use error::{ReservoirError, Result};
pub use forecaster::{Example, Fit, Forecaster, Running};
pub use model_space::ModelSpace;
pub use nvar::{Nvar, NvarSettings};
pub use real::Real;
pub use reservoir::{MOST_UNITS, Reservoir, ReservoirSettings, ReservoirState};
pub use ridge::Penalty;
pub use rls::RecursiveLeastSquares;
