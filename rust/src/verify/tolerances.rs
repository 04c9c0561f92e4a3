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
pub const TOLERANCES: [Tolerance; 4] = [
    Tolerance { name: "fp32", abs: 0.0001, rel: 5e-6, reason: "float32 sums in another order: 2.1e-5 at most was measured, 2.5e-6 of the largest logit (the same networks and photos as for fp16, logits up to 51); twice that for larger logits" },
    Tolerance { name: "fp16", abs: 0.02, rel: 0.03, reason: "weights and activations of 11 bits: 0.0087 of the largest logit at most was measured (ResNet-32 and ResNet-20 on 1000 CIFAR-10 photos, MobileNetV2 and SqueezeNet 1.1 on 520 of ImageNet, float16 or float32 edges); 3.4 times that, for networks that were not" },
    Tolerance { name: "int8", abs: 0.02, rel: 0.07, reason: "beside its own recorded logits, not PyTorch's (how far it is from those is recorded with it): a value half-way between two levels goes up in one engine and down in another, and the next layers multiply that. The same file gives the same logits by the same integer kernels with and without VNNI, by float arithmetic differs by 0.036 of the largest logit at most (MobileNetV2 on 48 photos of ImageNet; SqueezeNet 1.1 0.007), and in a browser's WebAssembly by 0.050 (MobileNetV2 on 200), half of what rounding itself does; 1.4 times that" },
    Tolerance { name: "rust-tract fp32", abs: 0.0001, rel: 5e-6, reason: "float32 in another engine, with sums in its own order: 3.4e-5 at most was measured (MobileNetV2; the pruned ResNet, ResNet-20, SqueezeNet 1.1, RegNet_X_400MF, EfficientNet-B0, 8 to 24 golden samples each), 2.1e-6 of logits above 20" },
];
