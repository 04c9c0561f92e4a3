"""NNCF's post-training quantisation of an ONNX file, with its defaults: run in an environment of its own.

python nncf_int8.py MODEL.onnx CALIBRATION.npy OUT.onnx
"""

from __future__ import annotations

import sys
import time

import nncf
import numpy as np
import onnx


def main() -> None:
    """Quantise; print the version and the seconds."""
    source, photos, out = sys.argv[1:]
    model, tensors = onnx.load(source), np.load(photos)
    name = model.graph.input[0].name
    start = time.monotonic()
    dataset = nncf.Dataset(list(tensors), lambda tensor: {name: tensor[None]})
    onnx.save(nncf.quantize(model, dataset, subset_size=len(tensors)), out)
    print(nncf.__version__, round(time.monotonic() - start, 1))


if __name__ == "__main__":
    main()
