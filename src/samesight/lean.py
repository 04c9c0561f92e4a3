"""One photo in one process, without waiting for numpy and onnxruntime to be imported.

The parts are those of the usual way (`samesight.runtime`) or give the same bits: the bundle is opened by the
same code, Pillow decodes what simplejpeg does and resizes as ever, the same tables normalise, and the library
in onnxruntime's wheel runs the network. Only whole answers come from here: where anything is amiss or unusual
there is none, and the usual way gives the answer or says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from samesight.answer import Answer, below, highest, likeliest
from samesight.bundle import Bundle, open_bundle
from samesight.bundle.onnxparts import check_whole
from samesight.errors import SamesightError
from samesight.images.photofile import read_photo
from samesight.kept import GRAPH, find, keep, place_of
from samesight.meanwhile import Meanwhile
from samesight.ortlibrary import Library, LibraryTrouble, Model
from samesight.runner import check_sides, threads_for

if TYPE_CHECKING:
    from PIL.Image import Image

    from samesight.images.parameters import Preprocess

__all__ = ["classify", "normalised"]

Given: TypeAlias = tuple[bytearray, tuple[int, ...]]  # a tensor and its shape
Closable = TypeVar("Closable", Library, Model)


def classify(
    folder: Path,
    photo: Path,
    *,
    top: int,
    copy: str = "fp32",
    threads: int | None = None,
    trust: Path | None = None,
    cache: bool = False,
) -> Answer | None:
    """What `photo` shows by that copy of the bundle in `folder`; None where the usual way has to decide.

    With `cache` an optimised graph answers that was kept (`samesight.kept`), and where none was, this one is.
    """
    try:
        with _meanwhile(Library) as library:
            bundle = open_bundle(folder, trust=trust, hold=copy)
            loading = partial(_loaded, library, bundle, copy, threads_for(threads), cache=cache)
            with _meanwhile(loading) as model:
                tensor = _prepared(photo, bundle.preprocess)
                width, height = bundle.preprocess.size
                given = tensor, (1, 3, height, width)
                logits, shape = model.result().run(*given)
                if cache and not model.result().is_kept:
                    _keep(library.result(), bundle, copy, model.result(), given)
    except (SamesightError, LibraryTrouble):
        return None
    if shape != (1, len(bundle.labels)) or not all(map(math.isfinite, logits)):
        return None
    return Answer(likeliest(below(logits), highest(logits, top), bundle.labels), bundle.id)


def normalised(image: Image, spec: Preprocess) -> bytearray:
    """The bytes of the float32 tensor that `preprocess.normalise` makes of an RGB picture."""
    size = image.width * image.height
    tensor = bytearray(4 * 3 * size)
    for channel, values in enumerate(spec.table):
        pixels, table = image.getchannel(channel).tobytes(), values.tobytes()
        for byte in range(4):
            place = 4 * size * channel + byte
            tensor[place : 4 * size * (channel + 1) : 4] = pixels.translate(table[byte::4])
    return tensor


@contextmanager
def _meanwhile(call: Callable[[], Closable]) -> Iterator[Meanwhile[Closable]]:
    """What `call` opens in a thread of its own, closed at the end."""
    opening = Meanwhile(call)
    try:
        yield opening
    finally:
        with suppress(SamesightError, LibraryTrouble):
            opening.result().close()


def _loaded(library: Meanwhile[Library], bundle: Bundle, copy: str, threads: int, *, cache: bool) -> Model:
    """The network of a copy, with `cache` from its kept graph. Raises SamesightError, LibraryTrouble."""
    found = find(_place(library.result(), bundle, copy)) if cache else None
    if found is not None:
        with suppress(SamesightError, LibraryTrouble):
            return _checked(Model(library.result(), found, threads=threads), bundle, copy)
    data = bundle.read(bundle.copy(copy).file)
    check_whole(data, copy)
    return _checked(Model(library.result(), data, threads=threads), bundle, copy)


def _checked(model: Model, bundle: Bundle, copy: str) -> Model:
    """`model`, whose sides are those in bundle.json. Raises BundleInvalid."""
    check_sides(bundle, copy, {"input": model.input, "output": model.output})
    return model


def _keep(library: Library, bundle: Bundle, copy: str, model: Model, given: Given) -> None:
    """Keep the optimised graph of a copy, if it gives the bits that `model` gives. Or do without."""
    data = bundle.read(bundle.copy(copy).file)

    def write(folder: Path) -> None:
        Model(library, data, threads=model.threads, keep=folder).close()
        kept = Model(library, folder / GRAPH, threads=model.threads)
        try:
            if kept.run(*given) != model.run(*given):
                raise LibraryTrouble("other logits")
        finally:
            kept.close()

    with suppress(OSError, LibraryTrouble):
        keep(_place(library, bundle, copy), write)


def _place(library: Library, bundle: Bundle, copy: str) -> Path:
    """Where the graph of a copy is kept. Raises LibraryTrouble where the system does not tell enough."""
    model = bundle.copy(copy).file
    (sha256,) = (file.sha256 for file in bundle.files if file.path == model)
    try:
        return place_of(sha256, library.path)
    except (OSError, RuntimeError) as error:  # no /proc, no home
        raise LibraryTrouble(str(error)) from error


def _prepared(photo: Path, spec: Preprocess) -> bytearray:
    """The tensor of a photo's file. Raises PhotoError."""
    data = read_photo(photo)
    from samesight.images.picture import picture, resize_picture  # Pillow, while the network is loaded

    return normalised(resize_picture(picture(data), spec), spec)
