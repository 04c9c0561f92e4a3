"""The page of a report: made from run folders and bundles, and held to what their files say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_samples import (
    HOSTILE,
    LABELS,
    make_bundle,
    make_predictions,
    make_run,
    make_verification,
    write_answers,
)

from samesight.bundle import open_bundle
from samesight.data.split import Split, SplitItem, write_split
from samesight.errors import BundleChanged, InputError
from samesight.files import write_json
from samesight.report import write_report, write_tables

VOID = {"meta", "img", "br", "line", "rect", "circle", "path", "polyline"}


@dataclass(frozen=True)
class Page:
    """A page as a reader of HTML sees it; `attributes` are triples of element, name and value."""

    text: str
    words: str
    tags: tuple[str, ...]
    attributes: tuple[tuple[str, str, str], ...]

    def of(self, name: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == name]


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()
        assert tag in VOID, f"<{tag}/> is not closed in HTML"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def read(path: Path) -> Page:
    """The page in `path`, which is well-formed, asks for nothing, and has one of each id."""
    text = path.read_text("utf-8")
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    found = Page(text, " ".join(" ".join(reader.words).split()), tuple(reader.tags), tuple(reader.attributes))
    for tag, name, value in found.attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert value.startswith(("#", "data:image/")), f"<{tag} {name}={value[:80]!r}> asks for something"
        assert not name.startswith("on"), f"{name} runs something"
        assert name != "style", "the policy allows no style attributes"
    ids = found.of("id")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in found.of("href")} <= set(ids)
    assert all(value for tag, name, value in found.attributes if (tag, name) == ("img", "alt"))
    assert found.tags.count("script") == 1
    assert found.tags.count("h1") == 1
    assert not re.search(r"@import|url\(", text)
    assert "https://" not in text
    assert "http://" not in text
    return found


def section(page: Page, name: str) -> str:
    """The words of one section, without its markup."""
    part = re.search(rf'<section id="{name}".*?</section>', page.text, re.DOTALL)
    assert part, f"there is no section {name}"
    return " ".join(re.sub(r"<[^>]+>", " ", part[0]).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Two photos a class, each class of its own hue."""
    folder = tmp_path_factory.mktemp("photos")
    found = []
    for hue, label in enumerate(LABELS):
        for index in range(2):
            pixels = np.random.default_rng(10 * hue + index).integers(0, 80, (48, 64, 3), dtype=np.uint8)
            pixels[..., 2 - hue] += 150
            path = folder / f"{hue}{index}.jpg"
            Image.fromarray(pixels).save(path, quality=90)
            found.append((path, label))
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, photos: list[tuple[Path, str]]) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "sky", LABELS, photos)


@pytest.mark.row("E3", "V1", "T1")
def test_a_run_and_a_bundle_make_a_whole_page(tmp_path: Path, bundle: Path) -> None:
    run = make_run(tmp_path / "run", LABELS)
    make_verification(bundle, run / "verify.json")
    out = run / "report.html"
    assert write_report(run, bundle, out) == out
    page = read(out)
    for name in ("results", "copies", "verification", "golden", "training", "data", "making"):
        section(page, name)
    assert page.text.startswith("<!doctype html>\n")
    assert "✓ verified" in page.words
    assert "Verified in numpy (fp32, fp16): the same answer as PyTorch at every stage." in page.words
    copies = section(page, "copies")
    assert "fp32 3.00 MiB 17 fp32, input float32 90.0 % 97.5 % 100.00 %" in copies
    assert "fp16 1.50 MiB 17 fp16, input float32 90.0 % 97.5 % 100.00 %" in copies
    assert copies.count("✓ within") == 2
    stages = section(page, "verification")
    for stage in ("Decode photo to pixels", "Resize and crop", "Normalise pixels to numbers"):
        assert f"{stage} ✓ same identical on all 6 samples" in stages
    assert "Network numbers to answer ✓ same within tolerance in both runners" in stages
    assert len(re.findall(r'<img src="data:image/png;base64,', page.text)) == 6
    assert out.stat().st_size < 300_000


