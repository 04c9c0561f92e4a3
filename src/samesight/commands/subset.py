"""Make a small labelled subset of the ImageNet validation set, to measure pretrained networks on.

VAL is ILSVRC2012_img_val.tar or the folder of its JPEGs (with the development kit, which tells their
classes), or labelled photos: a folder per WordNet id, or a table with class_index. DIR then holds a folder
per WordNet id and labels.csv, and is taken wherever photos are. The photos stay under ImageNet's own terms.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight subset`."""
    parser.add_argument("val", metavar="VAL", help="the validation set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--classes", type=int, default=500, metavar="N", help="default: %(default)s")
    parser.add_argument("--per-class", type=int, default=1, metavar="K", help="default: %(default)s")
    parser.add_argument(
        "--devkit", type=Path, metavar="FILE", help="ILSVRC2012_devkit_t12.tar.gz (default: beside VAL)"
    )
    parser.add_argument("--seed", type=int, default=42, help="of the draw (default: %(default)s)")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object: out, photos, classes, per_class, seed"
    )


def run(args: argparse.Namespace) -> int:
    """Write the subset; 0."""
    from samesight.data.subset import SubsetOptions, make_subset

    options = SubsetOptions(args.classes, args.per_class, args.seed, args.devkit)
    photos = make_subset(args.val, args.out, options)
    if args.json:
        answer = {
            "out": str(args.out),
            "photos": photos,
            "classes": args.classes,
            "per_class": args.per_class,
        }
        print(json.dumps({**answer, "seed": args.seed}))
        return 0
    print(f"{photos:,} photos of {args.classes:,} classes are in {args.out}")
    print(f"Next: samesight verify BUNDLE --photos {args.out}")
    return 0
