//! Runs a Samesight bundle: the answer that was verified, without Python.
#![allow(clippy::missing_errors_doc)]

pub mod bundle;
mod errors;
pub mod images;
pub mod json;
pub mod preprocess;
pub mod resample;

pub use errors::{Error, Kind, Refusal, Result};

/// How many threads to use: as many as were asked for, else one a CPU, at most 8.
#[must_use]
pub fn threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(8))
}