def test_the_policy_allows_the_page_itself_and_nothing_else(tmp_path: Path, bundle: Path) -> None:
    page = read(write_report(None, bundle, tmp_path / "report.html"))
    policy = next(value for value in page.of("content") if "default-src" in value)
    assert policy.startswith("default-src 'none'; ")
    for name in ("style", "script"):
        inside = re.search(rf"<{name}>(.*?)</{name}>", page.text, re.DOTALL)
        assert inside
        digest = base64.b64encode(hashlib.sha256(inside[1].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_figures_are_those_of_the_files(tmp_path: Path) -> None:
    rows = [
        ("1.jpg", "a", "a", 0.9),
        ("2.jpg", "a", "b", 0.8),
        ("3.jpg", "b", "b", 0.7),
        ("4.jpg", "b", "b", 0.6),
    ]
    write_answers(tmp_path / "test_predictions.csv", rows)
    page = read(write_report(tmp_path, None, tmp_path / "report.html"))
    results = section(page, "results")
    assert "3 of 4 photos right (75.0 %)" in results
    assert "between 30.1 % and 95.4 %" in results
    assert "recall is 75.0 % and F1 73.3 %" in results
    assert "a 2 100.0 % 50.0 % 66.7 %" in results
    assert "b 2 66.7 % 100.0 % 80.0 %" in results
    assert "2.jpg a b 80.0 %" in results
    # each photo in a bin of its own: off by 0.4, 0.3, 0.8, 0.1
    assert "On average it is 75.0 % sure and 75.0 % right" in results
    assert "ECE, equal width 40.0 % 0.0 to " in results
    assert "Log loss, Brier score and a temperature need every class’s logit" in results
    assert "Always answering “a” would be right on 50.0 %" in results


@pytest.mark.row("T1")
def test_a_temperature_is_told_beside_what_it_mends(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LABELS, per_class=80)
    make_predictions(run, LABELS, val=200, temperature=3.0)
    assert write_tables(run)
    found = json.loads((run / "calibration.json").read_text())
    results = section(read(write_report(run, None, run / "report.html")), "results")
    value = found["temperature"]["value"]
    assert f"Measure As trained Temperature {value:.2f}" in results
    assert f"Dividing the logits by {value:.2f} changes no answer" in results
    assert "fitted on the 200 photos of the inner validation part" in results
    assert "Here that helps; the logits of run and bundle are unchanged" in results
    states = [found["as_trained"], found["with_temperature"]]
    assert "Log loss (NLL) " + " ".join(f"{one['nll']:.4f}" for one in states) in results
    assert "Brier score " + " ".join(f"{one['brier']:.4f}" for one in states) in results
    errors = [one["ece_equal_width"] for one in states]
    shown = " ".join(
        f"{100 * one['value']:.1f} % {100 * one['interval_95'][0]:.1f} to {100 * one['interval_95'][1]:.1f} %"
        for one in errors
    )
    assert f"ECE, equal width {shown}" in results


def test_where_no_temperature_can_be_told_it_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LABELS)
    make_predictions(run, LABELS, val=0)
    results = section(read(write_report(run, None, run / "report.html")), "results")
    assert "A temperature needs an inner validation part, which this run does not have." in results
    make_predictions(run, LABELS, val=1)
    results = section(read(write_report(run, None, run / "report.html")), "results")
    assert "No temperature can be told from the 1 photo of the inner validation part" in results


def test_groups_make_the_rate_less_certain(tmp_path: Path) -> None:
    names = [f"p{at // 10}/{at}.jpg" for at in range(100)]
    rows = [(name, "a", "b" if name < "p3" else "a", 0.9) for name in names]
    write_answers(tmp_path / "test_predictions.csv", rows)
    items = tuple(SplitItem(name, "0" * 64, "a", "test", name[:2]) for name in sorted(names))
    write_split(tmp_path / "split.json", Split(42, 0.2, 0.1, items))
    results = section(read(write_report(tmp_path, None, tmp_path / "report.html")), "results")
    assert "drawing the 10 groups anew, the rate lies between" in results


@pytest.mark.row("T1")
def test_training_shows_rate_time_phases_and_the_best_epoch(tmp_path: Path) -> None:
    page = read(write_report(make_run(tmp_path / "run", LABELS), None, tmp_path / "report.html"))
    training = section(page, "training")
    for words in ("Loss", "Accuracy", "Learning rate", "Time"):
        assert page.text.count(f"<h3>{words}</h3>") == 1
    assert "12 epochs in 85.2 s: 3 of phase “head”, then 9 of phase “all”." in training
    assert "best 8" in training
    assert "label smoothing of 0.1, so it cannot fall to 0" in training
    assert "the moving average of the weights (EMA) is what is validated" in training
    assert "of learning alone. 60 photos a second." in training
    assert "Photos a second" in training


@pytest.mark.row("V1")
def test_a_difference_is_told_in_words(tmp_path: Path, bundle: Path) -> None:
    make_verification(bundle, tmp_path / "verify.json", noise=5.0)
    page = read(write_report(None, bundle, tmp_path / "report.html"))
    assert "It does not give the same answer everywhere." in page.words
    stages = section(page, "verification")
    assert "✗ Not the same. The difference begins at the network stage, in numpy, with copy fp16" in stages
    assert "Network numbers to answer ✗ differs 1 of 2 runners differ" in stages
    assert "Decode photo to pixels ✓ same" in stages


def test_a_verification_of_another_bundle_is_not_shown(tmp_path: Path, bundle: Path) -> None:
    write_json(
        tmp_path / "verify.json", {"ok": True, "bundle": "0123456789abcdef", "stages": [], "runners": []}
    )
    page = read(write_report(None, bundle, tmp_path / "report.html"))
    assert "about another bundle (0123456789ab…)" in page.words
    assert "✓ verified" not in page.words
    assert "has not been verified" in page.words


def bench_row(copy: str, batch: int, ms: float, **more: object) -> dict[str, object]:
    """A row as bench.json has it."""
    times = {"average": ms, "minimum": ms / 2, "maximum": 3 * ms, "median": ms, "p95": 2 * ms}
    row = {"engine": "onnxruntime", "copy": copy, "mode": "shared", "batch": batch, "latency_ms": times}
    sizes = {"peak_bytes": 90 << 20, "size_bytes": 3 << 20, "accuracy": 0.9, "problems": []}
    return row | sizes | {"photos_per_second": 1000 / ms} | more


@pytest.mark.row("B2")
def test_what_was_measured_of_the_bundle_is_shown(tmp_path: Path, bundle: Path) -> None:
    rows = [
        *(bench_row("fp32", 1, 8.0), bench_row("fp32", 4, 5.0), bench_row("fp16", 1, 16.0)),
        *(3, {}, {"batch": "many"}, bench_row("int8", 1, 4.0, peak_bytes=None, problems=["<b>wrong</b>"])),
    ]
    won = {"latency": {"engine": "onnxruntime", "copy": "fp32", "mode": "shared", "latency_ms": 8.0}}
    told = {"bundle": open_bundle(bundle).id, "rows": rows, "winners": won}
    machine = {"processor": "Abacus 9", "cpus": 2, "load_average": [0.5, 0, 0]}
    write_json(tmp_path / "bench" / "bench.json", {"bundles": [7, told], "machine": machine})
    page = read(write_report(None, bundle, tmp_path / "report.html"))
    speed = section(page, "speed")
    assert "Measured on Abacus 9 with 2 CPUs, load average 0.5" in speed
    assert "Best for latency : fp32 onnxruntime shared, 8.00 ms a photo" in speed
    row = "8.00 4.00 24.00 8.00 16.00 200.0 90.00 MiB 3.00 MiB 90.00 %"
    assert f"fp32 onnxruntime shared {row}" in speed
    assert "int8 onnxruntime shared 4.00 2.00 12.00 4.00 8.00 250.0 — 3.00 MiB" in speed
    assert "int8 in onnxruntime cannot win: &lt;b&gt;wrong" in speed
    assert speed.count("onnxruntime shared") == 4


@pytest.mark.row("B2")
@pytest.mark.parametrize("told", [{"bundles": "none"}, {"bundles": [{"bundle": "other", "rows": []}]}, {}])
def test_what_was_measured_of_another_bundle_is_not_shown(
    tmp_path: Path, bundle: Path, told: dict[str, object]
) -> None:
    write_json(tmp_path / "bench.json", told)
    page = read(write_report(None, bundle, tmp_path / "report.html"))
    assert 'id="speed"' not in page.text


def test_only_a_bundle(tmp_path: Path, bundle: Path) -> None:
    page = read(write_report(None, bundle, tmp_path / "out" / "report.html"))
    assert "54 times in 60 (90.0\u00a0%)" in page.text
    assert "PyTorch&#x27;s, as the bundle records it" in page.text
    assert "has not been verified yet" in page.words
    assert 'id="training"' not in page.text
    assert "not marked as publishable" in page.words
    assert open_bundle(bundle).id in page.words


def test_what_a_checkpoint_had_seen_is_not_claimed(tmp_path: Path, photos: list[tuple[Path, str]]) -> None:
    elsewhere = make_bundle(tmp_path / "bundle", LABELS, photos, how="checkpoint")
    page = read(write_report(None, elsewhere, tmp_path / "report.html"))
    assert "On the photos it was checked with it was right 54 times in 60" in page.words
    assert "never seen" not in page.words
    assert "from a checkpoint trained elsewhere" in section(page, "making")


def test_only_a_run(tmp_path: Path) -> None:
    page = read(write_report(make_run(tmp_path / "run", LABELS), None, tmp_path / "report.html"))
    assert "It has not been exported yet." in page.words
    assert 'id="copies"' not in page.text
    assert "samesight export run --out BUNDLE" in page.words
    making = section(page, "making")
    for words in (
        "Seed 42",
        "Settings that were chosen epochs 12",
        "Changes to training photos horizontal flip",
    ):
        assert words in making
    assert "Inner validation accuracy 91.0 % of 40 photos Training took 92.5 s of time" in making
    assert "The weights of epoch 11 are the best" in section(page, "training")
    assert "Not recorded: " in section(page, "making")


def test_an_empty_run_says_what_is_missing(tmp_path: Path) -> None:
    page = read(write_report(tmp_path, None, tmp_path / "report.html"))
    assert "How often it is right on photos it has never seen is not recorded." in page.words
    assert "history.csv is missing or empty" in page.words


@pytest.mark.parametrize("count", [1, 2, 30, 31, 1000])
def test_few_and_many_classes(tmp_path: Path, count: int) -> None:
    labels = [f"class {at:03}" for at in range(count)]
    run = make_run(tmp_path / "run", labels, per_class=4, accuracy=0.7)
    make_predictions(run, labels)
    out = write_report(run, None, run / "report.html")
    results = section(read(out), "results")
    assert ("most frequent of" in results) == (count > 30)
    assert ("All confusions at once" in results) == (30 < count <= 160)
    assert out.stat().st_size < 2_000_000


def test_hostile_words_are_only_words(tmp_path: Path, photos: list[tuple[Path, str]]) -> None:
    labels = (
        "<script>alert(1)</script>",
        "\"onload=alert(1) x='",
        "</title></style><img src=x onerror=alert(1)>",
    )
    named = [(path, labels[LABELS.index(label)]) for path, label in photos]
    bundle = make_bundle(tmp_path / "bundle", labels, named)
    run = make_run(tmp_path / "run", labels)
    write_answers(run / "test_predictions.csv", [(HOSTILE, label, HOSTILE, 0.5) for label in labels])
    words = {
        "model": HOSTILE,
        "command": ["samesight", HOSTILE],
        HOSTILE: HOSTILE,
        "seed": HOSTILE,
        "weights": HOSTILE,
    }
    write_json(run / "run.json", {**words, "labels": list(labels)})
    opened = open_bundle(bundle)
    bad = {
        "stage": HOSTILE,
        "sample": HOSTILE,
        "runner": HOSTILE,
        "what": HOSTILE,
        "layer": {"name": HOSTILE},
    }
    runner = {"runner": HOSTILE, "copy": HOSTILE, "ok": False, "notes": [HOSTILE], "tolerance": HOSTILE}
    stages = [{"stage": HOSTILE, "samples": 1, "different": 1, "first": bad}]
    verification = {
        "ok": False,
        "bundle": opened.id,
        "stages": stages,
        "runners": [runner],
        "first_difference": bad,
    }
    write_json(run / "verify.json", {**verification, "versions": {HOSTILE: HOSTILE}})
    page = read(write_report(run, bundle, run / "report.html"))
    assert "<script>alert" not in page.text
    assert "onerror" not in {name for _, name, _ in page.attributes}
    assert "\u202e" not in page.text
    assert "\x00" not in page.text
    assert page.tags.count("img") == 6
    assert "<script>alert(1)</script>" in page.words, "the words themselves are shown"


def test_endless_words_are_cut(tmp_path: Path) -> None:
    label = "x" * 100_000
    write_answers(tmp_path / "test_predictions.csv", [(label, label, "b", 0.5)] * 20)
    write_json(tmp_path / "run.json", {"labels": [label, "b"], "model": label, "weights": label})
    out = write_report(tmp_path, None, tmp_path / "report.html")
    read(out)
    assert out.stat().st_size < 300_000


def test_halves_of_surrogate_pairs_are_written(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"model": "\\ud800", "labels": ["\\udfff", "b"]}')
    read(write_report(tmp_path, None, tmp_path / "report.html"))


@pytest.mark.parametrize(
    "about",
    [
        {"labels": 3, "results": [], "model": ["x"], "preprocess": {"resize": None}, "config": 7},
        {"labels": [1, None], "results": {"test_accuracy": "high"}, "versions": [[[]]], "seed": {"a": {}}},
        {"labels": ["a", "b"], "results": {"test_accuracy": 7.5}, "preprocess": {"resize": {"kind": None}}},
    ],
)
def test_strange_values_are_left_out(tmp_path: Path, about: dict[str, object]) -> None:
    write_json(tmp_path / "run.json", about)
    (tmp_path / "history.csv").write_text("epoch,train_loss,val_accuracy\n1,nan,0.5\nx,1,1\n2,inf,\n\n3\n")
    (tmp_path / "test_predictions.csv").write_text(
        "name,label,predicted,confidence\na\nb,x,y,\nc,x,x,9\nd,x,x,x,x,x\n"
    )
    write_json(tmp_path / "split.json", {"items": [3, {"label": "x"}, {"label": "x", "part": "train"}]})
    write_json(tmp_path / "data.json", {"photos": "many"})
    write_json(
        tmp_path / "verify.json", {"ok": "yes", "stages": [1, {}], "runners": [{}, 4], "first_difference": 1}
    )
    page = read(write_report(tmp_path, None, tmp_path / "report.html"))
    assert "2 of 3 photos right" in section(page, "results")
    assert "its findings are not shown" in section(page, "data")


def test_a_confidence_is_never_made_up(tmp_path: Path) -> None:
    (tmp_path / "test_predictions.csv").write_text("name,label,predicted\n1,a,a\n2,b,a\n")
    page = read(write_report(tmp_path, None, tmp_path / "report.html"))
    assert "The predictions hold no confidence" in section(page, "results")


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a run folder"):
        write_report(None, None, tmp_path / "report.html")
    with pytest.raises(InputError, match="no run folder"):
        write_report(tmp_path / "none", None, tmp_path / "report.html")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        write_report(tmp_path, None, tmp_path / "report.html")
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match="no JSON object"):
        write_report(tmp_path, None, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_changed_bundle_gets_no_page(tmp_path: Path, photos: list[tuple[Path, str]]) -> None:
    bundle = make_bundle(tmp_path / "bundle", LABELS, photos)
    target = bundle / "golden" / "0001" / "resized.png"
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleChanged):
        write_report(None, bundle, tmp_path / "report.html")


def test_sixty_pictures_at_most_spread_over_the_classes(
    tmp_path: Path, photos: list[tuple[Path, str]]
) -> None:
    bundle = make_bundle(tmp_path / "bundle", LABELS, [photos[at % 6] for at in range(66)])
    page = read(write_report(None, bundle, tmp_path / "report.html"))
    assert page.tags.count("img") == 60
    assert "60 of the 66 are shown" in section(page, "golden")


def test_golden_samples_without_photos(tmp_path: Path, bundle: Path) -> None:
    page = read(write_report(None, bundle, tmp_path / "report.html", pictures=False))
    assert page.tags.count("img") == 0
    golden = section(page, "golden")
    assert "✓ recognised" in golden or "✗ taken for" in golden
    assert "not marked as publishable" not in golden


def test_the_page_needs_neither_torch_nor_matplotlib(tmp_path: Path, bundle: Path) -> None:
    code = (
        "import sys, json, pathlib; from samesight.report import write_report;"
        "write_report(None, pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]));"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    words = [sys.executable, "-c", code, str(bundle), str(tmp_path / "report.html")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert not {"torch", "torchvision", "matplotlib", "onnx", "onnxruntime", "scipy"} & set(
        json.loads(done.stdout)
    )
