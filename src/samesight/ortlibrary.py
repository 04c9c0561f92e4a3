"""ONNX Runtime without its Python package: one model through the C API of its wheel's library, by ctypes.

Importing `onnxruntime` imports numpy, which takes longer than a photo does. The library beside it is the same
version, so its logits are the same bits. Whatever goes wrong here is a LibraryTrouble, and its caller's
answer to that is the usual way (`samesight.runtime`), which says what is wrong.

Places in OrtApi and signatures are those of onnxruntime_c_api.h, which only ever adds functions at the end.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from samesight.kept import GRAPH, WEIGHTS
from samesight.runner import Shape

__all__ = ["Library", "LibraryTrouble", "Model", "find_libraries"]

API_VERSION = 17  # which has all of the places below, and which every later library gives
FATAL, DISABLE_ALL, ENABLE_ALL, FLOAT, ARENA, DEFAULT_MEMORY = 4, 0, 99, 1, 1, 0
LEAST_BYTES = 1024  # smaller weights stay in a graph that is kept
_OUT = POINTER(c_void_p)
_PLACES: dict[str, tuple[int, tuple[Any, ...]]] = {
    "GetErrorMessage": (2, (c_void_p,)),
    "CreateEnv": (3, (c_int, c_char_p, _OUT)),
    "CreateSession": (7, (c_void_p, c_char_p, c_void_p, _OUT)),
    "CreateSessionFromArray": (8, (c_void_p, c_char_p, c_size_t, c_void_p, _OUT)),
    "Run": (9, (c_void_p, c_void_p, c_void_p, _OUT, c_size_t, c_void_p, c_size_t, _OUT)),
    "CreateSessionOptions": (10, (_OUT,)),
    "SetOptimizedModelFilePath": (11, (c_void_p, c_char_p)),
    "SetSessionLogSeverityLevel": (22, (c_void_p, c_int)),
    "SetSessionGraphOptimizationLevel": (23, (c_void_p, c_int)),
    "SetIntraOpNumThreads": (24, (c_void_p, c_int)),
    "SetInterOpNumThreads": (25, (c_void_p, c_int)),
    "SessionGetInputCount": (30, (c_void_p, POINTER(c_size_t))),
    "SessionGetOutputCount": (31, (c_void_p, POINTER(c_size_t))),
    "SessionGetInputTypeInfo": (33, (c_void_p, c_size_t, _OUT)),
    "SessionGetOutputTypeInfo": (34, (c_void_p, c_size_t, _OUT)),
    "SessionGetInputName": (36, (c_void_p, c_size_t, c_void_p, _OUT)),
    "SessionGetOutputName": (37, (c_void_p, c_size_t, c_void_p, _OUT)),
    "CreateTensorWithDataAsOrtValue": (
        49,
        (c_void_p, c_void_p, c_size_t, POINTER(c_int64), c_size_t, c_int, _OUT),
    ),
    "GetTensorMutableData": (51, (c_void_p, _OUT)),
    "CastTypeInfoToTensorInfo": (55, (c_void_p, _OUT)),
    "GetTensorElementType": (60, (c_void_p, POINTER(c_int))),
    "GetDimensionsCount": (61, (c_void_p, POINTER(c_size_t))),
    "GetDimensions": (62, (c_void_p, POINTER(c_int64), c_size_t)),
    "GetTensorTypeAndShape": (65, (c_void_p, _OUT)),
    "CreateCpuMemoryInfo": (69, (c_int, c_int, _OUT)),
    "AllocatorFree": (76, (c_void_p, c_void_p)),
    "GetAllocatorWithDefaultOptions": (78, (_OUT,)),
    "ReleaseEnv": (92, (c_void_p,)),
    "ReleaseStatus": (93, (c_void_p,)),
    "ReleaseMemoryInfo": (94, (c_void_p,)),
    "ReleaseSession": (95, (c_void_p,)),
    "ReleaseValue": (96, (c_void_p,)),
    "ReleaseTypeInfo": (98, (c_void_p,)),
    "ReleaseTensorTypeAndShapeInfo": (99, (c_void_p,)),
    "ReleaseSessionOptions": (100, (c_void_p,)),
    "AddSessionConfigEntry": (130, (c_void_p, c_char_p, c_char_p)),
}
_RESULTS = {"GetErrorMessage": c_char_p}  # releases give nothing, all others a status


class LibraryTrouble(Exception):
    """The library is not there, or not as expected, or it refused."""


class _ApiBase(ctypes.Structure):
    _fields_ = (
        ("get_api", ctypes.CFUNCTYPE(c_void_p, ctypes.c_uint32)),
        ("get_version", ctypes.CFUNCTYPE(c_char_p)),
    )


def find_libraries() -> list[Path]:
    """ONNX Runtime's library in its Python package, which is not imported; as a rule there is one."""
    package = find_spec("onnxruntime")
    if package is None or package.origin is None:
        return []
    folder = Path(package.origin).parent / "capi"
    patterns = ("lib*.so.*", "lib*.dylib", "onnxruntime.dll")
    return sorted(path for name in patterns for path in folder.glob(name) if "providers" not in path.name)


