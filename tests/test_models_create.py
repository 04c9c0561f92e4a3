"""Networks by name and from files of one's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from samesight.errors import InputError  # noqa: E402
from samesight.models import create, model_names  # noqa: E402
from samesight.models.create import option_values, outputs_of  # noqa: E402

NET = """
import torch
from layers import block
class Net(torch.nn.Module):
    def __init__(self, num_classes=10, width=8):
        super().__init__()
        self.body = block(width)
        self.fc = torch.nn.Linear(width, num_classes)
    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
def make(n_classes, depth: int = 1):
    return Net(n_classes, 4 * depth)
def fixed():
    return Net()
def broken(num_classes):
    raise ValueError('no such\\ndepth')
number = 3
def not_a_network():
    return 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "layers.py").write_text(
        "import torch\ndef block(width):\n    return torch.nn.Conv2d(3, width, 3)\n"
    )
    return tmp_path / "net.py"


@pytest.mark.row("M1")
@pytest.mark.parametrize(
    ("wrong", "near"),
    [("mobilnet_v2", "mobilenet_v2"), ("resnet-50", "resnet50"), ("SqueezeNet1.1", "squeezenet1_1")],
)
def test_misspelt_name_gives_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        create(wrong, 3)
    assert f"--model {near}" in str(caught.value.fix)


@pytest.mark.row("M1")
def test_only_classifiers_are_known() -> None:
    names = model_names()
    assert {"small", "resnet50", "vit_b_16"} <= set(names)
    assert not [name for name in names if "fcn" in name or "rcnn" in name or "raft" in name]
    with pytest.raises(InputError):
        create("fcn_resnet50", 3)


@pytest.mark.row("M1")
def test_names_of_timm() -> None:
    pytest.importorskip("timm")
    assert outputs_of(create("timm/resnet10t", 6), (64, 64)) == (6,)
    with pytest.raises(InputError) as caught:
        create("timm/resnt18", 3)
    assert "timm/resnet18" in str(caught.value.fix)


def test_small_network_takes_small_pictures_and_is_small() -> None:
    network = create("small", 5)
    assert outputs_of(network, (8, 8)) == (5,)
    assert sum(p.numel() for p in network.parameters()) < 300_000


@pytest.mark.row("M2")
@pytest.mark.parametrize(
    ("name", "options", "classes"),
    [("Net", {}, 4), ("Net", {"width": "16"}, 4), ("make", {"depth": "2"}, 4), ("fixed", {}, 10)],
)
def test_own_file(own: Path, name: str, options: dict[str, str], classes: int) -> None:
    before = list(sys.path)
    network = create(f"{own}:{name}", 4, options=options)
    assert outputs_of(network, (16, 16)) == (classes,)
    assert sys.path == before
    assert "layers" not in sys.modules


@pytest.mark.row("M2")
def test_two_own_files_with_namesake_neighbours(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "layers.py").write_text(
        "import torch\ndef block(width):\n    return torch.nn.Conv2d(3, width, 5)\n"
    )
    (other / "net.py").write_text(NET)
    assert tuple(create(f"{own}:Net", 2).body.kernel_size) == (3, 3)
    assert tuple(create(f"{other / 'net.py'}:Net", 2).body.kernel_size) == (5, 5)


@pytest.mark.row("M2")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "ValueError: no such depth"),
        ("Nett", "Net, make, fixed"),
        ("number", "Net, make, fixed"),
        ("not_a_network", "int"),
    ],
)
def test_own_file_that_fails_says_so_in_one_line(own: Path, name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        create(f"{own}:{name}", 4)
    assert said in str(caught.value.found)
    assert "\n" not in str(caught.value.found)


@pytest.mark.row("M2")
def test_own_file_with_errors_in_it(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    for text, said in (
        ("def (", "SyntaxError"),
        ("import nonesuch", "No module named 'nonesuch' (bad.py line 1)"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ):
        file.write_text(text)
        with pytest.raises(InputError) as caught:
            create(f"{file}:Net", 4)
        assert said in str(caught.value.found)
    with pytest.raises(InputError, match="no such file"):
        create(f"{tmp_path / 'none.py'}:Net", 4)
    with pytest.raises(InputError) as caught:
        create(str(file), 4)
    assert caught.value.fix == f"{file}:Name"


@pytest.mark.row("M2")
def test_wrong_options_are_refused(own: Path) -> None:
    with pytest.raises(InputError, match="takes no option 'widht'"):
        create(f"{own}:Net", 4, options={"widht": "3"})
    with pytest.raises(InputError, match="cannot be made with these options"):
        create("resnet18", 4, options={"nonesuch": "1"})


def test_option_words_become_values() -> None:
    words = {"a": "3", "b": "0.5", "c": "true", "d": "none", "e": "gelu", "f": "[1, 2]"}
    assert option_values(words) == {"a": 3, "b": 0.5, "c": True, "d": None, "e": "gelu", "f": [1, 2]}


def test_size_that_a_network_cannot_take() -> None:
    with pytest.raises(InputError, match="cannot take a picture of 64x64"):
        outputs_of(create("vit_b_32", 3), (64, 64))
