"""The main job on data that is already here: scikit-learn's handwritten digits, written out as a folder of
PNGs, and a small network trained from scratch. Downloads nothing, takes a few minutes on a laptop."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from samesight.commands import build


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight demo`."""
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to make (default: demo)")
    parser.add_argument("--photos", type=int, default=1797, help="how many digits (default: all 1797)")


def write_digits(folder: Path, count: int) -> None:
    """Fill `folder` with a folder per digit of 32 × 32 grey PNGs: the first `count` of 1797."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    for index, (values, target) in enumerate(zip(images[:count], targets[:count], strict=True)):
        place = folder / str(target)
        place.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((values.reshape(8, 8) * (255 / 16)).astype(np.uint8))
        grey.resize((32, 32), Image.Resampling.BICUBIC).save(place / f"digit_{index:04}.png")


def run(args: argparse.Namespace) -> int:
    """Write the photos, then run `samesight build` on them; its exit code."""
    from samesight.errors import MissingExtra
    from samesight.files import new_folder
    from samesight.progress import say

    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingExtra("the demo", "train,demo") from error
    photos, out = args.out / "photos", args.out / "digits"
    say(f"Writing {args.photos} handwritten digits to {photos}")
    with new_folder(photos, replace=True) as folder:
        write_digits(folder, args.photos)
    if out.exists():
        shutil.rmtree(out)  # an earlier demo's
    words = [str(photos), "--model", "small", "--resize", "32x32", "--no-flip", "--out", str(out)]
    words += ["--publishable", "yes"]
    say(f"samesight build {' '.join(words)}")
    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    return build.run(parser.parse_args(words))