def _only_library() -> Path:
    paths = find_libraries()
    if len(paths) != 1 or sys.platform != "linux" or sys.byteorder != "little":
        raise LibraryTrouble("no library that is known here")
    return paths[0]


class Library:
    """The library, opened and started; to be closed after its models. Raises LibraryTrouble."""

    def __init__(self) -> None:
        self.path = _only_library()
        self.api = _Api(self.path)
        self._made = ExitStack()
        self.env = self.api.made(self._made, "Env", "CreateEnv", FATAL, b"samesight")

    def close(self) -> None:
        """Give it back."""
        self._made.close()


class Model:
    """A model, loaded as `samesight.runtime.OnnxRunner` loads it, for one thread; to be closed.

    `model` is the bytes of an ONNX file, or the path of a graph that a library made of one and wrote to the
    folder `keep`; `is_kept` says which. `input` and `output` have the name, dtype and shape of each, None for
    a dimension that is not fixed. Every method raises LibraryTrouble.
    """

    def __init__(
        self, library: Library, model: bytes | Path, *, threads: int, keep: Path | None = None
    ) -> None:
        self._api = library.api
        self.threads, self.is_kept = threads, isinstance(model, Path)
        given: tuple[bytes | int, ...]
        if isinstance(model, Path):
            level, load, given = DISABLE_ALL, "CreateSession", (os.fsencode(model),)
        else:
            level, load, given = ENABLE_ALL, "CreateSessionFromArray", (model, len(model))
        entries = {"intra_op.allow_spinning": "0"}
        with ExitStack() as made:
            options = self._api.made(made, "SessionOptions", "CreateSessionOptions")
            self._api.call("SetSessionLogSeverityLevel", options, FATAL)
            self._api.call("SetSessionGraphOptimizationLevel", options, level)
            self._api.call("SetIntraOpNumThreads", options, threads)
            self._api.call("SetInterOpNumThreads", options, 1)
            if keep is not None:
                self._api.call("SetOptimizedModelFilePath", options, os.fsencode(keep / GRAPH))
                entries["optimized_model_external_initializers_file_name"] = WEIGHTS
                entries["optimized_model_external_initializers_min_size_in_bytes"] = str(LEAST_BYTES)
            for name, word in entries.items():
                self._api.call("AddSessionConfigEntry", options, f"session.{name}".encode(), word.encode())
            self._session = self._api.made(made, "Session", load, library.env, *given, options)
            self.input, self.output = self._side("Input"), self._side("Output")
            self._stack = made.pop_all()

    def close(self) -> None:
        """Give everything back, the threads too."""
        self._stack.close()

    def run(self, tensor: bytearray, shape: Sequence[int]) -> tuple[array[float], tuple[int | None, ...]]:
        """The only output of the only input, float32 both: its values and shape."""
        with ExitStack() as made:
            memory = self._api.made(made, "MemoryInfo", "CreateCpuMemoryInfo", ARENA, DEFAULT_MEMORY)
            held = (ctypes.c_char * len(tensor)).from_buffer(tensor)
            sizes = (c_int64 * len(shape))(*shape)
            given = ("CreateTensorWithDataAsOrtValue", memory, held, len(tensor), sizes, len(shape), FLOAT)
            value = self._api.made(made, "Value", *given)
            taken, gives = ((c_char_p * 1)(side[0].encode()) for side in (self.input, self.output))
            asked = ("Run", self._session, None, taken, (c_void_p * 1)(value), 1, gives, 1)
            output = self._api.made(made, "Value", *asked)
            info = self._api.made(made, "TensorTypeAndShapeInfo", "GetTensorTypeAndShape", output)
            dtype, found = self._dtype_and_shape(info)
            if dtype != "float32" or None in found:
                raise LibraryTrouble(f"an output of {dtype}, {found}")
            count = math.prod(size or 0 for size in found)
            data = self._api.got("GetTensorMutableData", output)
            values: array[float] = array("f")
            values.frombytes(ctypes.string_at(data, count * values.itemsize))
            return values, found

    def _side(self, what: str) -> tuple[str, str, Shape]:
        """Name, dtype and shape of the only input or output."""
        count = c_size_t()
        self._api.call(f"SessionGet{what}Count", self._session, ctypes.byref(count))
        if count.value != 1:
            raise LibraryTrouble(f"{count.value} of {what}")
        with ExitStack() as made:
            allocator = self._api.got("GetAllocatorWithDefaultOptions")
            name = self._api.got(f"SessionGet{what}Name", self._session, 0, allocator)
            made.callback(self._api.call, "AllocatorFree", allocator, name)
            kind = self._api.made(made, "TypeInfo", f"SessionGet{what}TypeInfo", self._session, 0)
            info = self._api.got("CastTypeInfoToTensorInfo", kind)
            if not info.value:
                raise LibraryTrouble(f"{what} that is no tensor")
            words = ctypes.string_at(name.value or 0).decode("utf-8", "replace")
            return (words, *self._dtype_and_shape(info))

    def _dtype_and_shape(self, info: c_void_p) -> tuple[str, tuple[int | None, ...]]:
        kind, rank = c_int(), c_size_t()
        self._api.call("GetTensorElementType", info, ctypes.byref(kind))
        self._api.call("GetDimensionsCount", info, ctypes.byref(rank))
        sizes = (c_int64 * rank.value)()
        self._api.call("GetDimensions", info, sizes, rank)
        dtype = "float32" if kind.value == FLOAT else f"type {kind.value}"
        return dtype, tuple(size if size >= 0 else None for size in sizes)


