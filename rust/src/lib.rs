//! Runs a Samesight bundle: the answer that was verified, without Python.
//!
//! ```no_run
//! # fn main() -> samesight::Result<()> {
//! let classifier = samesight::Classifier::open("bundle")?;
//! let answer = classifier.classify(&samesight::read_photo("photo.jpg".as_ref())?)?;
//! println!("{} {:.3}", answer.label(), answer.confidence());
//! # Ok(())
//! # }
//! ```
//!
//! Photos, resizing and tensors are the same bits as in Python and the browser (spec/preprocess.md); a bundle is
//! checked before any of it is used (spec/bundle.md); `verify` proves it all on the bundle's golden samples.

mod bundle;
mod cache;
mod classifier;
mod errors;
pub mod images;
pub mod json;
mod library;
mod memory;
mod network;
mod onnxruntime;
pub mod preprocess;
pub mod resample;
#[cfg(feature = "tract")]
mod tract;
pub mod verify;

pub use bundle::{Bundle, Copy, Dtype, GoldenInfo, Info};
pub use classifier::{Classifier, Options, Prediction, Top, read_photo};
pub use errors::{Error, Kind, Refusal, Result};
pub use library::find as find_onnxruntime;
pub use network::{Engine, Network, Settings};

/// The SHA-256 of `data` in lower-case hexadecimal digits.
#[must_use]
pub fn sha256(data: &[u8]) -> String {
    bundle::sha256(data)
}

/// How many threads to use: as many as were asked for, else one a CPU, at most 8.
#[must_use]
pub fn threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(8))
}
