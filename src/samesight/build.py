"""The whole chain: photos → run → bundle → proof → report, in one folder.

Each stage leaves files for the next, so each can be run again alone: the folder is a run, with the bundle,
verify.json and report.html in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samesight.bundle import Bundle, open_bundle
from samesight.export import CheckpointSource, ExportOptions, export_checkpoint, export_run
from samesight.files import write_json
from samesight.progress import say
from samesight.report import write_plots, write_report, write_tables
from samesight.training import TrainConfig, TrainResult, train
from samesight.verify.proof import held_out, prove
from samesight.verify.verification import Verification

__all__ = ["Built", "Converted", "build", "convert"]


@dataclass(frozen=True)
class Built:
    """What one chain made."""

    training: TrainResult
    bundle: Bundle
    verification: Verification
    report: Path

    def to_json(self) -> dict[str, Any]:
        """The object that `samesight build --json` prints."""
        return {
            "ok": self.verification.ok,
            **self.training.to_json(),
            "bundle": str(self.bundle.folder),
            "bundle_id": self.bundle.id,
            "report": str(self.report),
            "verification": self.verification.to_json(),
        }


@dataclass(frozen=True)
class Converted:
    """A network that came trained, as a bundle."""

    bundle: Bundle
    verification: Verification

    def to_json(self) -> dict[str, Any]:
        """What `samesight run --json` prints of it."""
        return {
            "ok": self.verification.ok,
            "bundle": str(self.bundle.folder),
            "bundle_id": self.bundle.id,
            "verification": self.verification.to_json(),
        }


def convert(source: CheckpointSource, out: Path, options: ExportOptions) -> Converted:
    """The checkpoint as a bundle in OUT, proved on its golden samples; OUT/verify.json.

    Raises what exporting raises.
    """
    bundle = open_bundle(export_checkpoint(source, out / "bundle", options))
    verification = prove(bundle)
    write_json(out / "verify.json", verification.to_json())
    return Converted(bundle, verification)


def build(config: TrainConfig, options: ExportOptions) -> Built:
    """Train as `config` says, export as `options` say into RUN/bundle, verify on the held-out part, report.

    Raises what its stages raise; what an earlier stage left stays, and `--resume` goes on from it.
    """
    training = train(config)
    run = training.run
    options = replace(options, replace=options.replace or config.resume)
    bundle = open_bundle(export_run(run, run / "bundle", options))
    say("Verifying every copy on the golden samples and the held-out photos")
    verification = prove(bundle, photos=held_out(run, bundle.labels))
    write_json(run / "verify.json", verification.to_json())
    write_tables(run)
    write_plots(run)
    report = write_report(run, bundle.folder, run / "report.html")
    return Built(training, bundle, verification, report)