class _Api:
    """The library's functions."""

    def __init__(self, library: Path) -> None:
        try:
            base = ctypes.CDLL(str(library)).OrtGetApiBase
        except (OSError, AttributeError) as error:
            raise LibraryTrouble(str(error)) from error
        base.restype = POINTER(_ApiBase)
        start = base().contents.get_api(API_VERSION)
        if not start:
            raise LibraryTrouble(f"{library.name} has no API {API_VERSION}")
        last = max(place for place, _ in _PLACES.values())
        self._table = (ctypes.c_size_t * (last + 1)).from_address(start)

    def made(self, stack: ExitStack, kind: str, name: str, *words: Any) -> c_void_p:
        """What a function makes; released when `stack` is closed."""
        thing = self.got(name, *words)
        stack.callback(self._function(f"Release{kind}"), thing)
        return thing

    def got(self, name: str, *words: Any) -> c_void_p:
        """What a function writes to its last parameter."""
        found = c_void_p()
        self.call(name, *words, ctypes.byref(found))
        return found

    def call(self, name: str, *words: Any) -> None:
        """Call a function that gives a status. Raises LibraryTrouble with the library's words."""
        status = self._function(name)(*words)
        if status:
            message = self._function("GetErrorMessage")(status)
            self._function("ReleaseStatus")(status)
            raise LibraryTrouble(message.decode("utf-8", "replace"))

    def _function(self, name: str) -> Any:
        place, words = _PLACES[name]
        result = None if name.startswith("Release") else _RESULTS.get(name, c_void_p)
        return ctypes.CFUNCTYPE(result, *words)(self._table[place])
