"""bundle.json read strictly: the fields of a BundleInfo, or the error that says which part is wrong.

`spec/bundle.md` says the same in words, and `spec/bundle.schema.json` as a schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samesight.bundle.format import (
    COPY_NAME,
    CREATED,
    DTYPES,
    FORMAT,
    FORMAT_VERSION,
    INPUT_NAME,
    KEY,
    MAX_COPIES,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_LABEL,
    MAX_LABELS,
    MAX_PATH,
    NAME,
    OUTPUT_NAME,
    PRECISIONS,
    REFERENCE_NAME,
    ROLES,
    SHA256,
    VERSION,
    BundleFile,
    Copy,
    check_path,
    role_of,
)
from samesight.bundle.strictjson import choice, each, number, shown, table, text, whole
from samesight.errors import BundleInvalid, BundleLabels, BundleNewer, BundlePath, InputError
from samesight.images.parameters import Preprocess

__all__ = ["read_document", "read_fields"]

_KEYS = (
    "format",
    "format_version",
    "name",
    "version",
    "created",
    "labels",
    "preprocess",
    "input",
    "output",
    "copies",
    "reference",
    "golden",
    "made",
    "license",
    "files",
)
_FRACTIONS = ("test_accuracy", "train_accuracy", "label_agreement")
_COUNTS = ("test_photos", "train_photos")
_DIFFERENCES = ("max_abs_difference", "mean_abs_difference")


def read_document(value: object) -> tuple[dict[str, Any], tuple[BundleFile, ...]]:
    """The fields of a BundleInfo, and the files, that the parsed bundle.json `value` describes.

    Raises BundleNewer, BundleInvalid, BundlePath or BundleLabels.
    """
    fields, files = read_fields(value)
    _check_together(fields, files)
    return fields, files


def read_fields(value: object) -> tuple[dict[str, Any], tuple[BundleFile, ...]]:
    """The same by the rules of each field alone: what `spec/bundle.schema.json` says."""
    _check_format(value)
    top = table(value, "bundle.json", _KEYS)
    fields: dict[str, Any] = {
        "name": text(top["name"], "name", 100, pattern=NAME),
        "version": text(top["version"], "version", 100, pattern=VERSION),
        "created": text(top["created"], "created", 20, pattern=CREATED),
        "labels": each(top["labels"], "labels", lambda v, w: text(v, w, MAX_LABEL), low=1, high=MAX_LABELS),
        "preprocess": _preprocess(top["preprocess"]),
        "input_shape": _input_shape(top["input"]),
        "output_shape": _output_shape(top["output"]),
        "copies": each(top["copies"], "copies", _copy, low=1, high=MAX_COPIES),
        "reference": _reference(top["reference"]),
        "golden": _golden(top["golden"]),
        "made": _made(top["made"]),
        "license": _license(top["license"]),
    }
    _distinct("label", "labels", fields["labels"])
    return fields, each(top["files"], "files", _file, low=1, high=MAX_FILES)


def _check_format(value: object) -> None:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BundleInvalid("bundle.json is not of this format", where="format", expected=f'"{FORMAT}"')
    version = whole(value.get("format_version"), "format_version", 1)
    if version > FORMAT_VERSION:
        raise BundleNewer(
            "the bundle was written by a newer Samesight",
            where="format_version",
            expected=f"at most {FORMAT_VERSION}",
            found=version,
            fix="pip install --upgrade samesight",
        )


def _preprocess(value: object) -> Preprocess:
    try:
        return Preprocess.from_json(value)
    except InputError as error:
        raise BundleInvalid(
            error.what, where=f"preprocess: {error.where or ''}", expected=error.expected, found=error.found
        ) from error


def _input_shape(value: object) -> tuple[int | str, ...]:
    side = table(value, "input", ("name", "dtype", "layout", "shape"))
    choice(side["name"], "input.name", [INPUT_NAME])
    choice(side["dtype"], "input.dtype", ["float32"])
    choice(side["layout"], "input.layout", ["NCHW"])
    shape = each(side["shape"], "input.shape", _dimension, low=4, high=4)
    if shape[1] != 3:
        raise BundleInvalid("photos have three channels", where="input.shape[1]", expected=3, found=shape[1])
    return shape


def _output_shape(value: object) -> tuple[int | str, ...]:
    side = table(value, "output", ("name", "dtype", "shape"))
    choice(side["name"], "output.name", [OUTPUT_NAME])
    choice(side["dtype"], "output.dtype", ["float32"])
    return each(side["shape"], "output.shape", _dimension, low=2, high=2)


def _dimension(value: object, where: str) -> int | str:
    """A size; the first may be "batch" instead: any number of photos at once."""
    if where.endswith("[0]") and value == "batch":
        return "batch"
    return whole(value, where, 1, MAX_LABELS)


def _copy(value: object, where: str) -> Copy:
    keys = ("name", "file", "precision", "opset", "input_dtype", "output_dtype", "recorded")
    copy = table(value, where, keys)
    if copy["name"] == REFERENCE_NAME:
        raise BundleInvalid("a copy has the name of the reference", where=where, found=shown(copy["name"]))
    return Copy(
        name=text(copy["name"], f"{where}.name", 32, pattern=COPY_NAME),
        file=text(copy["file"], f"{where}.file", MAX_PATH),
        precision=choice(copy["precision"], f"{where}.precision", PRECISIONS),
        opset=whole(copy["opset"], f"{where}.opset", 1, 1000),
        input_dtype=choice(copy["input_dtype"], f"{where}.input_dtype", DTYPES),
        output_dtype=choice(copy["output_dtype"], f"{where}.output_dtype", DTYPES),
        recorded=_recorded(copy["recorded"], f"{where}.recorded"),
    )


def _recorded(value: object, where: str) -> dict[str, float | int | None]:
    """Figures by name. Those that the format knows are held to their range; others are finite, or null."""
    figures = _open_table(value, where)
    for key, figure in figures.items():
        place = f"{where}.{key}"
        if figure is None:
            continue
        if key in _COUNTS:
            figures[key] = whole(figure, place, 0)
        elif key in _FRACTIONS:
            number(figure, place, 0, 1)
        else:
            number(figure, place, *((0,) if key in _DIFFERENCES else ()))
    return figures


def _reference(value: object) -> dict[str, Any]:
    reference = table(value, "reference", ("framework", "recorded"))
    text(reference["framework"], "reference.framework", 100)
    _recorded(reference["recorded"], "reference.recorded")
    return reference


def _golden(value: object) -> dict[str, Any]:
    golden = table(value, "golden", ("publishable", "samples", "origin", "labels_without_sample"))
    choice(golden["publishable"], "golden.publishable", [True, False])
    golden["samples"] = whole(golden["samples"], "golden.samples", 0, MAX_FILES)
    text(golden["origin"], "golden.origin", 4096, empty=True)
    where = "golden.labels_without_sample"
    each(golden["labels_without_sample"], where, lambda v, w: text(v, w, MAX_LABEL), high=MAX_LABELS)
    return golden


def _made(value: object) -> dict[str, Any]:
    """How the bundle was made: `by`, `model` and `how`, and beside them free values, lists and objects."""
    made = _open_table(value, "made")
    for key in ("by", "model", "how"):
        text(made.get(key), f"made.{key}", 4096)
    for key, one in made.items():
        where = f"made.{key}"
        if isinstance(one, list):
            each(one, where, _free, high=MAX_LABELS)
        elif isinstance(one, dict):
            for inner, leaf in _open_table(one, where).items():
                _free(leaf, f"{where}.{inner}")
        else:
            _free(one, where)
    return made


def _license(value: object) -> dict[str, str]:
    terms = _open_table(value, "license")
    text(terms.get("weights"), "license.weights", 4096)
    for key, one in terms.items():
        text(one, f"license.{key}", 4096)
    return terms


def _open_table(value: object, where: str) -> dict[str, Any]:
    """`value` as an object of at most 200 keys, each a plain lower-case name."""
    if not isinstance(value, dict) or len(value) > 200:
        raise BundleInvalid("an object of at most 200 keys is needed", where=where, found=shown(value))
    for key in value:
        text(key, f"a key of {where}", 100, pattern=KEY)
    return value


def _free(value: object, where: str) -> None:
    if isinstance(value, str):
        text(value, where, 4096, empty=True)
    elif value is not None and not isinstance(value, bool):
        number(value, where)


def _file(value: object, where: str) -> BundleFile:
    file = table(value, where, ("path", "role", "size_bytes", "sha256"))
    if not isinstance(file["path"], str):
        raise BundleInvalid("a string is needed here", where=f"{where}.path", found=shown(file["path"]))
    path = check_path(file["path"], f"{where}.path")
    return BundleFile(
        path=path,
        role=choice(file["role"], f"{where}.role", ROLES),
        size_bytes=whole(file["size_bytes"], f"{where}.size_bytes", 0, MAX_FILE_BYTES),
        sha256=text(file["sha256"], f"{where}.sha256", 64, pattern=SHA256),
    )


def _check_together(fields: Mapping[str, Any], files: tuple[BundleFile, ...]) -> None:
    """The rules that bind several fields, which a schema cannot say."""
    labels, shape, output = fields["labels"], fields["input_shape"], fields["output_shape"]
    if output[1] != len(labels):
        raise BundleLabels(
            "the number of labels is not the number of outputs",
            where="labels",
            expected=f"{output[1]} (output.shape[1])",
            found=len(labels),
        )
    width, height = fields["preprocess"].size
    _same("input.shape", (3, height, width), shape[1:])
    _same("output.shape[0]", shape[0], output[0])
    _check_files(files)
    models = sorted(file.path for file in files if file.role == "model")
    _distinct("copy", "copies", [copy.name for copy in fields["copies"]])
    _same("the models in files", sorted(copy.file for copy in fields["copies"]), models)
    for label in fields["golden"]["labels_without_sample"]:
        if label not in labels:
            raise BundleInvalid("not a label", where="golden.labels_without_sample", found=shown(label))


def _check_files(files: tuple[BundleFile, ...]) -> None:
    """Every role is that of its path, and no two paths are one where letters have no case."""
    folders: dict[str, str] = {}
    for file in files:
        _same(f"the role of {file.path}", role_of(file.path), file.role)
        parts = file.path.split("/")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            _alone(folders.setdefault(folder.lower(), folder), folder)
    paths: dict[str, str] = {}
    for file in files:
        key = file.path.lower()
        if key in paths or key in folders:
            _alone(paths.get(key) or folders[key] + "/", file.path, same=False)
        paths[key] = file.path


def _alone(before: str, path: str, *, same: bool = True) -> None:
    if not same or before != path:
        raise BundlePath("two listed paths are one on some systems", where="files", found=f"{before}, {path}")


def _distinct(what: str, where: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BundleInvalid(f"a {what} stands twice", where=where, found=shown(name))
        seen.add(name)


def _same(where: str, expected: object, found: object) -> None:
    if expected != found:
        raise BundleInvalid("two parts of bundle.json disagree", where=where, expected=expected, found=found)
