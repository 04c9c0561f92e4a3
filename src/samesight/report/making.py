"""The section on how the network was made, so that it can be made again, and what to type next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from samesight.report.figures import number, percent
from samesight.report.markup import Markup, details, section, short, tag, text
from samesight.report.proof import shell_word
from samesight.report.sources import Sources, pick
from samesight.report.training import duration

HIDDEN = ("labels", "preprocess", "files", "split", "history", "golden", "copies")
LEAVES = 200


def making_section(sources: Sources) -> Markup:
    """Model, weights, preprocessing in words, versions, machine, seed, licence and command lines."""
    about = sources.run.about if sources.run is not None else {}
    made = sources.bundle.made if sources.bundle is not None else {}
    facts: list[tuple[str, object]] = [
        ("Model", pick(made, "model") or pick(about, "model")),
        ("How", _how(pick(made, "how"))),
        ("Photos", pick(about, "photos") or pick(made, "photos")),
        ("Weights it began with", _plain(pick(about, "weights") or pick(made, "weights"))),
        ("Licence of the weights", _licence(sources)),
        ("Preprocessing", preprocess_words(_preprocess(sources))),
        *(_run_facts(about) if sources.run is not None else ()),
        ("Versions", _plain(pick(about, "versions") or pick(made, "versions"))),
        ("Machine", _plain(pick(about, "machine") or pick(made, "machine"))),
        ("Made by", pick(made, "by") or pick(about, "versions.samesight")),
    ]
    verified = sources.verification.report
    if verified:
        words = "; ".join(filter(None, (_plain(verified.get("versions")), _plain(verified.get("machine")))))
        facts.append(("Verified with", words or None))
    if sources.bundle is not None:
        facts.append(("Bundle id", tag("span", sources.bundle.id, class_="mono")))
    rows = []
    for name, value in facts:
        if value is None or value == "":
            continue
        rows += [tag("dt", name), tag("dd", value if isinstance(value, Markup) else text(value, 600))]
    missing = [name for name, value in facts if value is None or value == ""]
    return section(
        "making",
        "How it was made",
        tag("dl", *rows, class_="facts"),
        tag("p", f"Not recorded: {', '.join(name.lower() for name in missing)}.", class_="note")
        if missing
        else None,
        *_commands(sources, about, made),
        _everything("All that run.json says", about),
        _everything("All that bundle.json says of its making", made),
    )


def _run_facts(about: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What only a run folder can say."""
    given, settings = pick(about, "given"), pick(about, "settings")
    chosen = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
    values = (
        f"{_name(name)} {value}" for name in chosen if (value := _plain(pick(settings, name))) is not None
    )
    return [
        ("Seed", pick(about, "settings.seed")),
        (
            "Settings that were chosen",
            "; ".join(values) or ("none, all were derived" if given == [] else None),
        ),
        ("Changes to training photos", _plain(pick(about, "derived.augmentation"))),
        ("Training accuracy", _share(about, "train")),
        ("Inner validation accuracy", _share(about, "val")),
        ("Training took", _time(about)),
    ]


def _how(value: object) -> object:
    return {"train": "trained by Samesight", "checkpoint": "from a checkpoint trained elsewhere"}.get(
        str(value), value
    )


def _share(about: Mapping[str, Any], part: str) -> str | None:
    found, photos = (
        number(pick(about, f"results.{part}_accuracy")),
        number(pick(about, f"results.{part}_photos")),
    )
    if found is None:
        return None
    return f"{percent(found)} of {photos:.0f} photos" if photos else percent(found)


def _time(about: Mapping[str, Any]) -> str | None:
    wall, cpu = number(pick(about, "results.wall_seconds")), number(pick(about, "results.cpu_seconds"))
    parts = [f"{duration(wall)} of time"] if wall is not None else []
    parts += [f"{duration(cpu)} of processor time"] if cpu is not None else []
    return ", ".join(parts) or None


def _licence(sources: Sources) -> str | None:
    if sources.bundle is not None:
        return str(sources.bundle.license.get("weights", "unknown"))
    return _plain(pick(sources.run.about, "weights_license")) if sources.run is not None else None


def _preprocess(sources: Sources) -> object:
    if sources.bundle is not None:
        return sources.bundle.preprocess.to_json()
    about = sources.run.about if sources.run is not None else {}
    return pick(about, "preprocess")


def preprocess_words(spec: object) -> str | None:
    """A preprocessing, in the form that bundle.json has, in a sentence; None where it is not one."""
    resize = pick(spec, "resize")
    if not isinstance(spec, Mapping) or not isinstance(resize, Mapping):
        return None
    if resize.get("kind") == "shortest_edge":
        words = f"shorter side to {resize.get('size')} pixels"
    else:
        words = f"squashed to {resize.get('width')} × {resize.get('height')} pixels"
    words += f" ({spec.get('interpolation', 'unknown')}, antialiased)"
    crop = spec.get("crop")
    if isinstance(crop, Mapping):
        words += f", centre {crop.get('width')} × {crop.get('height')} cut out"
    mean, deviation = _plain(spec.get("mean")), _plain(spec.get("std"))
    return f"Upright RGB, {words}, then normalised by mean {mean} and deviation {deviation}"


def _plain(value: object) -> str | None:
    """A value of JSON as words: no braces, no quotes."""
    if value is None or value == "":
        return None
    if isinstance(value, Mapping):
        parts = (f"{_name(key)} {_plain(one)}" for key, one in value.items() if _plain(one) is not None)
        return ", ".join(parts) or None
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(one) or "none" for one in value[:50])
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _name(key: object) -> str:
    return str(key).replace("_", " ")


def _commands(sources: Sources, about: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[Markup]:
    typed = pick(about, "command", "command_line") or pick(made, "command", "command_line")
    if isinstance(typed, Sequence) and not isinstance(typed, str):
        typed = " ".join(shell_word(str(word)) for word in typed)
    if typed:
        yield tag("h3", "It was made by typing")
        yield tag("pre", text(typed, 4000), tabindex="0")
    if sources.bundle is not None:
        name = shell_word(sources.bundle.folder.name)
        lines = [f"samesight predict {name} photo.jpg", f"samesight verify {name}", f"samesight show {name}"]
    else:
        assert sources.run is not None
        name = shell_word(sources.run.folder.resolve().name)
        lines = [f"samesight export {name} --out BUNDLE"]
    yield tag("h3", "What to type next")
    yield tag("pre", "\n".join(lines), tabindex="0")


def _everything(summary: str, tree: Mapping[str, Any]) -> Markup | None:
    leaves = list(_leaves(tree, ""))
    if not leaves:
        return None
    rows: list[object] = []
    for path, value in leaves[:LEAVES]:
        rows += [tag("dt", short(path, 80), class_="mono"), tag("dd", text(value, 300))]
    more = tag("p", f"{len(leaves) - LEAVES} more are not shown.") if len(leaves) > LEAVES else None
    return details(summary, tag("dl", *rows, class_="facts"), more)


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if not prefix and key in HIDDEN:
            continue
        if isinstance(value, Mapping) and len(prefix) < 200:
            yield from _leaves(value, f"{prefix}{key}.")
        elif (words := _plain(value)) is not None:
            yield f"{prefix}{key}", words
