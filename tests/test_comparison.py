"""What networks cost: the table of S5, to its last digit."""

from __future__ import annotations

import csv
import io

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from samesight.comparison import as_csv, as_markdown, published_row, trained_row  # noqa: E402
from samesight.models.operations import count_operations  # noqa: E402


@pytest.mark.row("M3", "X2")
def test_the_table_of_s5_is_made_to_its_last_digit() -> None:
    """11.69 and 1.82 for ResNet-18, 1.26 and 0.13 for the small one; ptflops printed 134.04 MMac for it."""
    small = trained_row("pruned_resnet", (32, 32), 10, 0.8697, 10_000)
    rows = [published_row("resnet18"), trained_row("resnet18", (32, 32), 10, 0.9, 10_000), small]
    lines = as_markdown(rows).splitlines()
    assert "| resnet18 | 11.69 | 1.82 |  | as published: 224 x 224 pixels, 1000 classes |" in lines
    assert "| resnet18 | 11.18 | 0.04 | 90.00 | as trained: 32 x 32 pixels, 10 classes |" in lines
    assert "| pruned_resnet | 1.26 | 0.13 | 86.97 | as trained: 32 x 32 pixels, 10 classes |" in lines
    assert f"{small.operations / 1e6:.2f}" == "134.04"
    assert (small.parameters, small.macs) == (1_259_242, 133_136_704)
    read = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [row["accuracy"] for row in read] == ["", "0.9", "0.8697"]
    assert read[0]["macs"] == "1814073344"


@pytest.mark.row("M3")
def test_operations_are_counted_module_by_module() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),  # 8 x 6 places, 27 products and a bias for each of 4 channels
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 12, 5, bias=False),
    )
    places = 48
    expected = places * 4 * 28 + 2 * 4 * places + 4 * places + 4 * places + 48 * 5
    assert count_operations(network.train(), (8, 6)) == expected
    assert network.training
    grouped = nn.Sequential(nn.Conv2d(3, 6, 1, groups=3, bias=False), nn.BatchNorm2d(6, affine=False))
    assert count_operations(grouped, (2, 2)) == 4 * 6 + 24
