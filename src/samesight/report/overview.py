"""The head of the page: what it is about, the verdict in plain words, and the figures that matter most."""

from __future__ import annotations

from dataclasses import dataclass

from samesight.report.figures import Interval, mebibytes, number, percent, wilson
from samesight.report.markup import Markup, join, short, tag
from samesight.report.proof import copy_sizes, first_difference
from samesight.report.sources import Sources, pick

NAMED_CLASSES = 6  # so many are named in the verdict


@dataclass(frozen=True)
class HeldOut:
    """Accuracy on the held-out part; `right` and `photos` are None where only the share is recorded."""

    accuracy: float
    right: int | None
    photos: int | None
    interval: Interval | None
    origin: str


def held_out(sources: Sources) -> HeldOut | None:
    """Counted from the predictions, else as the run or the bundle records it, else None."""
    answers = sources.run.answers if sources.run is not None else ()
    if answers:
        right = sum(answer.label == answer.predicted for answer in answers)
        return HeldOut(right / len(answers), right, len(answers), wilson(right, len(answers)), "counted")
    about = sources.run.about if sources.run is not None else {}
    places: list[tuple[object, str]] = [(pick(about, "results"), "as the run records it")]
    if sources.bundle is not None:
        places.append((pick(sources.bundle.reference, "recorded"), "PyTorch's, as the bundle records it"))
        places += [(one.recorded, f"of copy {one.name}, as recorded") for one in sources.bundle.copies]
    for recorded, origin in places:
        accuracy, photos = number(pick(recorded, "test_accuracy")), number(pick(recorded, "test_photos"))
        if accuracy is None or not 0 <= accuracy <= 1:
            continue
        if not photos:
            return HeldOut(accuracy, None, None, None, origin)
        right = round(accuracy * photos)
        return HeldOut(accuracy, right, int(photos), wilson(right, int(photos)), origin)
    return None


def is_held_out(sources: Sources) -> bool:
    """Whether accuracy is on photos that are known not to have been learnt from.

    Of a checkpoint that was trained elsewhere nobody here can know.
    """
    return sources.run is not None or (
        sources.bundle is not None and sources.bundle.made.get("how") == "train"
    )


def head(sources: Sources) -> Markup:
    """Name, verdict and tiles."""
    bundle = sources.bundle
    kicker = "Samesight report"
    if bundle is not None:
        kicker += f" · version {bundle.version} · {bundle.created[:10]}"
    elif sources.run is not None:
        kicker += " · training run"
    return tag(
        "header",
        tag("p", kicker, class_="kicker"),
        tag("h1", short(sources.name, 120)),
        tag("p", verdict(sources), class_="verdict"),
        tag(
            "dl",
            _accuracy(sources),
            _copies(sources),
            _verification(sources),
            _identity(sources),
            class_="tiles",
        ),
    )


def verdict(sources: Sources) -> Markup:
    """What can be said of this network in two or three sentences."""
    parts: list[object] = [_purpose(sources)]
    found = held_out(sources)
    if sources.run is not None and sources.run.about.get("status") == "running":
        parts.append(tag("strong", "Its training has not ended. ", class_="open"))
    if found is None:
        parts.append("How often it is right on photos it has never seen is not recorded. ")
    else:
        seen = "photos it had never seen" if is_held_out(sources) else "the photos it was checked with"
        parts.append(f"On {seen} it was right ")
        parts.append(tag("strong", _share(found)))
        parts.append(". ")
    if sources.bundle is None:
        parts.append("It has not been exported yet." if not sources.verification.report else "")
    elif sources.verification.ok is True:
        parts.append(f"{_runner_words(sources)}: ")
        parts.append(tag("strong", "the same answer as PyTorch", class_="good"))
        parts.append(" at every stage.")
    elif sources.verification.ok is False:
        parts.append(tag("strong", "It does not give the same answer everywhere. ", class_="bad"))
        parts.append(first_difference(sources.verification.report))
    else:
        parts.append("Whether its copies give the same answer everywhere has not been verified.")
    return join(parts)


