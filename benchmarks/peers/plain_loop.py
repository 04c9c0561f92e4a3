"""The loop that people write themselves: every layer, Adam at 0.001, torchvision's transforms, a DataLoader.

The transforms, the batch of 32 and the seed are those of the butterfly tutorial that Samesight's `butterfly`
recipe comes from, but validation photos are not augmented (there, by mistake, training photos were not).
"""

from __future__ import annotations

import copy
import os

import torch
import torchvision
from answers import arguments, tell_answer, tell_epoch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH, RATE = 32, 1e-3
SEEN = [transforms.Resize(256), transforms.CenterCrop(224)]
TENSOR = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
JITTER = transforms.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
FLIPS = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()]


def network_with_head(name: str, weights: str, classes: int) -> nn.Module:
    """The pretrained network with a new last layer."""
    network = torchvision.models.get_model(name, weights=None)
    network.load_state_dict(torch.load(weights, weights_only=True))
    last = [part for part in network.named_modules() if isinstance(part[1], nn.Linear)][-1]
    path, _, leaf = last[0].rpartition(".")
    setattr(network.get_submodule(path), leaf, nn.Linear(last[1].in_features, classes))
    return network


def right(network: nn.Module, loader: DataLoader) -> int:
    """How many photos the network gets right."""
    network.eval()
    with torch.no_grad():
        return sum(int((network(pictures).argmax(1) == labels).sum()) for pictures, labels in loader)


def main() -> None:
    args = arguments(__doc__)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    train = ImageFolder(str(args.photos / "train"), transforms.Compose([*SEEN, JITTER, *FLIPS, *TENSOR]))
    plain = transforms.Compose([*SEEN, *TENSOR])
    val, test = (ImageFolder(str(args.photos / part), plain) for part in ("val", "test"))
    if not train.classes == val.classes == test.classes:
        raise SystemExit("the parts do not have the same classes")
    workers = min(args.threads, os.cpu_count() or 1)
    train_loader = DataLoader(train, BATCH, shuffle=True, num_workers=workers)
    val_loader, test_loader = (DataLoader(part, BATCH, num_workers=workers) for part in (val, test))
    network = network_with_head(args.model, str(args.weights), len(train.classes))
    optimiser, loss = torch.optim.Adam(network.parameters(), lr=RATE), nn.CrossEntropyLoss()
    best, best_epoch, best_state = -1, 0, {}
    for epoch in range(1, args.epochs + 1):
        network.train()
        for pictures, labels in train_loader:
            optimiser.zero_grad()
            loss(network(pictures), labels).backward()
            optimiser.step()
        found = right(network, val_loader)
        tell_epoch(args.out, epoch, found / len(val))
        if found > best:
            best, best_epoch, best_state = found, epoch, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_state)
    tell_answer(
        args.out,
        right=right(network, test_loader),
        photos=len(test),
        best_epoch=best_epoch,
        val_accuracy=best / len(val),
        packages=("torch", "torchvision", "pillow"),
    )


if __name__ == "__main__":
    main()
