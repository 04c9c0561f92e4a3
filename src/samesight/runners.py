"""What a bundle's copies can be run in, by name; imported only when it is asked for.

`RUNNERS` are engines that are given a model here, `ELSEWHERE` whatever answers with a bundle of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from samesight.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from samesight.bundle import Bundle
    from samesight.runner import ModelRunner, Runner, Settings
    from samesight.verify.verification import OwnStages

__all__ = ["ELSEWHERE", "PACKAGES", "RUNNERS", "installed", "open_model", "open_runners", "own_stages"]


def _onnxruntime(model: bytes, copy: str, settings: Settings) -> ModelRunner:
    from samesight.runtime import OnnxRunner

    return OnnxRunner(model, copy=copy, settings=settings)


def _openvino(model: bytes, copy: str, settings: Settings) -> ModelRunner:
    from samesight.openvino import OpenVinoRunner

    return OpenVinoRunner(model, copy=copy, settings=settings)


def _openvino_bf16(model: bytes, copy: str, settings: Settings) -> ModelRunner:
    from samesight.openvino import OpenVinoRunner

    return OpenVinoRunner(model, copy=copy, precision="bf16", settings=settings)


def _server(
    bundle: Bundle, copies: Sequence[str], *, url: str | None = None, token: str | None = None
) -> list[Runner]:
    from samesight.serve.client import open_server_runners

    return open_server_runners(bundle, copies, url, token)


def _secure(protocol: str) -> Callable[[Bundle, Sequence[str]], list[Runner]]:
    def open_secure(bundle: Bundle, copies: Sequence[str]) -> list[Runner]:
        from samesight.secure.environment import find_python
        from samesight.secure.local import SecureRunner
        from samesight.secure.protocols import PROTOCOLS

        if "fp32" not in copies:
            raise InputError("a secure run is of the fp32 copy", found=", ".join(copies), fix="--copy fp32")
        return [SecureRunner(bundle, PROTOCOLS[protocol], find_python())]

    return open_secure


def _web(bundle: Bundle, copies: Sequence[str]) -> list[Runner]:
    from samesight.web.runner import open_browser_runners

    return list(open_browser_runners(bundle, copies))


def _rust(engine: str) -> Callable[[Bundle, Sequence[str]], list[Runner]]:
    def open_rust(bundle: Bundle, copies: Sequence[str]) -> list[Runner]:
        from samesight.rust import open_rust_runners

        return list(open_rust_runners(bundle, copies, engine))

    return open_rust


RUNNERS: dict[str, Callable[[bytes, str, Settings], ModelRunner]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino-bf16": _openvino_bf16,
}
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "openvino-bf16": "openvino"}
IN_RUST = {"rust": "onnxruntime", "rust-tract": "tract"}  # the engine within samesight-rs
ELSEWHERE: dict[str, Callable[..., list[Runner]]] = {
    "server": _server,
    "web": _web,
    **{name: _rust(engine) for name, engine in IN_RUST.items()},
    "secure": _secure("aby3"),
    "secure-cheetah": _secure("cheetah"),
}


def installed(name: str) -> bool:
    """Whether the package of a runtime is there; it is not imported."""
    return find_spec(PACKAGES[name]) is not None


def open_model(name: str, model: bytes, copy: str, settings: Settings | None = None) -> Runner:
    """The runtime `name` with an ONNX model that is of no bundle; its input and output are not checked.

    Raises InputError for a name it lacks, MissingExtra where it is not installed, BundleInvalid where it
    cannot load the model.
    """
    from samesight.runner import USUAL

    _check_name(name, tuple(RUNNERS))
    return RUNNERS[name](model, copy, settings or USUAL)


def open_runners(
    bundle: Bundle,
    names: Sequence[str],
    copies: Sequence[str],
    settings: Settings | None = None,
    *,
    server: Mapping[str, str | None] = {},
) -> list[Runner]:
    """A runner for each of `copies` in each runtime of `names`, which takes and gives what bundle.json says.

    `server` has the `url` and the `token` of the runner of that name.

    Raises InputError for a name it lacks or a copy that there is not, MissingExtra where a runtime is not
    installed, BundleInvalid where a model is not as said.
    """
    from samesight.runner import USUAL, check_sides

    for name in names:
        _check_name(name, (*RUNNERS, *ELSEWHERE))
    runners: list[Runner] = []
    for name in names:
        if name in ELSEWHERE:
            runners += ELSEWHERE[name](bundle, copies, **(server if name == "server" else {}))
            continue
        for copy in copies:
            model = bundle.read(bundle.copy(copy).file)
            runner = RUNNERS[name](model, copy, settings or USUAL)
            check_sides(bundle, copy, runner.signature)
            runners.append(runner)
    return runners


def own_stages(
    bundle: Bundle, names: Sequence[str], copies: Sequence[str], samples: int | None
) -> tuple[OwnStages, ...]:
    """What those of `names` that decode, resize and normalise by code of their own say of every stage.

    Raises InputError where one cannot be asked.
    """
    found = []
    for name in dict.fromkeys(names):
        if name in IN_RUST:
            from samesight.rust import stages_in_rust

            found.append(stages_in_rust(bundle, copies, samples, IN_RUST[name]))
    return tuple(found)


def _check_name(name: str, known: Sequence[str]) -> None:
    if name == "pytorch":
        raise InputError(
            "PyTorch's answers are recorded in the bundle; every runner is compared with them",
            expected=", ".join(known),
            found=name,
        )
    if name not in known:
        raise InputError("there is no such runner", expected=", ".join(known), found=name)
    if name in PACKAGES and not installed(name):
        raise MissingExtra(f"the runner {name}", "openvino")
