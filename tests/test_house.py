"""The layout of the project, and which part may import which."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import samesight
from samesight.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "samesight"
HEAVY = {"torch", "torchvision", "timm", "jax", "sklearn", "matplotlib"}
# What answers with a bundle, and what reads photos: none of it may need more than the core's own packages.
CORE = {
    *("errors", "files", "progress", "terminal", "preprocess", "images", "bundle", "data"),
    *(
        "answer",
        "answers",
        "lean",
        "ortlibrary",
        "runner",
        "runners",
        "runtime",
        "openvino",
        "evaluate",
        "verify",
        "report",
        "zoo",
    ),
    *("bench", "machine", "profiles", "rust", "web", "cluster"),
}
LAYERS = "samesight.verify.layers"  # names the layer at which two ONNX files differ, so runs both
# What imports the core alone, and what its own extra brings.
EXTRAS = {
    "serve": {"starlette", "uvicorn", "httptools", "python_multipart", "prometheus_client"},
    "cluster": {"ray", "pyarrow"},
}
DRAW = {
    "samesight.bench.plots",
    "samesight.report.plots",
    "samesight.zoo.plots",
    "samesight.zoo.figure",
}  # with matplotlib, when asked

ENGINE = {
    f"samesight.secure.{name}" for name in ("jaxnet", "stages", "compiled", "program")
}  # run in the engine's own environment


def modules() -> dict[str, Path]:
    return {
        ".".join(("samesight", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in SOURCE.rglob("*.py")
    }


def imports(path: Path, *, nested: bool) -> set[str]:
    """Dotted names that a file imports: at its top level, or with `nested` anywhere (TYPE_CHECKING aside)."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not nested:
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                found.add(child.module or "")
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def is_core(module: str) -> bool:
    return module.split(".")[1:2] and module.split(".")[1] in CORE


@pytest.mark.row("R1")
@pytest.mark.parametrize("module", sorted(m for m in modules() if is_core(m)))
def test_the_core_imports_nothing_heavy(module: str) -> None:
    tops = {name.split(".")[0] for name in imports(modules()[module], nested=True)}
    assert not tops & (HEAVY - ({"matplotlib"} if module in DRAW else set()))


@pytest.mark.row("R2")
@pytest.mark.parametrize(
    "module", sorted(m for m in modules() if m.split(".")[1:2] and m.split(".")[1] in EXTRAS)
)
def test_serving_and_many_machines_import_the_core_and_their_own_packages(module: str) -> None:
    layer = module.split(".")[1]
    for name in imports(modules()[module], nested=True):
        top, _, rest = name.partition(".")
        if top == "samesight":
            assert not rest or rest.split(".")[0] in CORE | {layer, "__version__"}
        else:
            assert top in sys.stdlib_module_names | EXTRAS[layer] | {"numpy"}


@pytest.mark.parametrize("module", sorted(modules()))
def test_directions(module: str) -> None:
    names = imports(modules()[module], nested=True)
    if module not in ("samesight.__main__",):
        assert not any(name.startswith("samesight.cli") for name in names), "nothing imports the command line"
    if not module.startswith(("samesight.commands", "samesight.cli")):
        assert not any(name.startswith("samesight.commands") for name in names), "nothing imports a command"
    if module.startswith(("samesight.verify", "samesight.bench")) and module != LAYERS:
        runtimes = {name for name in names if name.startswith("samesight.runtime")}
        assert not runtimes, "verify takes runners and knows nothing else about them"
        assert "onnxruntime" not in names
    if module.startswith("samesight.training"):
        assert not any(name.startswith("samesight.export") for name in names)
    if module.startswith("samesight.secure"):
        heavy = {"jax", "spu"} if module in ENGINE else set()
        tops = {name.split(".")[0] for name in names}
        assert not tops & ({*HEAVY, "spu"} - heavy), "the engine's packages stay in the engine's environment"
    if module.startswith("samesight.data"):
        assert not any(name.startswith(("samesight.models", "samesight.training")) for name in names)


@pytest.mark.parametrize("module", sorted(m for m in modules() if m.startswith("samesight.commands.")))
def test_commands_import_nothing_heavy_before_they_run(module: str) -> None:
    tops = {name.split(".")[0] for name in imports(modules()[module], nested=False)}
    assert not tops & (HEAVY | {"numpy", "PIL", "onnx", "onnxruntime", "rich"})


def loaded_by(*words: str) -> set[str]:
    """The top-level modules that are loaded after a command line has run in a process of its own."""
    code = (
        "import sys, json; from samesight.cli import main; code = main(sys.argv[1:]);"
        "print('\\n' + json.dumps([code, sorted({m.split('.')[0] for m in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    code, names = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return set(names)


@pytest.mark.parametrize("words", [["--help"], ["--version"], *[[name, "--help"] for name in COMMANDS]])
def test_help_is_instant(words: list[str]) -> None:
    assert not loaded_by(*words) & {"numpy", "torch", "PIL", "onnx", "onnxruntime", "rich", "torchvision"}


def test_every_command_has_a_module_and_a_description() -> None:
    for module, line in COMMANDS.values():
        assert (SOURCE / "commands" / f"{module}.py").is_file()
        assert line
        assert line[0].islower()


def test_onnx_runtime_reports_to_nobody(tmp_path: Path) -> None:
    """Where it does, it keeps an identifier of the session in the folder for temporary files."""
    code = "import samesight.runtime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    bare = {name: word for name, word in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = {**bare, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    assert not list(tmp_path.iterdir())


def test_an_unknown_command_names_the_nearest() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "samesight", "exprot"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "samesight export --help" in done.stderr


def test_what_was_printed_arrives_before_a_process_ends(tmp_path: Path) -> None:
    for words, code in ((["--help"], 0), (["exprot"], 2), (["predict", str(tmp_path), "no.jpg"], 2)):
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            command = [sys.executable, "-m", "samesight", *words]
            assert subprocess.run(command, stdout=out, stderr=err, check=False).returncode == code
        assert ("usage" in (tmp_path / "out").read_text()) == (code == 0)
        assert ("error" in (tmp_path / "err").read_text()) == (code == 2)


def test_exported_members() -> None:
    assert sorted(samesight.__all__) == samesight.__all__
    for name in samesight.__all__:
        assert getattr(samesight, name) is not None
    with pytest.raises(AttributeError):
        _ = samesight.nothing  # type: ignore[attr-defined]


def test_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == samesight.__version__
    assert re.search(rf"^## {re.escape(version)}$", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_errors_are_drawn_at_the_top_of_their_file() -> None:
    from samesight import errors

    drawn = set(re.findall(r"^[│├└─ ]*(\w+)", errors.__doc__ or "", re.M))
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined <= drawn


def test_requirements_are_pinned_without_an_address() -> None:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.match(r"^[a-z0-9._-]+==[^ ]+( ; .+)?$", line), line


def test_readme_draws_the_whole_house() -> None:
    tree = (ROOT / "README.md").read_text().partition("## The house")[2]
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    tops = {line.split("/")[0] for line in tracked.splitlines()} - {".gitignore", ".ci"}
    assert not {top for top in tops if top not in tree}
