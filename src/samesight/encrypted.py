"""A recipe's networks under encryption: files for other engines, and secure runs held to the plain answers.

The runs need the secure engine. Where it is not installed they are left out, and that is said.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samesight.build import Built
from samesight.bundle import open_bundle
from samesight.errors import InputError, SamesightError
from samesight.export.samplelog import sample_photos
from samesight.files import json_text, write_file
from samesight.models import read_checkpoint
from samesight.progress import say
from samesight.recipes import Network, Recipe
from samesight.secure.environment import find_python
from samesight.secure.export import ExportRequest, export_secure
from samesight.secure.local import local_session
from samesight.secure.protocols import LEAKS, protocol
from samesight.secure.result import Run, run_photos
from samesight.training import open_run
from samesight.verify.tolerances import TOLERANCES

__all__ = ["Encrypted", "encrypt"]

FORMAT = "samesight-secure-sample-inference"


@dataclass
class Encrypted:
    """What was made, what was not and why, and which answers differed."""

    artefacts: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Log:
    """One network's run by one protocol."""

    network: str
    run: Run
    allowed: float
    """How far logits may lie from the plain ones."""

    @property
    def ok(self) -> bool:
        """Whether labels are equal and logits near."""
        near = all(row.difference is not None and row.difference <= self.allowed for row in self.run.rows)
        return self.run.ok and near


def encrypt(
    recipe: Recipe,
    networks: Sequence[Network],
    built: Mapping[str, Built],
    out: Path,
    *,
    few: bool = False,
) -> Encrypted:
    """What the recipe's [secure] asks for, of the networks that were built; with `few`, of one photo."""
    asked, names = recipe.secure, recipe.artefacts
    chosen = [network for network in networks if not asked.networks or network.file in asked.networks]
    done = Encrypted()
    if not chosen or not (asked.formats or asked.protocols):
        return done
    first = open_run(built[chosen[0].file].training.run)
    samples, paths = sample_photos(
        first, names.samples_per_class if not asked.photos else 1, recipe.split.seed
    )
    if wanted := 1 if few else asked.photos:
        samples, paths = samples[:wanted], paths[:wanted]
    if names.secure_images:
        paths = list(_copies(paths, [one.label for one in samples], out / names.secure_images))
        done.artefacts += paths
    for network in chosen:
        for form in asked.formats:
            target = out / (names.secure_files or "secure-{file}-{format}").format(
                file=network.file, format=form
            )
            try:
                done.artefacts.append(_export(built[network.file], form, paths, target))
            except SamesightError as error:
                say(f"error: {error}")
                done.failed[f"{network.file} for {form}"] = str(error)
    if asked.protocols:
        _run(recipe, chosen, built, paths, out, done)
    return done


def _copies(paths: Sequence[Path], labels: Sequence[str], folder: Path) -> Iterator[Path]:
    """The photos under names that tell their labels."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, (path, label) in enumerate(zip(paths, labels, strict=True), 1):
        copy = folder / f"{number}-{re.sub(r'[^A-Za-z0-9_-]', '_', label)}{path.suffix}"
        shutil.copyfile(path, copy)
        yield copy


def _export(built: Built, form: str, photos: Sequence[Path], target: Path) -> Path:
    """The files of one engine for one network; the record of what they are."""
    state = None
    if form == "scale-mamba":
        tensors = read_checkpoint(open_run(built.training.run).checkpoint)
        state = {name: tensor.numpy() for name, tensor in tensors.items()}
    bundle = open_bundle(built.bundle.folder)
    export_secure(bundle, ExportRequest(form, target, tuple(photos), state=state, replace=True))
    say(f"{target}: files for {form}, proved to hold the same network")
    return target / "secure_export.json"


def _run(
    recipe: Recipe,
    networks: Sequence[Network],
    built: Mapping[str, Built],
    photos: Sequence[Path],
    out: Path,
    done: Encrypted,
) -> None:
    """Every network by every protocol, and the log; what could not be goes into `done`."""
    try:
        python = find_python()
    except InputError as error:
        words = ", ".join(network.file for network in networks)
        done.left_out.append(f"secure runs of {words}: {error.what} ({error.fix})")
        return
    logs = []
    for network in networks:
        bundle = open_bundle(built[network.file].bundle.folder)
        for name in recipe.secure.protocols:
            chosen = protocol(name)
            say(f"{network.file} under {name}: {len(photos)} photos, by {len(chosen.roles)} processes here")
            try:
                with local_session(bundle, chosen, python, logits=True) as session:
                    run = run_photos(session, photos, 1, chosen, plain=bundle)
            except SamesightError as error:
                say(f"error: {error}")
                done.failed[f"{network.file} under {name}"] = str(error)
                continue
            tolerance = TOLERANCES["secure fp32" if name == "aby3" else f"secure-{name} fp32"]
            largest = max(abs(number) for row in run.rows for number in row.logits or ())
            logs.append(Log(network.file, run, tolerance.absolute(largest)))
            if not logs[-1].ok:
                done.missed.append(f"{network.file} under {name}: not what it gives without encryption")
    if logs and recipe.artefacts.secure_log:
        path = out / recipe.artefacts.secure_log
        write_file(path, "\n".join(_lines(recipe, logs)) + "\n")
        write_file(path.with_suffix(".json"), json_text(_json(logs)))
        done.artefacts += [path, path.with_suffix(".json")]


def _lines(recipe: Recipe, logs: Sequence[Log]) -> Iterator[str]:
    yield "Secure sample inference"
    yield ""
    if recipe.artefacts.sample_log:
        yield f"photos   those of {recipe.artefacts.sample_log}, or the first of them"
    yield "parties  processes on one machine; logits are revealed to be compared here, else only the label is"
    yield f"leaks    {LEAKS}"
    for log in logs:
        run = log.run
        yield ""
        yield f"{log.network} / {run.protocol.name}"
        yield f"  promise     {run.protocol.promise}"
        yield f"  trust       {run.protocol.trust}"
        sent = ", ".join(f"{role} {one['sent_bytes']} bytes" for role, one in run.parties.items())
        yield f"  an image    {', '.join(f'{one:.2f}' for one in run.seconds)} s; sent {sent}"
        yield f"  to start    {run.setup_seconds:.1f} s; the network once, {run.weight_bytes} bytes"
        for row in run.rows:
            verdict = "as without encryption" if row.label == row.plain_label else f"NOT {row.plain_label}"
            yield f"  {Path(row.path).name}"
            yield f"    predicted   {row.label}   {verdict}"
            yield f"    logits      {' '.join(f'{number:.9g}' for number in row.logits or ())}"
            yield f"    difference  {row.difference:.3g} ({log.allowed:.3g} allowed)"


def _json(logs: Sequence[Log]) -> dict[str, Any]:
    runs = [
        {"network": log.network, "allowed": log.allowed, **log.run.to_json(), "ok": log.ok} for log in logs
    ]
    return {"format": FORMAT, "format_version": 1, "ok": all(log.ok for log in logs), "runs": runs}
