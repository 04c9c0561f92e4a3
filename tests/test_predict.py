"""`samesight predict` and `samesight show`, as people and programs use them."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_bundle import LABELS, one_copy, rewrite, tiny_bundle, tiny_model
from PIL import Image

from samesight.bundle import open_bundle
from samesight.cli import main
from samesight.runtime import load

pytestmark = pytest.mark.row("R1")

# Raises where anything asks for what an answering bundle must do without.
BLOCKER = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'torch', 'torchvision', 'timm', 'onnx', 'matplotlib', 'sklearn', 'scipy'}:
            raise ImportError(f'{name} is not there')
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("predict") / "bundle")


def told(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> list[dict[str, Any]]:
    """The objects that `samesight predict --json` prints."""
    assert main(["predict", *map(str, words), "--json"]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return [json.loads(line, parse_constant=pytest.fail) for line in captured.out.splitlines()]


def run(*words: object, program: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """samesight in a process of its own."""
    start = f"{program}\nimport sys\nfrom samesight.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", start, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def test_one_object_a_line_and_photo(
    bundle: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = photo_folder / "rose" / "3.jpg"
    (answer,) = told(capsys, bundle, one)
    assert list(answer) == ["path", "label", "index", "confidence", "top", "bundle"]
    assert answer == load(bundle).classify(one).to_json(one)
    assert answer["bundle"] == open_bundle(bundle).id
    assert [list(top) for top in answer["top"]] == [["label", "index", "probability"]] * 3
    assert answer["label"] == LABELS[answer["index"]] == answer["top"][0]["label"]
    assert answer["confidence"] == answer["top"][0]["probability"]
    assert sum(top["probability"] for top in answer["top"]) == pytest.approx(1)


def test_a_folder_is_all_its_photos_sorted(
    bundle: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (photo_folder / "notes.txt").write_text("not a photo")
    (photo_folder / "._hidden.jpg").write_bytes(b"")
    (photo_folder / ".cache").mkdir()
    shutil.copy(photo_folder / "rose" / "0.jpg", photo_folder / ".cache" / "0.jpg")
    shutil.copy(photo_folder / "rose" / "0.jpg", photo_folder / "TOP.JPEG")
    monkeypatch.chdir(photo_folder.parent)
    answers = told(capsys, bundle, "photos")
    expected = ["photos/TOP.JPEG"]
    expected += [
        f"photos/{label}/{index}.jpg" for label in ("blue sky", "grass", "rose") for index in range(8)
    ]
    assert [answer["path"] for answer in answers] == expected
    again = told(capsys, bundle, "photos/", "photos/rose/1.jpg", "./photos/grass")
    assert [answer["path"] for answer in again][-9:-7] == ["photos/rose/1.jpg", "./photos/grass/0.jpg"]


def test_options(bundle: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = photo_folder / "rose" / "3.jpg"
    assert [len(told(capsys, bundle, one, "--top", top)[0]["top"]) for top in (1, 2, 3, 99)] == [1, 2, 3, 3]
    half = told(capsys, bundle, one, "--copy", "fp16", "--threads", "1")[0]
    full = told(capsys, bundle, one)[0]
    assert half["label"] == full["label"]
    assert half["confidence"] != full["confidence"]
    for words in (
        ["--top", "0"],
        ["--top", "-1"],
        ["--threads", "0"],
        ["--threads", "x"],
        ["--copy", "int8"],
    ):
        assert main(["predict", str(bundle), str(one), *words]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err


def test_a_bad_photo_does_not_stop_the_others(
    bundle: Path, photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = photo_folder / "grass" / "2.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    (tmp_path / "empty").mkdir()
    words = [
        bundle,
        photo_folder,
        tmp_path / "absent.png",
        tmp_path / "empty",
        photo_folder / "rose" / "0.jpg",
    ]
    answers = told(capsys, *words, code=2)
    assert len(answers) == 27
    failed = [answer for answer in answers if "error" in answer]
    assert [answer["path"] for answer in failed] == [str(bad), str(words[2]), str(words[3])]
    assert all(list(answer) == ["path", "error"] and "\n" not in answer["error"] for answer in failed)
    assert main(["predict", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 24
    assert captured.err.count("error: ") == 3
    assert "3 of 27 photos" in captured.err


def test_no_photos_at_all(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert main(["predict", str(bundle), str(tmp_path), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: no photos found")


def test_for_people(bundle: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = photo_folder / "rose" / "3.jpg"
    best = load(bundle).classify(one)
    assert main(["predict", str(bundle), str(one)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == str(one)
    for line, top in zip(captured.out.splitlines()[1:], best.top, strict=True):
        assert line.split()[0] == top.label
        assert line.endswith(f"{100 * top.probability:.1f} %")
    assert "\x1b" not in captured.out
    assert f"Next: samesight verify {bundle}" in captured.err
    assert main(["predict", str(bundle), str(photo_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 24
    assert all(len(line.split("%")[0]) == len(lines[0].split("%")[0]) for line in lines)


def test_names_that_are_not_utf8_survive(bundle: Path, photo_folder: Path) -> None:
    name = os.fsdecode(b"gr\xfcn \xf0\x9f\x8c\xbf.jpg")
    try:
        shutil.copy(photo_folder / "grass" / "0.jpg", photo_folder / "grass" / name)
    except OSError:
        pytest.skip("this file system has only names of text")
    for encoding in ("utf-8", "ascii"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        ran = run("predict", bundle, photo_folder / "grass", "--json", env=environment)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.isascii()
        paths = [json.loads(line)["path"] for line in ran.stdout.splitlines()]
        assert os.fsencode(paths[-1]).endswith(b"gr\xfcn \xf0\x9f\x8c\xbf.jpg")
        assert Path(paths[-1]).is_file()
        ran = run("predict", bundle, photo_folder / "grass", env=environment)
        assert ran.returncode == 0, ran.stderr
        assert "gr\\udcfcn" in ran.stdout


def test_names_and_labels_cannot_steer_the_terminal(tmp_path: Path, photo_folder: Path, capsys: Any) -> None:
    evil = photo_folder / "rose" / "\x1b[2J\r\u202egpj.jpg"
    shutil.copy(photo_folder / "rose" / "0.jpg", evil)
    labels = ("a\u202eb", "c", "d")
    golden = {"publishable": False, "samples": 0, "origin": "", "labels_without_sample": []}
    bundle = tiny_bundle(tmp_path / "b", **one_copy(tiny_model()), labels=labels, golden=golden)
    assert main(["predict", str(bundle), str(evil.parent)]) == 0
    captured = capsys.readouterr()
    assert not set("\x1b\r\u202e") & set(captured.out + captured.err)


def on_a_terminal(*words: object, columns: int) -> str:
    """What samesight prints where stdout is a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "samesight", *map(str, words)]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux ends a terminal so
                break
            if not piece:
                break
            text += piece
        assert process.wait() == 0
    os.close(ours)
    return text.decode()


