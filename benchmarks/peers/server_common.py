"""What a server written by hand does with a photo: Pillow, numpy, ONNX Runtime, as tutorials show it."""

from __future__ import annotations

import io
import os

import numpy as np
import onnxruntime
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def session() -> onnxruntime.InferenceSession:
    """The network, with ONNX Runtime's own defaults."""
    return onnxruntime.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])


def labels() -> list[str]:
    """The labels, one a line of a file."""
    with open(os.environ["LABELS"]) as stream:
        return stream.read().splitlines()


def prepare(data: bytes) -> np.ndarray:
    """A photo's file as (1, 3, 224, 224) float32: edge to 256, crop, ImageNet's mean and std."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    values = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return ((values - MEAN) / STD).transpose(2, 0, 1)[None]


def answer(logits: np.ndarray, names: list[str]) -> dict:
    """The five likeliest labels of logits (classes,)."""
    powers = np.exp(logits - logits.max())
    shares = powers / powers.sum()
    top = np.argsort(-logits)[:5]
    rows = [{"label": names[i], "probability": float(shares[i])} for i in top]
    return {"label": names[top[0]], "top": rows}
