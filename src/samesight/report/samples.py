"""The section that shows the golden samples as pictures, with what each copy says of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from samesight.bundle import Bundle
from samesight.report.figures import percent
from samesight.report.markup import Markup, notice, section, short, tag
from samesight.report.sources import Sample, Sources
from samesight.runner import softmax

PICTURES = 60
PICTURE_PIXELS = 200  # the longer side of a picture in the page
TINY_PIXELS = 96  # a smaller picture is enlarged without smoothing


def golden_section(sources: Sources) -> Markup | None:
    """The golden samples as pictures with what each copy says of them; None without a bundle."""
    bundle = sources.bundle
    if bundle is None:
        return None
    samples = sources.samples
    without = bundle.golden.get("labels_without_sample") or ()
    remarks = []
    if sources.pictures and not bundle.golden.get("publishable"):
        remarks.append(
            notice(
                "open", "These photos are not marked as publishable: keep this page where they may be seen."
            )
        )
    if without:
        names = ", ".join(short(label) for label in without[:20]) + (" …" if len(without) > 20 else "")
        remarks.append(notice("plain", f"{len(without)} classes have no golden sample: {names}."))
    if not samples:
        return section("golden", "Golden samples", tag("p", "The bundle carries none."), *remarks)
    shown = choose_shown(samples, PICTURES)
    more = f"{len(shown)} of the {len(samples)} are shown. " if len(shown) < len(samples) else ""
    seen = "The pictures are as the network sees them. " if sources.pictures else ""
    lead = (
        f"{len(samples)} real photos travel with the bundle, with what each stage must make of them, so that "
        f"any runtime can prove itself. {more}{seen}The margin is PyTorch’s distance in logits between its "
        "first answer and its second."
    )
    cards = [_card(one, bundle, sources) for one in shown]
    return section("golden", "Golden samples", *remarks, tag("p", lead), tag("ul", *cards, class_="photos"))


def choose_shown(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """At most `limit` samples in their order, spread over the classes: first one of each, then the second."""
    seen: dict[str, int] = {}
    ranked = []
    for at, one in enumerate(samples):
        key = one.label if one.label is not None else one.predicted
        ranked.append((seen.get(key, 0), at))
        seen[key] = seen.get(key, 0) + 1
    return [samples[at] for at in sorted(at for _, at in sorted(ranked)[:limit])]


def _card(one: Sample, bundle: Bundle, sources: Sources) -> Markup:
    what = one.label if one.label is not None else f"a photo taken for {one.predicted}"
    margin = f" · margin {one.margin:.3g}" if one.margin is not None else ""
    if one.label is None:
        state = tag("p", f"taken for {short(one.predicted)}; true class unknown{margin}")
    elif one.label == one.predicted:
        state = tag("p", tag("span", "✓ recognised", class_="good"), margin)
    else:
        state = tag("p", tag("span", f"✗ taken for {short(one.predicted)}", class_="bad"), margin)
    image = None
    if sources.pictures:
        address, tiny = picture(bundle.read(one.resized))
        words = f"Golden sample {one.id}: {short(what, 80)}"
        image = tag("img", src=address, alt=words, loading="lazy", class_=tiny)
    return tag(
        "li",
        image,
        tag("h3", short(what, 60)),
        state,
        _logits(one, sources.labels),
    )


def _logits(one: Sample, labels: Sequence[str]) -> Markup | None:
    """The three classes that come first in PyTorch, with the logits that each copy gives them."""
    if not one.logits:
        return None
    first = one.logits.get("pytorch", next(iter(one.logits.values())))
    order = np.argsort(-first, kind="stable")[:3].tolist()
    likely = softmax(first)
    names = list(one.logits)
    rows = [
        tag(
            "tr",
            tag(
                "th",
                short(labels[at] if at < len(labels) else at, 24),
                scope="row",
                title=percent(likely[at]),
            ),
            *(tag("td", f"{float(one.logits[name][at]):.3f}", class_="number") for name in names),
        )
        for at in order
    ]
    heads = [
        tag("th", "logit", scope="col"),
        *(tag("th", name, scope="col", class_="number") for name in names),
    ]
    inside = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    return tag("div", inside, class_="logits")


def picture(png: bytes) -> tuple[Markup, str | None]:
    """A PNG as `as_address` gives it."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
        return as_address(opened.convert("RGB"))


def as_address(image: Image.Image) -> tuple[Markup, str | None]:
    """An RGB picture as a small data: address, and the style of a tiny one, which is a PNG, not smoothed."""
    side, buffer = max(image.size), io.BytesIO()
    if side <= TINY_PIXELS:
        image.save(buffer, "PNG", optimize=True)
        return Markup("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()), "tiny"
    image.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS), Image.Resampling.LANCZOS)
    image.save(buffer, "JPEG", quality=82, optimize=True)
    return Markup("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()), None
