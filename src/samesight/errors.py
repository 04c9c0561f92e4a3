"""Every error that Samesight raises on purpose.

SamesightError                what a user can mend; exit code 2
├── InputError                an option, a path or a file that does not fit
│   ├── PhotoError            one photo that cannot be read
│   ├── PhotosError           a folder, archive or table of photos that cannot be used
│   │   └── ArchiveError      an archive that is broken, or unsafe to unpack
│   └── CheckpointError       weights that cannot be read, or do not fit the network
├── BundleError               a bundle that must not be used
│   ├── BundleMissing         no bundle there
│   ├── BundleNewer           written in a later format than this version reads
│   ├── BundleInvalid         bundle.json says something that the format does not allow
│   ├── BundlePath            a listed path leaves the bundle's folder
│   ├── BundleFiles           a file is missing, or one is there that is not listed
│   ├── BundleChanged         a file's size or SHA-256 is not the recorded one
│   ├── BundleLabels          the number of labels is not the number of outputs
│   ├── BundleUnproved        its golden samples have another answer here; exit code 1
│   └── SignatureError        not signed, or not signed by the trusted key
├── PartyError                another party of a secure computation is missing, stopped or unfit
├── ExportError               the network could not be written as asked
│   └── CopyError             a copy was written, and does not give PyTorch's answer; exit code 1
└── MissingExtra              a part of Samesight that is not installed
"""

from __future__ import annotations


class SamesightError(Exception):
    """What went wrong, where, what was expected and found, and what to type next."""

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.found, self.fix = what, where, expected, found, fix
        super().__init__(what)

    def __str__(self) -> str:
        """The message as it is shown: a line for each part that is known."""
        parts = [("where", self.where), ("expected", self.expected), ("found", self.found), ("try", self.fix)]
        lines = [f"  {name + ':':<9} {value}" for name, value in parts if value is not None]
        return "\n".join([self.what, *lines])


class InputError(SamesightError):
    """An option, a path or a file that does not fit."""


class PhotoError(InputError):
    """One photo that cannot be read; `kind` is the refusal's name in spec/preprocess.md."""

    kind = "unreadable"


class PhotosError(InputError):
    """A folder, archive or table of photos that cannot be used."""


class ArchiveError(PhotosError):
    """An archive that is broken, or unsafe to unpack."""


class CheckpointError(InputError):
    """Weights that cannot be read, or do not fit the network."""


class BundleError(SamesightError):
    """A bundle that must not be used."""


class BundleMissing(BundleError):
    """No bundle there."""


class BundleNewer(BundleError):
    """Written in a later format than this version reads."""


class BundleInvalid(BundleError):
    """bundle.json says something that the format does not allow."""


class BundlePath(BundleError):
    """A listed path leaves the bundle's folder."""


class BundleFiles(BundleError):
    """A file is missing, or one is there that is not listed."""


class BundleChanged(BundleError):
    """A file's size or SHA-256 is not the recorded one."""


class BundleLabels(BundleError):
    """The number of labels is not the number of outputs."""


class BundleUnproved(BundleError):
    """Its golden samples have another answer here than the recorded one, or it has none."""

    exit_code = 1


class SignatureError(BundleError):
    """Not signed, or not signed by the trusted key."""


class ExportError(SamesightError):
    """The network could not be written as asked."""


class CopyError(ExportError):
    """A copy was written, and does not give PyTorch's answer."""

    exit_code = 1


class PartyError(SamesightError):
    """Another party of a secure computation is missing, stopped, or said something that does not fit."""


class MissingExtra(SamesightError):
    """A part of Samesight that is not installed."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs packages that are not installed", fix=f'pip install "samesight[{extra}]"'
        )


def one_line(error: SamesightError) -> str:
    """The error in one line, without the photo that it is about."""
    facts = (("expected", error.expected), ("found", error.found))
    parts = [error.what, *(f"{name} {fact}" for name, fact in facts if fact is not None)]
    return "; ".join(" ".join(part.split()) for part in parts)
