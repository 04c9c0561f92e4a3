"""Recipes: read strictly, and the shipped ones as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from samesight.errors import InputError
from samesight.recipes import read_recipe

ROOT = Path(__file__).resolve().parent.parent
LEAST = '[recipe]\nname = "a"\ntitle = "A"\n[[network]]\nmodel = "small"\nfile = "small"\n'


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_recipes_read(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem


@pytest.mark.row("E1", "V2")
def test_the_pain_recipe_writes_its_files_under_the_names_its_users_expect() -> None:
    recipe = read_recipe(ROOT / "recipes" / "pain.toml")
    assert recipe.artefacts.onnx is not None
    names = {
        recipe.artefacts.onnx.format(file=network.file, copy=copy)
        for network in recipe.networks
        for copy in recipe.export.copies
    }
    assert names == {"resnet50_fp32.onnx", "resnet50_fp16.onnx", "sqnet_fp32.onnx", "sqnet_fp16.onnx"}
    assert recipe.artefacts.sample_log == "phase1_non_secure_sample_inference.txt"
    assert recipe.export.opset == 17
    assert recipe.export.fp16_input == "float16"
    assert [network.target for network in recipe.networks] == [0.80, 0.60]


def test_a_least_recipe_has_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(LEAST)
    recipe = read_recipe(path)
    assert recipe.photos is None
    assert recipe.split.test == 0.2
    assert recipe.networks[0].target is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not toml", "not TOML"),
        ("[recipe]\n", "no network"),
        (LEAST + "[exprot]\nopset = 12\n", "sections"),
        (LEAST + "[export]\nopsett = 12\n", "keys"),
        (LEAST + '[export]\nopset = "12"\n', "another kind"),
        (LEAST + "[export]\nopset = true\n", "another kind"),
        (LEAST + "[[network]]\nmodel = 'small'\n", "not complete"),
        (LEAST + "[[network]]\nmodel = 'small'\nfile = 'small'\n", "share a file name"),
        (LEAST.replace('file = "small"', 'file = "../small"'), "not a path"),
        (LEAST + "[artefacts]\ntable = '../table.csv'\n", "leaves the output"),
        (LEAST + "[artefacts]\ntable = '/etc/table.csv'\n", "leaves the output"),
        (LEAST + "[checkpoints]\n", "not complete"),
        (LEAST + "[checkpoints]\nlabels = ['a', 'b']\n[training]\n", "nothing is trained"),
        (LEAST + "lr = 0.1\n[checkpoints]\nlabels = ['a', 'b']\n", "nothing is trained"),
        (LEAST + "[checkpoints]\nlabels = ['a', 'b']\n[artefacts]\nnotes = 'n.md'\n", "nothing is trained"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(path)


def test_a_recipe_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_recipe(tmp_path / "none.toml")
