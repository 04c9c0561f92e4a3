"""samesight-rs beside Python: the same answers, the same proof, the same refusals, in the same words."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cargo
import numpy as np
import pytest
import rust_tolerances
import tiny_bundle

from samesight.bundle import Bundle, open_bundle
from samesight.bundle.signing import new_key, sign_bundle
from samesight.cli import main
from samesight.errors import BundleError, BundleInvalid, InputError
from samesight.files import sha256_bytes
from samesight.rust import RustRunner, find_program, onnxruntime_library, prove_in_rust
from samesight.verify.golden import read_golden

pytestmark = pytest.mark.row("R4")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    return tiny_bundle.write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def bundle(photos: list[tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    return tiny_bundle.make_bundle(folder, photos, tiny_bundle.make_weights(photos))


def run(program: Path, *words: object, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the program, which must end with that exit code."""
    environment = os.environ | onnxruntime_library() | env
    command = [str(program), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.row("V1", "V3")
def test_the_crate_passes_its_own_tests(samesight_rs: Path) -> None:
    done = cargo.cargo("test", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("test result: ok") >= 4


def test_the_crate_is_formatted(samesight_rs: Path) -> None:
    done = cargo.cargo("fmt", "--check")
    if "no such command" in done.stderr or "not installed" in done.stderr:
        pytest.skip("there is no rustfmt")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_clippy_finds_nothing(samesight_rs: Path) -> None:
    done = cargo.cargo("clippy", "--quiet", "--all-targets", "--", "-D", "warnings")
    if "no such command" in done.stderr or "not installed" in done.stderr:
        pytest.skip("there is no clippy")
    assert done.returncode == 0, done.stderr


def test_the_tolerances_are_those_of_the_one_table() -> None:
    assert rust_tolerances.FILE.read_text() == rust_tolerances.source()


def test_versions_agree() -> None:
    from samesight import __version__

    manifest = (cargo.CRATE / "Cargo.toml").read_text()
    assert f'\nversion = "{__version__}"\n' in manifest
    said = re.search(r'const VERSION: &str = "(.+)"', (cargo.CRATE / "src" / "tract.rs").read_text())
    assert said is not None
    assert f'\ntract-onnx = {{ version = "={said[1]}"' in manifest


# answers


def test_answers_are_those_of_python(
    samesight_rs: Path, bundle: Bundle, photos: list[tuple[Path, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    read = [str(path) for path, _ in photos if path.suffix != ".bmp"]
    done = run(samesight_rs, "predict", bundle.folder, *read, "--json", "--top", 3)
    assert main(["predict", str(bundle.folder), *read, "--json", "--top", "3"]) == 0
    found = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == len(wanted) == len(read)
    for one, other in zip(found, wanted, strict=True):
        assert list(one) == list(other)
        assert [list(row) for row in one["top"]] == [list(row) for row in other["top"]]
        assert one.pop("confidence") == pytest.approx(other.pop("confidence"), abs=1e-12)
        for row, another in zip(one["top"], other["top"], strict=True):
            assert row.pop("probability") == pytest.approx(another.pop("probability"), abs=1e-12)
        assert one == other


def test_a_photo_that_cannot_be_read_does_not_stop_the_others(
    samesight_rs: Path,
    bundle: Bundle,
    photos: list[tuple[Path, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = photos[0][0]
    names = ['späße, "a".jpg', "cut.jpg", "text.png", "empty.webp"]
    for name, data in zip(names, (good.read_bytes(), good.read_bytes()[:300], b"words", b""), strict=True):
        (tmp_path / name).write_bytes(data)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(good.read_bytes())
    for form in ("--json", "--csv"):
        done = run(samesight_rs, "predict", bundle.folder, tmp_path, form, code=2)
        assert main(["predict", str(bundle.folder), str(tmp_path), form]) == 2
        wanted = capsys.readouterr().out
        assert done.stdout.isascii()
        assert len(done.stdout.splitlines()) == len(wanted.splitlines())
        if form == "--json":
            found, other = (list(map(json.loads, text.splitlines())) for text in (done.stdout, wanted))
            assert [one["path"] for one in found] == [one["path"] for one in other]
            assert [one.get("label") for one in found] == [one.get("label") for one in other]
            kinds = [one["error"].partition(";")[0] for one in found if "error" in one]
            assert kinds == [one["error"].partition(";")[0] for one in other if "error" in one]
            assert len(kinds) == 3
        else:
            assert done.stdout.splitlines()[0] == wanted.splitlines()[0]
            assert [line[:60] for line in done.stdout.splitlines()] == [
                line[:60] for line in wanted.splitlines()
            ]


def test_many_photos_are_answered_in_order_over_all_cores(
    samesight_rs: Path, bundle: Bundle, photos: list[tuple[Path, str]], tmp_path: Path
) -> None:
    for number in range(60):
        source = photos[number % len(photos)][0]
        (tmp_path / f"{number:03}{source.suffix}").write_bytes(source.read_bytes())
    done = run(samesight_rs, "predict", bundle.folder, tmp_path, "--json", "--threads", 3, code=2)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(one["path"]).name[:3] for one in found] == [f"{number:03}" for number in range(60)]
    for number, one in enumerate(found):
        path, label = photos[number % len(photos)]
        assert ("error" in one) == (path.suffix == ".bmp")
        assert "error" in one or one["label"] == label


# the proof


@pytest.mark.row("V1")
def test_verify_takes_rust_for_a_runner(
    samesight_rs: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAMESIGHT_RUST", str(samesight_rs))
    words = ["verify", str(bundle.folder), "--runner", "onnxruntime", "--runner", "rust", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["runner"], one["copy"]) for one in found["runners"]] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "fp16"),
        ("rust", "fp32"),
        ("rust", "fp16"),
    ]
    python, rust = found["runners"][:2], found["runners"][2:]
    for one, other in zip(python, rust, strict=True):
        assert {**one, "runner": "rust"} == other, "the same library gives the same bits"
    (own,) = found["own_stages"]
    assert own["runner"] == "rust"
    assert close(own["stages"][:4], found["stages"][:4]), "by Rust, from the photo's bytes on"
    assert [row["samples"] for row in own["stages"]] == [6] * 6


@pytest.mark.row("V1")
def test_verify_names_the_stage_that_differs_in_rust_alone(
    samesight_rs: Path,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A program that says of its decoder what the real one says of a bundle whose record was changed."""
    other = tiny_bundle.tampered(
        bundle, tmp_path / "other", tiny_bundle.reworded({"decoded_sha256": "0" * 64})
    )
    program = tmp_path / "samesight-rs"
    program.write_text(
        f'#!/bin/sh\n[ $1 = verify ] && shift 2 && exec {samesight_rs} verify {other.folder} "$@"\n'
        f'exec {samesight_rs} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("SAMESIGHT_RUST", str(program))
    assert main(["verify", str(bundle.folder), "--runner", "rust"]) == 1
    said = capsys.readouterr().out
    assert "differs from the decode stage on: sample 0001 (rust)" in said
    assert "  in rust    samples  different  largest difference" in said
    assert "  rust, decode, 1 of 6 samples, first 0001:" in said


@pytest.mark.row("V1")
def test_the_program_proves_the_bundle_as_python_does(
    samesight_rs: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(run(samesight_rs, "verify", bundle.folder, "--json").stdout)
    assert main(["verify", str(bundle.folder), "--json"]) == 0
    wanted = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert list(found) == list(wanted)
    own = ("seconds", "versions", "machine")
    for one in wanted["runners"]:
        one["runner"] = "rust"
    assert close({key: found[key] for key in found if key not in own}, wanted)
    table = run(samesight_rs, "verify", bundle.folder, "--copy", "fp32", "--samples", 2).stdout
    assert "the same answer everywhere: 1 copy, 2 golden samples" in table


def close(found: Any, wanted: Any) -> bool:
    """Whether two values of JSON are the same, numbers but for their last digits; `wanted` may say more."""
    if isinstance(found, dict):
        return all(close(found[key], wanted[key]) for key in found)
    if isinstance(found, list):
        return len(found) == len(wanted) and all(map(close, found, wanted))
    if isinstance(found, float) and isinstance(wanted, float):
        return found == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert found == wanted
    return True


def test_a_kept_graph_gives_the_same_bits(samesight_rs: Path, bundle: Bundle, tmp_path: Path) -> None:
    cache = {"SAMESIGHT_CACHE": str(tmp_path / "cache")}
    photo = str(bundle.folder / "golden" / "0001" / "resized.png")
    words = ("predict", bundle.folder, photo, "--json")
    plain = run(samesight_rs, *words, **cache).stdout
    assert not (tmp_path / "cache").exists(), "nothing is kept unasked"
    assert run(samesight_rs, *words, "--cache", **cache).stdout == plain
    (graph,) = (tmp_path / "cache" / "graphs").iterdir()
    assert run(samesight_rs, *words, "--cache", **cache).stdout == plain
    run(samesight_rs, "verify", bundle.folder, "--cache", **cache)
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    assert run(samesight_rs, *words, "--cache", **cache).stdout == plain, "a spoilt graph is made anew"


def test_a_graph_that_others_could_have_written_is_not_used(
    samesight_rs: Path, bundle: Bundle, photos: list[tuple[Path, str]], tmp_path: Path
) -> None:
    weights = tiny_bundle.make_weights(photos)
    weights["b3"] = weights["b3"] + np.float32(0.01)
    other = tiny_bundle.tampered(
        bundle,
        tmp_path / "other",
        lambda folder: (folder / "model.fp32.onnx").write_bytes(tiny_bundle.onnx_model(weights)) and None,
    )
    cache = {"SAMESIGHT_CACHE": str(tmp_path / "cache")}
    photo = bundle.folder / "golden" / "0001" / "resized.png"
    answers = {}
    for one in (bundle, other):
        answers[one.id] = run(samesight_rs, "predict", one.folder, photo, "--cache", "--json", **cache).stdout
    folder = tmp_path / "cache" / "graphs"
    assert folder.stat().st_mode & 0o077 == 0, "made for the user alone"
    (own, swapped) = folder.iterdir()
    own_bytes, swapped_bytes = own.read_bytes(), swapped.read_bytes()
    for path, mode in ((own, 0o666), (folder, 0o777)):
        own.write_bytes(swapped_bytes)
        swapped.write_bytes(own_bytes)
        before = path.stat().st_mode
        for file in (own, swapped) if path == own else (folder,):
            file.chmod(mode)
        for one in (bundle, other):
            found = run(samesight_rs, "predict", one.folder, photo, "--cache", "--json", **cache).stdout
            assert found == answers[one.id], oct(mode)
        path.chmod(before)


def test_a_changed_bundle_is_refused_though_its_graph_is_kept(
    samesight_rs: Path, bundle: Bundle, tmp_path: Path
) -> None:
    """The kept graph is made ready while the bundle is hashed; it answers only if all is as listed."""
    cache = {"SAMESIGHT_CACHE": str(tmp_path / "cache")}
    folder = tmp_path / "changed"
    shutil.copytree(bundle.folder, folder)
    words = ("predict", folder, folder / "golden" / "0001" / "resized.png", "--cache")
    run(samesight_rs, *words, **cache)
    path = folder / "model.fp32.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = run(samesight_rs, *words, code=2, **cache)
    assert "a file of the bundle has changed" in done.stderr
    assert not done.stdout


def test_an_engine_is_one_that_there_is(samesight_rs: Path, bundle: Bundle) -> None:
    done = run(samesight_rs, "verify", bundle.folder, "--engine", "torch", code=2)
    assert "there is no such engine" in done.stderr
    done = run(samesight_rs, "verify", bundle.folder, "--engine", "tract", "--copy", "fp32", code=2)
    assert "this program was built without tract" in done.stderr
    assert "cargo build --release --features tract" in done.stderr


@pytest.mark.row("V1")
@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("record", tiny_bundle.reworded({"margin": 1.0})),
        ("decode", tiny_bundle.reworded({"decoded_sha256": "0" * 64})),
        ("resize", tiny_bundle.reworded({"resized_sha256": "0" * 64})),
        ("normalise", tiny_bundle.reworded({"tensor_sha256": "0" * 64})),
        ("labels", tiny_bundle.reworded({"predicted": "grass"})),
    ],
)
def test_the_stage_that_differs_is_named(
    samesight_rs: Path, bundle: Bundle, tmp_path: Path, stage: str, change: Callable[[Path], None]
) -> None:
    other = tiny_bundle.tampered(bundle, tmp_path / "other", change)
    found = json.loads(run(samesight_rs, "verify", other.folder, "--json", code=1).stdout)
    assert found["first_difference"]["stage"] == stage
    assert found["first_difference"]["sample"] == "0001"
    assert f"differs from the {stage} stage on" in run(samesight_rs, "verify", other.folder, code=1).stdout


@pytest.mark.row("V1")
def test_a_network_that_differs_is_named(
    samesight_rs: Path, bundle: Bundle, photos: list[tuple[Path, str]], tmp_path: Path
) -> None:
    weights = tiny_bundle.make_weights(photos)
    weights["b3"] = weights["b3"] + np.float32(0.01)
    other = tiny_bundle.tampered(
        bundle,
        tmp_path / "other",
        lambda folder: (folder / "model.fp32.onnx").write_bytes(tiny_bundle.onnx_model(weights)) and None,
    )
    found = json.loads(run(samesight_rs, "verify", other.folder, "--json", code=1).stdout)
    first = found["first_difference"]
    assert (first["stage"], first["runner"], first["copy"]) == ("network", "rust", "fp32")
    assert first["max_abs_difference"] == pytest.approx(0.01, rel=1e-3)
    assert [one["ok"] for one in found["runners"]] == [False, True]


def test_a_recipe_can_end_in_rust(
    samesight_rs: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAMESIGHT_RUST", str(samesight_rs))
    assert json.loads(prove_in_rust(bundle.folder))["ok"]
    other = tiny_bundle.tampered(bundle, tmp_path / "other", tiny_bundle.reworded({"predicted": "grass"}))
    assert not json.loads(prove_in_rust(other.folder))["ok"]
    with pytest.raises(InputError, match="cannot check"):
        prove_in_rust(tmp_path)


# refusals


def _flip(folder: Path) -> None:
    path = folder / "model.fp16.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _say(**fields: Any) -> Callable[[Path], None]:
    """A change of bundle.json, sealed by hand as an attacker would."""

    def change(folder: Path) -> None:
        document = json.loads((folder / "bundle.json").read_text())
        data = json.dumps(
            {key: value for key, value in (document | fields).items() if value is not ...}
        ).encode()
        (folder / "bundle.json").write_bytes(data)
        (folder / "bundle.sha256").write_text(f"{sha256_bytes(data)}  bundle.json\n")

    return change


BREAKS: dict[str, Callable[[Path], object]] = {
    "flipped": _flip,
    "longer": lambda folder: (folder / "model.fp32.onnx").write_bytes(b"x"),
    "missing": lambda folder: (
        (folder / "labels_mapping.json").unlink(missing_ok=True)
        or (folder / "golden" / "golden.json").unlink()
    ),
    "extra": lambda folder: (folder / "notes.txt").write_text("x"),
    "empty folder": lambda folder: (folder / "empty").mkdir(),
    "link": lambda folder: (folder / "link").symlink_to("bundle.json"),
    "not sealed": lambda folder: (folder / "bundle.sha256").unlink(),
    "not a bundle": lambda folder: (folder / "bundle.json").unlink(),
    "unsealed": lambda folder: (folder / "bundle.json").write_text("{}"),
    "newer": _say(format_version=2),
    "no format": _say(format="zip"),
    "unknown key": _say(colour="red"),
    "no key": _say(license=...),
    "labels": _say(labels=["one", "two"]),
    "a label twice": _say(labels=["one", "one", "two"]),
    "version": _say(version="1"),
    "path": _say(files=[{"path": "../x", "role": "document", "size_bytes": 1, "sha256": "0" * 64}]),
}


@pytest.mark.row("V3")
@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_bundle_is_refused_in_the_words_of_python(
    samesight_rs: Path, bundle: Bundle, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(bundle.folder, folder)
    BREAKS[name](folder)
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    done = run(samesight_rs, "verify", folder, code=2)
    assert done.stderr.splitlines()[0] == f"error: {caught.value.what}"
    assert not done.stdout


@pytest.mark.row("V3")
def test_a_trusted_key_must_have_signed(samesight_rs: Path, bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "signed"
    shutil.copytree(bundle.folder, folder)
    key, public = new_key(tmp_path / "key")
    _, other = new_key(tmp_path / "other")
    words = ("verify", folder, "--samples", 1, "--trust")
    assert "the bundle is not signed" in run(samesight_rs, *words, public, code=2).stderr
    sign_bundle(folder, key)
    run(samesight_rs, *words, public)
    assert "signed by another key" in run(samesight_rs, *words, other, code=2).stderr
    signature = json.loads((folder / "bundle.sig").read_text())
    signature["signature"] = signature["signature"][:10] + "AAAA" + signature["signature"][14:]
    (folder / "bundle.sig").write_text(json.dumps(signature))
    assert "does not fit" in run(samesight_rs, *words, public, code=2).stderr
    assert "not the kind of key" in run(samesight_rs, *words, key, code=2).stderr


def test_a_model_with_tensors_elsewhere_is_refused(
    samesight_rs: Path, bundle: Bundle, tmp_path: Path
) -> None:
    import onnx

    def change(folder: Path) -> None:
        model = onnx.load(str(folder / "model.fp32.onnx"))
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="golden/golden.json")
        (folder / "model.fp32.onnx").write_bytes(model.SerializeToString())

    other = tiny_bundle.tampered(bundle, tmp_path / "other", change)
    assert "keeps tensors in another file" in run(samesight_rs, "verify", other.folder, code=2).stderr


def test_without_onnxruntime_it_says_how_to_get_one(
    samesight_rs: Path, bundle: Bundle, tmp_path: Path
) -> None:
    nowhere = {"ORT_DYLIB_PATH": str(tmp_path / "none.so"), "HOME": str(tmp_path)}
    done = run(samesight_rs, "verify", bundle.folder, code=2, **nowhere)
    assert "there is no such library" in done.stderr
    assert "pip install onnxruntime" in done.stderr
    (tmp_path / "none.so").write_bytes(b"no library")
    done = run(samesight_rs, "verify", bundle.folder, code=2, **nowhere)
    assert "cannot be loaded" in done.stderr


def test_the_library_of_the_active_python_is_found(samesight_rs: Path, bundle: Bundle) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DYLIB_PATH"}
    environment |= {"VIRTUAL_ENV": sys.prefix}
    command = [str(samesight_rs), "verify", str(bundle.folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout)["versions"]["onnxruntime"] is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["predikt"], "there is no such command"),
        (["predict"], "the bundle's folder is missing"),
        (["predict", "BUNDLE"], "the photos are missing"),
        (["verify", "BUNDLE", "--nonsense"], "there is no option --nonsense"),
        (["verify", "BUNDLE", "--copy"], "--copy needs a value"),
        (["verify", "BUNDLE", "--samples", "0"], "--samples is not a whole number"),
        (["verify", "BUNDLE", "--copy", "int4"], "the bundle has no such copy"),
        (["verify", "/nowhere"], "there is no bundle here"),
    ],
)
def test_mistakes_are_told(samesight_rs: Path, bundle: Bundle, words: list[str], told: str) -> None:
    words = [str(bundle.folder) if word == "BUNDLE" else word for word in words]
    done = run(samesight_rs, *words, code=2)
    assert done.stderr.startswith(f"error: {told}")
    assert len(done.stderr.splitlines()) < 7


def test_every_command_has_its_help(samesight_rs: Path) -> None:
    for command in ("predict", "verify", "bench", "prepare", "logits"):
        assert run(samesight_rs, command, "--help").stdout.startswith(f"usage: samesight-rs {command} ")
        assert command in run(samesight_rs, "--help").stdout


def test_a_photo_is_timed_step_by_step(samesight_rs: Path, bundle: Bundle) -> None:
    found = json.loads(run(samesight_rs, "bench", bundle.folder, "--rounds", 1, "--json").stdout)
    assert [row["copy"] for row in found["rows"]] == ["fp32", "fp16"]
    for row in found["rows"]:
        assert all(row[key] > 0 for key in row if key not in ("runner", "copy"))


# the runner


def test_the_runner_says_why_the_program_ended(samesight_rs: Path, bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.folder, tmp_path / "changed")
    changed = open_bundle(tmp_path / "changed")
    _flip(tmp_path / "changed")
    runner = RustRunner(str(samesight_rs), changed, "fp32")
    with pytest.raises(BundleInvalid, match="samesight-rs does not run") as caught:
        runner.logits(np.zeros((1, 3, 32, 32), np.float32))
    assert "has changed" in str(caught.value.found)


def test_the_runner_ends_its_program(samesight_rs: Path, bundle: Bundle) -> None:
    runner = RustRunner(str(samesight_rs), bundle, "fp32")
    golden = read_golden(bundle)
    process = runner._process
    tensors = np.zeros((3, 3, 32, 32), np.float32)
    assert runner.logits(tensors).shape == (3, len(bundle.labels))
    assert golden.samples
    del runner
    assert process.wait(10) == 0


def test_the_program_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "samesight-rs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program() == str(program)
    monkeypatch.setenv("SAMESIGHT_RUST", str(tmp_path / "other"))
    assert find_program() is None


def test_without_the_program_verify_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAMESIGHT_RUST", "/nowhere/samesight-rs")
    assert main(["verify", str(bundle.folder), "--runner", "rust"]) == 2
    assert "make rust" in capsys.readouterr().err
