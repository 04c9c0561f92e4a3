"""Heads: replaced correctly in every family of torchvision's classifiers, and in timm's."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from samesight.errors import InputError  # noqa: E402
from samesight.models import create, head_layers, head_parameters, model_names, replace_head  # noqa: E402

HEADS = {
    "alexnet": "classifier.6",
    "convnext_tiny": "classifier.2",
    "densenet121": "classifier",
    "efficientnet_b0": "classifier.1",
    "efficientnet_v2_s": "classifier.1",
    "googlenet": "fc",
    "inception_v3": "fc",
    "maxvit_t": "classifier.5",
    "mnasnet0_5": "classifier.1",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "regnet_x_400mf": "fc",
    "regnet_y_400mf": "fc",
    "resnet18": "fc",
    "resnext50_32x4d": "fc",
    "shufflenet_v2_x0_5": "fc",
    "squeezenet1_0": "classifier.1",
    "squeezenet1_1": "classifier.1",
    "swin_t": "head",
    "swin_v2_t": "head",
    "vgg11": "classifier.6",
    "vgg11_bn": "classifier.6",
    "vit_b_16": "heads.head",
    "wide_resnet50_2": "fc",
    "small": "head",
    "landmark_cnn": "classifier.4",
    "pruned_resnet": "network.28",
    "compact": "head",
    "resnet20": "linear",
}


def check_head(model: str, expected: str | None) -> None:
    """Replace a head of 1000 by one of 7 and see that nothing but the head is another."""
    device = "cpu" if model.startswith("regnet") else "meta"  # RegNet computes its widths with tensors
    with torch.device(device):
        size = 299 if model == "inception_v3" else 224
        network = create(model, 1000, size=(size, size))
        before = dict(network.named_parameters())
        modules = dict(network.named_modules())
        replace_head(network, model, 7)
        after = dict(network.named_parameters())
        out = network.eval()(torch.zeros(2, 3, size, size))
    changed = [name for name in after if after[name] is not before[name]]
    assert list(after) == list(before)
    assert tuple(out.shape) == (2, 7)
    assert changed == head_parameters(network, model)
    heads = head_layers(network)
    assert changed == [f"{heads[0]}.{name}" for name, _ in network.get_submodule(heads[0]).named_parameters()]
    if expected is not None:
        assert heads == [expected]
    others = [name for name, module in network.named_modules() if module is not modules[name]]
    assert others == heads


@pytest.mark.row("M1")
@pytest.mark.parametrize("model", HEADS)
def test_head_of_each_family(model: str) -> None:
    check_head(model, HEADS[model])


@pytest.mark.slow
@pytest.mark.row("M1")
@pytest.mark.parametrize("model", [name for name in model_names() if name not in HEADS])
def test_head_of_every_other_network(model: str) -> None:
    if model in ("regnet_y_128gf", "regnet_x_32gf", "regnet_y_32gf"):
        pytest.skip("gigabytes of weights; its family is tested with smaller ones")
    check_head(model, None)


@pytest.mark.row("M1")
def test_every_family_of_torchvision_is_in_the_table() -> None:
    """A family is what comes before the first digit or the size; a new torchvision may bring one."""
    families = {
        "alexnet",
        "convnext",
        "densenet",
        "efficientnet",
        "googlenet",
        "inception",
        "maxvit",
        "mnasnet",
    }
    families |= {"mobilenet", "regnet", "resnet", "resnext", "shufflenet", "squeezenet", "swin", "vgg", "vit"}
    families |= {"wide", "small", "compact", "landmark", "pruned"}
    for name in model_names():
        assert any(name.startswith(family) for family in families), name
    assert all(any(name.startswith(family) for name in HEADS) for family in families)


@pytest.mark.row("M1")
def test_new_head_starts_near_certainty_of_nothing() -> None:
    torch.manual_seed(0)
    network = create("resnet18", 1000)
    replace_head(network, "resnet18", 5)
    assert float(network.fc.bias.detach().abs().max()) == 0
    assert 0.008 < float(network.fc.weight.detach().std()) < 0.012
    logits = network.eval()(torch.randn(4, 3, 64, 64))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3]))
    assert abs(float(loss.detach()) - math.log(5)) < 0.5


@pytest.mark.row("M1")
def test_squeezenet_and_mnasnet_remember_their_classes() -> None:
    for model in ("squeezenet1_1", "mnasnet0_5"):
        with torch.device("meta"):
            network = create(model, 1000)
            replace_head(network, model, 4)
        assert network.num_classes == 4


@pytest.mark.row("M1")
def test_auxiliary_heads_are_replaced_too_when_they_are_on() -> None:
    with torch.device("meta"):
        network = create("googlenet", 1000, options={"aux_logits": "true"})
        replace_head(network, "googlenet", 3)
        outputs = network.train()(torch.zeros(2, 3, 224, 224))
    assert head_layers(network) == ["aux1.fc2", "aux2.fc2", "fc"]
    assert [tuple(out.shape) for out in outputs] == [(2, 3)] * 3


@pytest.mark.row("M1")
def test_head_of_timm_networks() -> None:
    pytest.importorskip("timm")
    for model in ("timm/resnet18", "timm/vit_tiny_patch16_224", "timm/mobilenetv3_small_050"):
        network = create(model, 10)
        before = dict(network.named_parameters())
        replace_head(network, model, 3)
        assert tuple(network.eval()(torch.zeros(1, 3, 224, 224)).shape) == (1, 3)
        after = dict(network.named_parameters())
        changed = [name for name in after if after[name] is not before.get(name)]
        assert changed == head_parameters(network, model)


def test_network_without_a_layer_for_a_head_is_refused() -> None:
    network = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten())
    with pytest.raises(InputError, match="no Linear or Conv2d"):
        replace_head(network, "mine.py:Net", 3)
