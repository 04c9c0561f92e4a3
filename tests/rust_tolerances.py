"""The Rust runtime's copy of the one table of tolerances: `python tests/rust_tolerances.py` writes it."""

from __future__ import annotations

from pathlib import Path

from samesight.verify.tolerances import TOLERANCES

FILE = Path(__file__).resolve().parent.parent / "rust" / "src" / "verify" / "tolerances.rs"
NAMES = ("fp32", "fp16", "int8", "rust-tract fp32")
HEAD = """\
//! How far logits may lie from the reference and still count as the same; the table of docs/verify.md.
//!
//! Written by tests/rust_tolerances.py from src/samesight/verify/tolerances.py, and held equal by a test.

/// A named allowance. What is measured may differ by `absolute(scale)`.
#[derive(Debug)]
pub struct Tolerance {
    /// Its name in docs/verify.md.
    pub name: &'static str,
    /// In units of the logits.
    pub abs: f64,
    /// As a part of the reference's largest absolute logit.
    pub rel: f64,
    /// Why it is so large.
    pub reason: &'static str,
}

impl Tolerance {
    /// The tolerance of copies of that precision: the runner's own where it has one.
    #[must_use]
    pub fn of(runner: &str, precision: &str) -> Option<&'static Self> {
        let named = |name: &str| TOLERANCES.iter().find(|one| one.name == name);
        named(&format!("{runner} {precision}")).or_else(|| named(precision))
    }

    /// The largest difference allowed beside a reference whose largest absolute value is `scale`.
    #[must_use]
    pub fn absolute(&self, scale: f64) -> f64 {
        self.abs.max(self.rel * scale)
    }
}

/// By runner and precision.
#[rustfmt::skip] // a reason is one string
"""


def source() -> str:
    """The text of rust/src/verify/tolerances.rs."""
    rows = [TOLERANCES[name] for name in NAMES]
    lines = [
        f'    Tolerance {{ name: "{row.name}", abs: {_float(row.abs)}, rel: {_float(row.rel)}, '
        f'reason: "{row.reason}" }},\n'
        for row in rows
    ]
    return f"{HEAD}pub const TOLERANCES: [Tolerance; {len(rows)}] = [\n{''.join(lines)}];\n"


def _float(value: float) -> str:
    """A number as Rust writes it."""
    return repr(value).replace("e-0", "e-")


if __name__ == "__main__":
    FILE.write_text(source())
