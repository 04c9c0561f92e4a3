"""From where on something about a photo is worth saying: one table, each threshold with its reason.

A check that cries wolf is worse than none, so each stands where the real photos that it was measured on
raise no false alarm, or next to none; docs/LOG.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["THRESHOLDS", "Threshold", "limit"]


@dataclass(frozen=True)
class Threshold:
    """A named limit, in which unit it is, and why it stands where it does."""

    name: str
    value: float
    unit: str
    reason: str


def _table(*rows: Threshold) -> dict[str, Threshold]:
    return {row.name: row for row in rows}


THRESHOLDS: dict[str, Threshold] = _table(
    Threshold(
        "few photos",
        10,
        "photos of a class",
        "below it neither training nor the held-out part says much about a class",
    ),
    Threshold(
        "dark",
        80,
        "grey level, 0 to 255",
        "99 % of the pixels are darker; of 3,100 real photos the darkest reaches 110",
    ),
    Threshold(
        "bright",
        200,
        "grey level, 0 to 255",
        "99 % of the pixels are brighter; of 3,100 real photos, white paper among them, the brightest goes "
        "down to 152",
    ),
    Threshold(
        "flat",
        30,
        "grey levels",
        "the brightest and the darkest hundredth of the pixels lie closer together; of 3,100 real photos, "
        "white paper among them, the flattest spans 60",
    ),
    Threshold(
        "blurred",
        0.31,
        "share of an edge's step that its steepest pixel takes",
        "the median of the strongest edges over 4 pixels, the photo's shorter side scaled down to 256: an "
        "even ramp has 0.25. 2 of 2,500 real photos lie below, and both are blurred; of copies blurred by a "
        "Gaussian of 2 pixels 91 to 100 %, by one of 1 pixel 0 to 7 %. Photos of fewer than 64 pixels are "
        "not judged: of 1,797 handwritten digits that were enlarged, 196 would lie below",
    ),
    Threshold(
        "tiny",
        32,
        "pixels",
        "the shorter side; below it no network has much to go by. Only where the other photos are at least "
        "twice as large, else it is what these photos are like",
    ),
    Threshold(
        "odd size",
        5,
        "times",
        "the side of a square of the same area is so much longer or shorter than the middle photo's: of "
        "ImageNet's photos, which vary most, 2 of 520",
    ),
    Threshold(
        "odd shape",
        3,
        "times",
        "the sides' ratio is so much further from a square than the middle photo's: a centre crop then "
        "loses two thirds. Of 4,760 real photos, 1",
    ),
    Threshold(
        "alike",
        0.60,
        "cosine of two descriptors",
        "below it two photos are not compared any further; above it, the likeliest pairs are, four for each "
        "photo and 4,000 more. Copies cropped by a tenth reach it in 99 of 100 cases",
    ),
    Threshold(
        "near duplicate",
        0.90,
        "correlation of fine detail after alignment",
        "different photos of the same kind of thing (824 hands on one background) reach 0.92, where the "
        "limit rises by itself; copies cropped by a twentieth, re-compressed, resized, brightened or "
        "greyed stay above 0.93",
    ),
    Threshold(
        "clear of the rest",
        0.15,
        "pairs",
        "for each pair above the limit at most so many may lie just below it (within 0.02), else the photos "
        "are all alike and the limit rises: to 0.92, 0.94, 0.96, 0.98, 0.99, and then nothing is called a "
        "near duplicate. Groceries have 0.13, CIFAR-10 0.1, the hands with a hundred copies among them 0.17",
    ),
    Threshold(
        "compared",
        300_000,
        "photos",
        "of more, near duplicates are not looked for, and a note says so: all are compared with all, so the "
        "time grows with the square",
    ),
    Threshold(
        "mislabelled",
        0.5,
        "probability",
        "a classifier that was not fitted to the photo gives another class so much more than the label that "
        "it has. Of 41 planted labels among 824 hands 33 are found and no other; of 24 among 480 photos of "
        "trash, which are hard to tell apart, 12, and 12 others",
    ),
    Threshold(
        "judged class",
        5,
        "photos of a class",
        "a smaller class is neither judged nor suspected: too few photos are left to know it by",
    ),
    Threshold(
        "judged",
        50_000,
        "photos",
        "of more, the labels of so many, chosen by their hashes, are judged, and a note says so: their "
        "features lie in memory, up to 8 KB each",
    ),
    Threshold(
        "most photos",
        0.5,
        "share",
        "what is found in more of them is what these photos are like, and no fault of single ones: it "
        "becomes one note",
    ),
)


def limit(name: str) -> float:
    """The value of the threshold `name`."""
    return THRESHOLDS[name].value
