"""How far two answers may lie apart and still count as the same: one table, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from samesight.errors import InputError

__all__ = ["TOLERANCES", "Tolerance", "tolerance_for"]


@dataclass(frozen=True)
class Tolerance:
    """A named allowance. What is measured may differ by `absolute(scale)`, or must reach `least`."""

    name: str
    reason: str
    abs: float = 0.0  # in units of the logits (or of pixels, where the stage gives pixels)
    rel: float = 0.0  # as a part of the largest absolute value of the reference
    least: float | None = None  # a share from 0 to 1 that must be reached

    def absolute(self, scale: float) -> float:
        """The largest difference allowed beside a reference whose largest absolute value is `scale`."""
        return max(self.abs, self.rel * scale)

    def text(self) -> str:
        """The allowance as words for a table."""
        if self.least is not None:
            return f"at least {self.least * 100:g} %"
        if not (self.abs or self.rel):
            return "exact"
        if not self.abs:
            return f"relative {self.rel:g}"
        return f"{self.abs:g}, or {self.rel:g} × largest absolute logit"


def _table(*rows: Tolerance) -> dict[str, Tolerance]:
    return {row.name: row for row in rows}


TOLERANCES: dict[str, Tolerance] = _table(
    Tolerance(
        "decode",
        "every decoder of a photo must give the same 8-bit pixels: JPEG by libjpeg-turbo's integer "
        "transform, the others without loss",
    ),
    Tolerance("resize", "the resampler is integer arithmetic on 8-bit pixels, pinned pass by pass"),
    Tolerance("normalise", "a table of 256 float32 values a channel leaves nothing to rounding"),
    Tolerance(
        "fp32",
        "float32 sums in another order: 2.1e-5 at most was measured, 2.5e-6 of the largest logit (the same "
        "networks and photos as for fp16, logits up to 51); twice that for larger logits",
        abs=1e-4,
        rel=5e-6,
    ),
    Tolerance(
        "fp16",
        "weights and activations of 11 bits: 0.0087 of the largest logit at most was measured (ResNet-32 and "
        "ResNet-20 on 1000 CIFAR-10 photos, MobileNetV2 and SqueezeNet 1.1 on 520 of ImageNet, float16 or "
        "float32 edges); 3.4 times that, for networks that were not",
        abs=0.02,
        rel=0.03,
    ),
    Tolerance(
        "openvino fp32",
        "float32 in another engine, with sums in its own order: 3.8e-5 at most was measured, 1.7e-6 of the "
        "largest logit (MobileNetV2 on 520 photos of ImageNet)",
        abs=1e-4,
        rel=5e-6,
    ),
    Tolerance(
        "openvino fp16",
        "a float16 copy that OpenVINO computes in float32: 0.0070 of the largest logit at most was measured "
        "(the same network and photos); the same allowance as in ONNX Runtime",
        abs=0.02,
        rel=0.03,
    ),
    Tolerance(
        "openvino-bf16 fp32",
        "weights and activations of 8 bits of mantissa: 0.058 of the largest logit at most was measured (the "
        "same network and photos); 2.6 times that, for networks that were not",
        abs=0.15,
        rel=0.15,
    ),
    Tolerance(
        "openvino-bf16 fp16",
        "a float16 copy computed in bfloat16: its own rounding is small beside bfloat16's",
        abs=0.15,
        rel=0.15,
    ),
    Tolerance(
        "rust-tract fp32",
        "float32 in another engine, with sums in its own order: 3.4e-5 at most was measured (MobileNetV2; "
        "the pruned ResNet, ResNet-20, SqueezeNet 1.1, RegNet_X_400MF, EfficientNet-B0, 8 to 24 golden "
        "samples each), 2.1e-6 of logits above 20",
        abs=1e-4,
        rel=5e-6,
    ),
    Tolerance(
        "secure fp32",
        "fixed point under ABY3, with up to 22 fraction bits by the network's values: 2.0e-4 at most was "
        "measured on 8 golden samples of ResNet-20, 5.2e-4 on 7 photos by SqueezeNet 1.1",
        abs=1e-3,
        rel=1e-4,
    ),
    Tolerance(
        "secure-cheetah fp32",
        "fixed point under CHEETAH with the fraction bits of ABY3: 4.2e-4 at most was measured (5 photos by "
        "pruned_resnet, 1 by SqueezeNet)",
        abs=1e-3,
        rel=1e-4,
    ),
    Tolerance(
        "int8",
        "beside its own recorded logits, not PyTorch's (how far it is from those is recorded with it): a "
        "value half-way between two levels goes up in one engine and down in another, and the next layers "
        "multiply that. The same file gives the same logits by the same integer kernels with and without "
        "VNNI, by float arithmetic differs by 0.036 of the largest logit at most (MobileNetV2 on 48 photos "
        "of ImageNet; SqueezeNet 1.1 0.007), and in a browser's WebAssembly by 0.050 (MobileNetV2 on 200), "
        "half of what rounding itself does; 1.4 times that",
        abs=0.02,
        rel=0.07,
    ),
    Tolerance(
        "openvino int8",
        "beside the copy's own recorded logits; OpenVINO rounds at other places between layers, and comes as "
        "near to PyTorch: 0.074 of the largest logit at most was measured, three quarters of what rounding "
        "itself does (MobileNetV2 on 200 photos of ImageNet; SqueezeNet 1.1 and a trained MobileNetV3 less); "
        "1.5 times that",
        abs=0.02,
        rel=0.11,
    ),
    Tolerance(
        "golden labels",
        "golden samples have margins of more than twice every copy's tolerance, so no label may change; with "
        "a runner whose own tolerance is wider, none whose margin is more than twice that",
        least=1.0,
    ),
    Tolerance(
        "label agreement",
        "with the FP32 copy over photos; a changed label counts only where the FP32 margin is more than "
        "twice the copy's tolerance, as below it the photo is a toss-up; the rest is for photos whose "
        "difference is larger than any that was measured",
        least=0.995,
    ),
    Tolerance(
        "accuracy",
        "the same photos through the same files: only toss-ups may change, so accuracy stays within half a "
        "point, or two photos, of what was recorded at export",
        abs=0.005,
    ),
    Tolerance(
        "layer",
        "relative L2 distance of one layer's output between two copies of one precision: the same sums in "
        "the same runtime, with its graph optimisations off",
        rel=1e-4,
    ),
    Tolerance(
        "layer fp16",
        "relative L2 distance of one layer's output between a float16 copy and a float32 one: 0.012 at most "
        "was measured (MobileNetV2, 100 layers; SqueezeNet 1.1 0.0009, ResNet-32 0.002); 2.6 times that",
        rel=3e-2,
    ),
    Tolerance(
        "parameters",
        "a layer's weights in two copies of one precision: the same numbers, but for the last bit of a "
        "folded batch normalisation; as a part of the largest weight",
        rel=1e-6,
    ),
    Tolerance(
        "parameters fp16",
        "a layer's weights in a float16 copy and a float32 one: rounding to 11 bits changes them by up to "
        "0.0005 of the largest; four times that",
        rel=2e-3,
    ),
)


def tolerance_for(precision: str, runner: str = "onnxruntime") -> Tolerance:
    """The tolerance of a copy's logits beside PyTorch's: the runner's own where it has one, else the copy's.

    Raises InputError where the table has none.
    """
    for name in (f"{runner} {precision}", precision):
        if name in TOLERANCES:
            return TOLERANCES[name]
    raise InputError(f"there is no tolerance for {precision} copies", expected=", ".join(TOLERANCES))
