"""The table of pretrained networks: its figures, its filters, its front, its picture. Needs no torch."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from samesight.cli import main
from samesight.errors import InputError
from samesight.zoo import Network, Wanted, pareto, read_networks, select, sort_networks, table_version, to_csv

TORCHVISION = read_networks("torchvision")


def network(name: str, top1: float | None, params: int, gflops: float | None = 1.0) -> Network:
    return Network(name, "torchvision", "V1", True, top1, None, params, gflops, 1.0, 224, 1000, None)


@pytest.mark.row("M3")
def test_the_table_is_what_the_installed_torchvision_says() -> None:
    pytest.importorskip("torchvision")
    from samesight.models.published import installed, published

    theirs = {(row.name, row.weights): row for row in published("torchvision")}
    ours = {(row.name, row.weights): row for row in TORCHVISION}
    both = sorted(set(theirs) & set(ours))
    assert len(both) > 100
    assert [ours[key] for key in both] == [theirs[key] for key in both]
    if installed("torchvision") == table_version("torchvision"):
        assert set(ours) == set(theirs)


@pytest.mark.row("M2", "M3")
def test_the_table_is_what_the_shipped_networks_are() -> None:
    pytest.importorskip("torch")
    from samesight.models.published import published

    assert tuple(published("samesight")) == read_networks("samesight")


@pytest.mark.row("M3")
def test_the_table_is_what_the_installed_timm_makes() -> None:
    timm = pytest.importorskip("timm")
    from samesight.models.published import installed, timm_networks

    ours = {row.name: row for row in read_networks("timm")}
    if installed("timm") == table_version("timm"):
        assert set(ours) == {f"timm/{name}" for name in timm.list_pretrained()}
    names = [
        "mobilenetv4_conv_small.e2400_r224_in1k",
        "convnextv2_atto.fcmae_ft_in1k",
        "vit_tiny_patch16_224.augreg_in21k",
    ]
    for row in timm_networks([name for name in names if f"timm/{name}" in ours]):
        assert row == ours[row.name]
    assert all(row.top1 is row.size_mib is None for row in ours.values()), "timm's package states neither"


@pytest.mark.row("M3")
def test_what_sources_read_in_the_table_is_there() -> None:
    """S3's choices and S5's ResNet-18, with the figures that are printed for them elsewhere."""
    rows = {row.name: row for row in TORCHVISION if row.recommended}
    assert (rows["resnet18"].params, rows["resnet18"].gflops) == (11_689_512, 1.814)
    assert rows["regnet_x_400mf"].params == 5_495_976
    assert (rows["regnet_y_16gf"].top1, rows["regnet_y_16gf"].gflops) == (82.886, 15.912)
    assert sum(row.recommended for row in TORCHVISION) == len({row.name for row in TORCHVISION})
    assert {row.license for row in TORCHVISION if row.weights and "SWAG" in row.weights} == {"CC-BY-NC-4.0"}


@pytest.mark.row("M3")
def test_filters_keep_what_fits_and_only_that() -> None:
    wanted = Wanted(
        max_params=10e6, min_top1=75, max_gflops=1, max_size_mib=30, families=("efficientnet", "regnet")
    )
    kept = select(TORCHVISION, wanted)
    assert {row.name for row in kept} == {
        "efficientnet_b0",
        "regnet_y_400mf",
        "regnet_y_800mf",
        "regnet_x_800mf",
    }
    for row in set(TORCHVISION) - set(kept):
        assert (
            not row.recommended
            or row.params > 10e6
            or (row.top1 or 0) < 75
            or (row.gflops or 9) > 1
            or (row.size_mib or 99) > 30
            or not row.name.startswith(("efficientnet", "regnet"))
        )
    assert select(TORCHVISION, Wanted()) == [row for row in TORCHVISION if row.recommended]
    assert set(select(TORCHVISION, Wanted(weights="all"))) == set(TORCHVISION)
    assert {row.weights for row in select(TORCHVISION, Wanted(weights="IMAGENET1K_V2"))} == {"IMAGENET1K_V2"}


@pytest.mark.row("M3")
def test_a_figure_that_is_not_known_is_below_no_bound() -> None:
    rows = [network("a", None, 10, None), network("b", 70.0, 10)]
    assert select(rows, Wanted(min_top1=0)) == rows[1:]
    assert select(rows, Wanted(max_gflops=5)) == rows[1:]
    assert [row.name for row in sort_networks(rows, "top1")] == ["b", "a"]
    assert [row.name for row in sort_networks(rows, "gflops")] == ["b", "a"]
    assert [row.name for row in sort_networks(rows, "name")] == ["a", "b"]


@pytest.mark.row("M3")
@pytest.mark.parametrize("cost", ["params", "gflops"])
def test_nothing_beats_the_front_and_all_else_is_beaten(cost: str) -> None:
    front = pareto(TORCHVISION, cost)  # type: ignore[arg-type]
    known = [row for row in TORCHVISION if row.top1 is not None]

    def beaten(row: Network) -> bool:
        worse = [
            other
            for other in known
            if getattr(other, cost) <= getattr(row, cost)
            and (other.top1 or 0) >= (row.top1 or 0)
            and (getattr(other, cost), other.top1) != (getattr(row, cost), row.top1)
        ]
        return bool(worse)

    assert 10 < len(front) < 30
    assert not any(map(beaten, front))
    assert all(beaten(row) for row in known if row not in front)


def test_front_of_equals_and_of_nothing() -> None:
    one, other = network("one", 70.0, 5), network("other", 70.0, 5)
    assert len(pareto([one, other], "params")) == 1
    assert pareto([network("unknown", None, 1)], "params") == []
    assert pareto([one, network("unknown", 99.0, 1, None)], "gflops") == [one]


@pytest.mark.row("M3")
def test_csv_has_every_field() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([*TORCHVISION, *read_networks("samesight")]))))
    assert rows[0]["name"] == "alexnet"
    assert float(rows[0]["top1"]) == 56.522
    assert rows[-1]["top1"] == rows[-1]["license"] == ""


@pytest.mark.row("M3")
def test_command_prints_the_table_without_torch() -> None:
    code = (
        "import sys; from samesight.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'matplotlib'} & set(sys.modules);"
        "sys.exit(code or ', '.join(heavy) or None)"
    )
    words = ["models", "--timm", "--max-params", "10M", "--max-gflops", "0.5"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "network",
        "top-1",
        "top-5",
        "params",
        "GFLOPS",
        "MiB",
        "pixels",
        "licence",
        "best",
        "for",
    ]
    assert lines[1].split()[:2] == ["efficientnet_b0", "77.69"]
    assert any(line.startswith("timm/") and "  -  " in line for line in lines)
    assert any(line.startswith("resnet56 ") for line in lines)
    assert "samesight models efficientnet_b0" in done.stderr


@pytest.mark.row("M3")
def test_command_gives_json_csv_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: tmp_path / name for name in ("t.csv", "p.png", "p.svg")}
    words = ["models", "--max-params", "10M", "--min-top1", "70", "--sort", "params", "--json"]
    assert main([*words, "--csv", str(files["t.csv"]), "--plot", str(files["p.png"])]) == 0
    found = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in found["networks"]]
    assert names[0] == "mnasnet0_75"
    assert found["networks"][0]["best_for"] == ["params", "gflops"]
    assert found["versions"] == {"torchvision": table_version("torchvision")}
    assert [row["name"] for row in csv.DictReader(files["t.csv"].open())] == names
    with Image.open(files["p.png"]) as picture:
        assert picture.size == (2100, 1140)
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    assert main(["models", "--plot", str(files["p.svg"])]) == 0
    first = files["p.svg"].read_bytes()
    assert main(["models", "--plot", str(files["p.svg"])]) == 0
    assert files["p.svg"].read_bytes() == first, "the same table is drawn as the same file"


@pytest.mark.row("M3")
def test_names_on_the_plot_cover_neither_one_another_nor_leave_it(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from samesight.zoo import plots

    drawn = []

    def keep(figure: object, path: Path) -> None:
        drawn.append(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "save_figure", keep)
        plots.plot_networks(select(TORCHVISION, Wanted()), tmp_path / "p.png")
    figure = drawn[0]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for place, cost in zip(figure.axes, ("params", "gflops"), strict=True):  # type: ignore[attr-defined]
        boxes = {text.get_text(): text.get_window_extent(renderer) for text in place.texts if text.get_text()}
        front = pareto(select(TORCHVISION, Wanted()), cost)  # type: ignore[arg-type]
        assert set(boxes) == {row.name for row in front}
        frame = place.get_window_extent()
        for name, box in boxes.items():
            assert box.count_overlaps([other for key, other in boxes.items() if key != name]) == 0, name
            assert box.x0 >= frame.x0, name
            assert box.x1 <= frame.x1, name


@pytest.mark.row("M3")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--family", "effnet"], "efficientnet"),
        (["--weights", "IMAGENET1K_V9"], "IMAGENET1K_V1"),
        (["--min-top1", "0.7e3"], "0 to 100"),
        (["--max-size-mb", "0"], "above 0"),
        (["--max-params", "ten"], "10M"),
        (["--plot", "x.jpg"], "--plot x.png"),
        (["--family", "vgg", "--min-top1", "99", "--plot", "x.png"], "nothing to plot"),
        (["--classes", "3"], "--classes needs the NAME"),
        (["--depth", "0"], "--depth needs the NAME"),
        (["resnet18", "--max-params", "0"], "--max-params is for the table"),
        (["resnet18", "--sort", "name"], "--sort is for the table"),
    ],
)
def test_wrong_words_are_told(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.row("M3")
def test_the_page_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text()
    shown = page.partition("$ samesight models ")[2].partition("```")[0].splitlines()
    assert main(["models", *shown[0].split()]) == 0
    assert capsys.readouterr().out.splitlines()[: len(shown) - 1] == shown[1:]
    for row in read_networks("samesight"):
        assert f"`{row.name}`" in page
    assert f"{len(read_networks('timm')):,} networks" in page


def test_no_network_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--family", "vgg", "--min-top1", "99"]) == 0
    assert "no network is like that" in capsys.readouterr().out


def test_bounds_are_checked() -> None:
    with pytest.raises(InputError):
        replace(Wanted(), max_params=-1)
    with pytest.raises(InputError):
        Wanted(max_gflops=float("nan"))
