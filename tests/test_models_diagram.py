"""The picture of a network: what it shows is what the network does, and nothing covers anything."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from samesight.cli import main  # noqa: E402
from samesight.models import create  # noqa: E402
from samesight.models.blocks import Box, Chain, Fork, Group, Item, arrange, opened, rows  # noqa: E402
from samesight.models.diagram import draw  # noqa: E402
from samesight.models.layout import Card, lay_out  # noqa: E402
from samesight.models.trace import Step, trace  # noqa: E402
from samesight.models.weightless import without_weights  # noqa: E402


def traced(name: str, size: int = 224) -> list[Step]:
    picture = (size, size)
    return without_weights(lambda: create(name, 1000, size=picture), lambda net: trace(net, picture))


def described(chain: Chain) -> list[object]:
    """The chain as lists: words of boxes, [kind, count, …] of groups, sets of branches; shortcuts last."""
    told: list[object] = [one(item) for item in chain.items]
    return [*told, *chain.shortcuts]


def one(item: Item) -> object:
    if isinstance(item, Box):
        return item.words if item.count == 1 else (item.words, item.count)
    if isinstance(item, Group):
        return [item.kind or item.name, item.count, *described(item.body)]
    return tuple(described(branch) for branch in item.branches)


@pytest.mark.row("M3")
def test_resnet50_is_shown_as_its_paper_draws_it() -> None:
    chain = arrange(traced("resnet50"))
    assert chain.shortcuts == ()
    stem, stages = chain.items[:2], chain.items[2:6]
    assert [one(item) for item in stem] == ["Conv 7×7, 64, /2 · BN · ReLU", "Max pool 3×3, /2"]
    for stage, repeats, width in zip(stages, (2, 3, 5, 2), (64, 128, 256, 512), strict=True):
        assert isinstance(stage, Group)
        step = "" if width == 64 else ", /2"
        way = f"Conv 3×3, {width}{{}} · BN · ReLU"
        ends = f"Conv 1×1, {width} · BN · ReLU", f"Conv 1×1, {4 * width} · BN"
        assert described(stage.body) == [
            [
                *("Bottleneck", 1),
                ([ends[0], way.format(step), ends[1]], [f"Conv 1×1, {4 * width}{step} · BN"]),
                "+ · ReLU",
            ],
            ["Bottleneck", repeats, ends[0], way.format(""), ends[1], "+ · ReLU", (-1, 3)],
        ]
    assert [one(item) for item in chain.items[6:]] == ["Average pool to 1×1 · Flatten", "Linear 1000"]
    assert chain.items[-1].shape == (1000,)
    assert (
        sum(item.parameters for item in stages if isinstance(item, Group)) == 25_557_032 - 2_049_000 - 9_536
    )


@pytest.mark.row("M3")
def test_a_transformer_has_a_shortcut_around_attention_and_one_around_its_mlp() -> None:
    encoder = arrange(traced("vit_b_16")).items[2]
    assert isinstance(encoder, Group)
    mlp = ["MLPBlock", 1, "Linear 3072 · GELU · Dropout", "Linear 768 · Dropout"]
    assert described(encoder.body)[1] == [
        *("EncoderBlock", 12, "LN · Attention, 12 heads · Dropout", "+", "LN", mlp, "+"),
        *((-1, 1), (1, 4)),
    ]


@pytest.mark.row("M3")
def test_branches_inside_branches() -> None:
    last = arrange(traced("inception_v3", 299)).items[-3]
    assert isinstance(last, Group)
    fork = last.body.items[0]
    assert isinstance(fork, Fork)
    split = (["Conv 1×3, 384 · BN · ReLU"], ["Conv 3×1, 384 · BN · ReLU"])
    assert described(fork.branches[1]) == ["Conv 1×1, 384 · BN · ReLU", split, "concat"]
    assert one(last.body.items[1]) == "concat"


@pytest.mark.row("M3")
def test_a_network_that_reuses_everything() -> None:
    block = arrange(traced("densenet121")).items[0].body.items[2]  # type: ignore[union-attr]
    assert isinstance(block, Group)
    layers = ["_DenseLayer", 5, "concat · BN · ReLU", "Conv 1×1, 128 · BN · ReLU", "Conv 3×3, 32"]
    assert described(block.body)[1:] == [layers, "concat", (-1, 1), (-1, 2), (0, 2)]


@pytest.mark.row("M2", "M3")
def test_functions_of_a_network_of_ones_own_are_shown() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.side = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(3, 8, 1)
            self.gate, self.bias = torch.nn.Conv2d(8, 8, 1), torch.nn.Parameter(torch.zeros(8, 1, 1))
            self.unused, self.fc = torch.nn.Linear(3, 3), torch.nn.Linear(8, 2)

        def forward(self, x: object) -> object:
            main = torch.relu(self.conv(x) + self.bias)
            self.gate(main)  # looked at by nobody
            both = main + self.side(input=x)
            both = both * self.gate(both).sigmoid()
            pooled = torch.nn.functional.max_pool2d(both / 2, 2, stride=2)
            return self.fc(pooled.mean((2, 3)))

    chain = arrange(trace(Net(), (16, 16)))
    assert described(chain) == [
        (["Conv 3×3, 8", "+ bias · ReLU"], ["Conv 1×1, 8"]),
        *("+", "Conv 1×1, 8 · Sigmoid", "×", "Max pool 2×2, /2", "Mean", "Linear 2", (1, 3)),
    ]


def leaves(chain: Chain) -> Iterator[str]:
    for item in chain.items:
        if isinstance(item, Box):
            yield item.words
        elif isinstance(item, Group):
            yield from leaves(item.body)
        else:
            yield from itertools.chain.from_iterable(map(leaves, item.branches))


@given(st.data())
def test_whatever_the_graph_each_step_is_shown_once_and_after_what_it_takes(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 9))
    steps = [Step(0, "picture", "end", (), (), (3, 8, 8))]
    for index in range(1, count + 1):
        inputs = data.draw(st.sets(st.integers(0, index - 1), min_size=1, max_size=3))
        steps.append(Step(index, f"step {index}", "other", (), tuple(sorted(inputs)), (index, 8, 8)))
    chain = arrange(steps)
    shown = [int(words.split()[1]) for words in leaves(chain)]
    wanted = {count}
    for step in reversed(steps):
        if step.id in wanted:
            wanted |= set(step.inputs)
    assert sorted(shown) == sorted(wanted - {0})
    at = {step: place for place, step in enumerate(shown)}
    for step in steps:
        if step.id in at:
            assert all(at[source] < at[step.id] for source in step.inputs if source)
    sheet = lay_out(chain, lambda words, size, *, bold=False: 6.0 * len(words))
    assert len(sheet.cards) == len(shown)


def overlap(one: Card, other: Card) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


@pytest.mark.row("M3")
@pytest.mark.parametrize(
    "name", ["resnet50", "googlenet", "densenet121", "efficientnet_b0", "vit_b_16", "swin_t"]
)
def test_no_box_covers_another_or_leaves_its_frame(name: str) -> None:
    chain = opened(arrange(traced(name)))
    assert rows(chain) <= 110
    sheet = lay_out(chain, lambda words, size, *, bold=False: 0.62 * size * len(words))
    boxes = [card for card in sheet.cards if isinstance(card.item, Box)]
    frames = [card for card in sheet.cards if isinstance(card.item, Group)]
    for card, other in itertools.combinations(boxes, 2):
        assert not overlap(card, other), (card.item, other.item)
    for frame, other in itertools.product(frames, sheet.cards):
        if other is not frame and overlap(frame, other):
            inner, outer = (frame, other) if frame.width < other.width else (other, frame)
            assert outer.x <= inner.x
            assert inner.x + inner.width <= outer.x + outer.width
            assert outer.y <= inner.y
            assert inner.y + inner.height <= outer.y + outer.height
    assert 0.8 < sheet.width / sheet.height < 3, "about as a screen is"
    assert all(-20 <= x <= sheet.width + 20 for line in sheet.lines for x, _ in line.points)


@pytest.mark.row("M3")
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_is_written_whole_and_the_same_each_time(tmp_path: Path, suffix: str) -> None:
    steps = traced("pruned_resnet", 32)
    first, second = (draw(steps, "net", "facts", tmp_path / f"{i}{suffix}") for i in range(2))
    assert first.read_bytes() == second.read_bytes()
    if suffix == ".png":
        with Image.open(first) as picture:
            assert picture.width > 700
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    else:
        assert first.read_text().rstrip().endswith("</svg>")


@pytest.mark.row("M3", "M2")
def test_command_tells_of_one_network_and_draws_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    file = tmp_path / "net.png"
    assert main(["models", "resnet18", "--classes", "4", "--size", "64x48", "--diagram", str(file)]) == 0
    said = capsys.readouterr()
    assert "layer4.1.conv2" in said.out
    assert "11,178,564" in said.out
    assert "3×48×64" in said.out
    assert "ImageNet, whose own terms apply" in said.out
    assert "samesight train PHOTOS --model resnet18" in said.err
    assert file.read_bytes().startswith(b"\x89PNG")
    assert main(["models", "pruned_resnet", "--json", "--depth", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["parameters"], found["macs"], found["input"]) == (1_259_242, 133_136_704, [3, 32, 32])
    assert [layer["macs"] for layer in found["layers"]] == [133_136_704]


@pytest.mark.row("M2", "M3")
def test_command_tells_of_a_network_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "import torch\ndef net(num_classes=3, width=4):\n    return torch.nn.Sequential("
        "torch.nn.Conv2d(3, width, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), "
        "torch.nn.Linear(width, num_classes))\n"
    )
    words = ["models", f"{file}:net", "--size", "16", "--classes", "5", "--model-arg", "width=8"]
    assert main([*words, "--diagram", str(tmp_path / "own.svg")]) == 0
    out = capsys.readouterr().out
    assert "own.py:net (a network of your own)" in out
    assert f"{8 * 27 + 8 + 8 * 5 + 5:,}" in out
    assert (tmp_path / "own.svg").is_file()


@pytest.mark.row("M3")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["resnet"], "samesight models --family resnet"),
        (["resnet-50"], "samesight models resnet50"),
        (["resnet18", "--size", "64x"], "--size 224"),
        (["resnet18", "--depth", "0"], "1 or more"),
        (["resnet18", "--diagram", "x.pdf"], "--diagram x.png"),
        (["resnet18", "--classes", "0"], "at least one class"),
        (["vit_b_16", "--size", "100"], "for pictures of 100x100"),
        (["resnet18", "--model-arg", "depth"], "KEY=VALUE"),
    ],
)
def test_wrong_words_about_one_network_are_told(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *words]) == 2
    assert said in capsys.readouterr().err
