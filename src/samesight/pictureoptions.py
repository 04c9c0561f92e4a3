"""Preprocessing in the words of the command line, the same in every command that makes a network's input.

Imports only the standard library, so that a command's `--help` stays quick.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samesight.preprocess import Preprocess

__all__ = ["PictureOptions", "add_picture_arguments", "picture_options"]


@dataclass(frozen=True)
class PictureOptions:
    """What was said about preprocessing; None is what was not."""

    resize: str | None = None
    crop: str | None = None
    interpolation: str | None = None
    mean: str | None = None
    std: str | None = None

    def over(self, spec: Preprocess) -> Preprocess:
        """`spec` with what was said otherwise. Raises InputError for words that are none.

        A crop that is not said stays where it fits in a shortest edge; after an exact size there is none.
        """
        from samesight.preprocess import MAX_SIZE, Preprocess

        resize = self.resize or "8192x8192"  # which any crop fits, and which is not used
        given = Preprocess.parse(resize=resize, crop=self.crop, mean=self.mean, std=self.std)
        crop = spec.crop if self.resize is None and self.crop is None else given.crop
        if (
            self.crop is None
            and isinstance(given.resize, int)
            and max(spec.crop or (MAX_SIZE,)) <= given.resize
        ):
            crop = spec.crop
        return replace(
            spec,
            resize=given.resize if self.resize else spec.resize,
            crop=crop,
            interpolation=self.interpolation or spec.interpolation,
            mean=given.mean if self.mean else spec.mean,
            std=given.std if self.std else spec.std,
        )


def add_picture_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how photos become tensors."""
    group = parser.add_argument_group("how photos become tensors (default: as the weights want)")
    group.add_argument("--resize", metavar="SIZE", help="the shortest edge, or WIDTHxHEIGHT exactly")
    group.add_argument("--crop", metavar="SIZE", help="what is cut out of the middle")
    group.add_argument("--interpolation", metavar="NAME", help="bilinear, bicubic, lanczos, nearest, …")
    group.add_argument("--mean", metavar="R,G,B", help="of normalisation (default for untrained: ImageNet's)")
    group.add_argument("--std", metavar="R,G,B", help="of normalisation")


def picture_options(args: argparse.Namespace) -> PictureOptions:
    """The options that `add_picture_arguments` read."""
    return PictureOptions(args.resize, args.crop, args.interpolation, args.mean, args.std)