def test_on_a_terminal_further_labels_are_dim_and_fit(bundle: Path, photo_folder: Path) -> None:
    text = on_a_terminal("predict", bundle, photo_folder / "rose", columns=110)
    lines = text.replace("\r", "").splitlines()
    assert len(lines) == 8
    for line in lines:
        assert "\x1b[2m" in line
        assert len(line.replace("\x1b[2m", "").replace("\x1b[0m", "")) <= 110


def test_answers_without_torch_or_onnx(bundle: Path, photo_folder: Path) -> None:
    """What is imported is what a bundle needs; the rest may be missing altogether."""
    watch = BLOCKER + (
        "import atexit\n"
        "atexit.register(lambda: print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr))"
    )
    ran = run("predict", bundle, photo_folder, "--json", program=watch)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 24
    loaded = set(ran.stderr.splitlines()[-1].split())
    assert {"numpy", "onnxruntime", "samesight"} <= loaded
    heavy = {"torch", "torchvision", "timm", "onnx", "matplotlib", "rich", "scipy", "cryptography", "sklearn"}
    assert not loaded & heavy


def test_the_python_way_without_torch_or_onnx(bundle: Path, photo_folder: Path) -> None:
    program = (
        f"{BLOCKER}\nimport samesight\n"
        f"print(samesight.load({str(bundle)!r}).classify({str(photo_folder / 'rose' / '0.jpg')!r}).label)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() in LABELS


def test_a_reader_that_goes_away_is_no_error(bundle: Path, photo_folder: Path) -> None:
    command = f"{sys.executable} -m samesight predict {bundle} {photo_folder} --json | head -1"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert len(ran.stdout.splitlines()) == 1
    assert "Traceback" not in ran.stderr


@pytest.mark.row("V3")
def test_a_changed_bundle_answers_nothing(
    bundle: Path, photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = Path(shutil.copytree(bundle, tmp_path / "changed"))
    model = changed / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\xff")
    for command in (["predict", str(changed), str(photo_folder)], ["show", str(changed)]):
        assert main(command) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: a file of the bundle has changed")
    assert main(["predict", str(tmp_path / "none"), str(photo_folder)]) == 2
    rewrite(changed, {"format": "samesight-bundle", "format_version": 2})
    assert main(["show", str(changed)]) == 2
    assert "pip install --upgrade samesight" in capsys.readouterr().err


def test_show_says_what_a_bundle_is(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_bundle(bundle)
    assert main(["show", str(bundle)]) == 0
    captured = capsys.readouterr()
    assert f"Next: samesight predict {bundle}" in captured.err
    for words in ("tiny-net 1.2.0", opened.id, "cat, dog, Eule", "8 × 8", "must not be published", "50.00 %"):
        assert words in captured.out
    assert main(["show", str(bundle), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {key: shown.pop(key) for key in ("path", "bundle", "signature")} == {
        "path": str(bundle),
        "bundle": opened.id,
        "signature": {"state": "none"},
    }
    assert shown == json.loads((bundle / "bundle.json").read_text())


def test_show_prints_what_stdout_can_take(tmp_path: Path) -> None:
    labels = ("Кошка", "a\u202eb", "🦉")
    golden = {"publishable": True, "samples": 0, "origin": "", "labels_without_sample": []}
    bundle = tiny_bundle(tmp_path / "b", **one_copy(tiny_model()), labels=labels, golden=golden)
    for encoding in ("ascii", "utf-8"):
        ran = run("show", bundle, env={**os.environ, "PYTHONIOENCODING": encoding})
        assert ran.returncode == 0, ran.stderr
        assert "a\\u202eb" in ran.stdout
        assert ("🦉" if encoding == "utf-8" else "\\U0001f989") in ran.stdout


def test_probabilities_are_the_models(
    bundle: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole path once more, from the files alone: pixels, table, ONNX Runtime, softmax."""
    import onnxruntime

    one = photo_folder / "rose" / "3.jpg"
    image = Image.open(one).convert("RGB").resize((8, 48), Image.Resampling.BILINEAR)
    pixels = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR), np.float32) / np.float32(255)
    mean, std = (
        np.array(open_bundle(bundle).preprocess.to_json()[key], np.float32) for key in ("mean", "std")
    )
    session = onnxruntime.InferenceSession((bundle / "model.onnx").read_bytes())
    (logits,) = session.run(None, {"input": ((pixels - mean) / std).transpose(2, 0, 1)[np.newaxis]})
    powers = np.exp(logits[0].astype(np.float64) - logits[0].max())
    (answer,) = told(capsys, bundle, one)
    by_index = {top["index"]: top["probability"] for top in answer["top"]}
    np.testing.assert_allclose([by_index[i] for i in range(3)], powers / powers.sum(), atol=1e-7)