def _purpose(sources: Sources) -> str:
    labels = sources.labels
    model = sources.bundle.made.get("model") if sources.bundle is not None else None
    if sources.run is not None:
        model = model or pick(sources.run.about, "model")
    who = f"This {short(model, 60)} network" if isinstance(model, str) else "This network"
    if not labels:
        return f"{who} sorts photos. "
    if len(labels) > NAMED_CLASSES:
        return f"{who} tells {len(labels)} classes of photos apart. "
    names = [short(label) for label in labels]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{who} tells {len(labels)} classes of photos apart: {listed}. "


def _share(found: HeldOut) -> str:
    if found.photos is None:
        return f"{percent(found.accuracy)} of the time"
    return f"{found.right} times in {found.photos} ({percent(found.accuracy)})"


def _runner_words(sources: Sources) -> str:
    """Where it was verified: "Verified in onnxruntime (fp32, fp16)"."""
    runners = sources.verification.report.get("runners")
    places: dict[str, list[str]] = {}
    for one in runners if isinstance(runners, list) else ():
        places.setdefault(str(pick(one, "runner") or "an unnamed runner"), []).append(
            str(pick(one, "copy") or "?")
        )
    if not places:
        return "Verified"
    listed = [f"{name} ({', '.join(copies)})" for name, copies in places.items()]
    words = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
    return f"Verified in {short(words, 240)}"


def tile(name: str, big: object, *small: object, words: bool = False) -> Markup:
    """One figure of the head under its name, with small lines below it; `words` where it is no number."""
    lines = (tag("span", one, class_="small") for one in small if one is not None)
    shown = tag("span", big, class_="big words" if words else "big")
    return tag("div", tag("dt", name), tag("dd", shown, *lines), class_="tile")


def _accuracy(sources: Sources) -> Markup:
    found = held_out(sources)
    name = "Held-out accuracy" if is_held_out(sources) else "Accuracy"
    if found is None:
        return tile(name, "not recorded", words=True)
    if found.interval is None:
        return tile(
            "Held-out accuracy", percent(found.accuracy), found.origin, "number of photos not recorded"
        )
    low, high = percent(found.interval.low).removesuffix("\u00a0%"), percent(found.interval.high)
    origin = None if found.origin == "counted" else found.origin
    counts = f"{found.right} of {found.photos} photos"
    return tile(
        "Held-out accuracy", percent(found.accuracy), counts, f"95 % interval {low} to {high}", origin
    )


def _copies(sources: Sources) -> Markup:
    bundle = sources.bundle
    if bundle is None:
        return tile("Copies", "not exported", "Type: samesight export", words=True)
    sizes = copy_sizes(bundle)
    rows = [
        tag("tr", tag("th", copy.name, scope="row"), tag("td", mebibytes(sizes.get(copy.name))))
        for copy in bundle.copies
    ]
    return tag("div", tag("dt", "Copies"), tag("dd", tag("table", tag("tbody", *rows))), class_="tile")


def _verification(sources: Sources) -> Markup:
    found = sources.verification
    if sources.bundle is None and not found.report:
        return tile("Verification", "nothing to verify", "Export comes first", words=True)
    if found.ok is None:
        return tile("Verification", tag("span", "– not verified", class_="open"), found.remark, words=True)
    runners = found.report.get("runners")
    count = len(runners) if isinstance(runners, list) else 0
    stages = pick(found.report, "stages")
    samples = number(pick(stages[0], "samples")) if isinstance(stages, list) and stages else None
    small = f"{count} runner{'s' * (count != 1)}" + (f", {samples:.0f} golden samples" if samples else "")
    if found.ok:
        return tile("Verification", tag("span", "✓ verified", class_="good"), small, words=True)
    return tile("Verification", tag("span", "✗ not the same", class_="bad"), small, words=True)


def _identity(sources: Sources) -> Markup:
    if sources.bundle is not None:
        code = sources.bundle.id
        return tile(
            "Bundle id",
            tag("span", code[:12], class_="mono", title=code),
            "SHA-256 of bundle.json, whole under “How it was made”",
            words=True,
        )
    about = sources.run.about if sources.run is not None else {}
    found = pick(about, "settings.seed")
    return tile(
        "Run",
        tag("span", short(sources.name, 24), class_="mono"),
        f"seed {found}" if found is not None else None,
        words=True,
    )
