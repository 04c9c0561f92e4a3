"""CIFAR-10 within the budget of S5's network: 1,259,242 parameters, 133,136,704 multiply-adds, one pass.

Four runs from scratch, each of the same number of epochs over the 50,000 training photos:

  s5-then    pruned_resnet as its authors trained it: Adam at 0.001, batches of 128, photos as they are
  s5-now     the same network with the recipe below
  best       `compact`, the best network found inside the budget, with the same recipe
  resnet56   ResNet-56 (He et al. 2015), with the same recipe

    python benchmarks/cifar_budget.py --photos cifar10/ --epochs 8 [--device cuda] [--runs s5-now,best]
    python benchmarks/cifar_budget.py --picture

PHOTOS holds train/ and test/ with a folder per class, or is CIFAR's own archive (cifar-10-python.tar.gz).
What is reported is the accuracy of the last weights on the 10,000 test photos, which choose nothing. A run
that is stopped goes on from its last checkpoint. Results, with machine, versions, load, CPU seconds and
curves, are in cifar_budget.json, a row for each run and number of epochs, and drawn in cifar_budget.png.

The recipe: convolutions learn by Muon (kellerjordan.github.io/posts/muon), scaled back to a fixed norm
before each step, since each stands before a BatchNorm; everything else by AdamW; both rates rise over the
first fifth of the steps and fall in a line to zero. Photos are mirrored every other epoch and moved by up
to two pixels, labels are smoothed by 0.2, the first convolution starts as a whitening of patches and the
others as near to the identity as they can (after airbench, arxiv.org/abs/2404.00498). No dropout: short
runs do not overfit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from samesight.files import write_json
from samesight.models.create import create
from samesight.models.layers import summarise
from samesight.models.shipped import SHIPPED
from samesight.report.figures import wilson
from samesight.training.memory import kept_memory

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "cifar_budget.json"
PICTURE = HERE / "cifar_budget.png"
PARAMETERS, MACS = 1_259_242, 133_136_704
SIDE, MOVE = 32, 2
MUON_RATE, ADAM_RATE = 0.12, 0.004  # the highest
SAVE_STEPS = 25
KEPT = ("step", "cpu_s", "wall_s", "history", "losses")  # of a run, in its checkpoint
PACKAGES = ("samesight", "torch", "numpy", "pillow")


@dataclass(frozen=True)
class Run:
    """A network and how it learns."""

    title: str
    model: str
    colour: str
    then: bool = False  # the recipe of its time
    batch: int = 250


RUNS = {
    "s5-then": Run("S5's network, recipe of its time", "pruned_resnet", "#4d4d4d", then=True, batch=128),
    "s5-now": Run("S5's network, today's recipe", "pruned_resnet", "#2471a3"),
    "best": Run("compact, today's recipe", "compact", "#c0392b"),
    "resnet56": Run("ResNet-56, today's recipe", "resnet56", "#b7950b"),
}


def read_photos(source: Path, work: Path) -> dict[str, Tensor]:
    """train and test pictures, uint8 (n, 3, 32, 32), and their labels, int64; decoded once into `work`."""
    cache = work / "photos.npz"
    if not cache.is_file():
        from samesight.data.photos import PhotoOptions, open_photos

        found = open_photos(str(source), PhotoOptions(offline=True))
        arrays: dict[str, list] = {
            name: [] for part in ("train", "test") for name in (part, f"{part}_labels")
        }
        for photo in found.items:
            pixels = np.asarray(Image.open(photo.path).convert("RGB"))
            arrays[photo.part].append(pixels.transpose(2, 0, 1))
            arrays[f"{photo.part}_labels"].append(found.labels.index(photo.label))
        work.mkdir(parents=True, exist_ok=True)
        np.savez(cache, **{name: np.array(values) for name, values in arrays.items()})
    with np.load(cache) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


class Pictures:
    """Photos on a device, handed out in batches (n, 3, 32, 32), channels_last, as a network sees them."""

    def __init__(self, photos: dict[str, Tensor], model: str, device: torch.device) -> None:
        self.photos = {name: tensor.to(device) for name, tensor in photos.items()}
        shown = SHIPPED[model].preprocess
        self.mean, self.std = (
            torch.tensor(x, device=device).view(1, 3, 1, 1) for x in (shown.mean, shown.std)
        )
        self.around = functional.pad(self.photos["train"].float(), (MOVE,) * 4, mode="reflect").byte()

    def epoch(self, number: int, seed: int, batch: int, moved: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's whole batches, with the photos moved and mirrored if `moved`; the same for a seed."""
        count = len(self.photos["train"])
        device = self.around.device
        random = torch.Generator().manual_seed(1000 * seed + number)
        order = torch.randperm(count, generator=random).to(device)
        shifts = torch.randint(0, 2 * MOVE + 1, (2, count), generator=random).to(device)
        # Mirrored at first by chance, then every other epoch: two epochs see both sides of every photo.
        first = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.5
        mirrored = (first ^ bool(number % 2)).to(device)
        for start in range(0, count - batch + 1, batch):
            chosen = order[start : start + batch]
            if moved:
                pixels = self._moved(chosen, shifts[:, chosen], mirrored[chosen])
            else:
                pixels = self.photos["train"][chosen]
            yield self._normalised(pixels), self.photos["train_labels"][chosen]

    def test(self, batch: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """The test photos, as they are."""
        for pixels, labels in zip(
            self.photos["test"].split(batch), self.photos["test_labels"].split(batch), strict=True
        ):
            yield self._normalised(pixels), labels

    def some(self, count: int = 5000) -> Tensor:
        """Train photos to start a network from."""
        return self._normalised(self.photos["train"][:: max(1, len(self.photos["train"]) // count)])

    def _moved(self, chosen: Tensor, shifts: Tensor, mirrored: Tensor) -> Tensor:
        side = torch.arange(SIDE, device=chosen.device)
        columns = torch.where(mirrored[:, None], side.flip(0), side) + shifts[1][:, None]
        rows = side + shifts[0][:, None]
        planes = self.around[chosen]
        return planes[
            torch.arange(len(chosen), device=chosen.device)[:, None, None, None],
            torch.arange(3, device=chosen.device)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]

    def _normalised(self, pixels: Tensor) -> Tensor:
        scaled = (pixels.float() / 255 - self.mean) / self.std
        return scaled.contiguous(memory_format=torch.channels_last)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum made orthogonal by a Newton-Schulz iteration, for convolutions before a BatchNorm.

    Before each step a bank of n filters is scaled to the norm sqrt(n), so that `lr` is a relative step.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Learn from the gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["velocity"] = torch.zeros_like(weight)
                state["velocity"].mul_(group["momentum"]).add_(weight.grad)
                push = weight.grad.add(state["velocity"], alpha=group["momentum"])
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                weight.add_(orthogonal(push.flatten(1)).view_as(weight), alpha=-group["lr"])


def orthogonal(matrix: Tensor, rounds: int = 4) -> Tensor:
    """About U Vᵀ for U S Vᵀ = `matrix`; the quintic's coefficients are those of Jordan et al. (2024)."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@torch.no_grad()
def start_from(network: nn.Module, pictures: Tensor) -> None:
    """Make the first convolution a whitening of `pictures`, in both signs, the others near the identity."""
    first, *others = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    for convolution in others:
        if convolution.in_channels <= convolution.out_channels:
            nn.init.dirac_(convolution.weight[: convolution.in_channels])
    patches = functional.unfold(pictures, first.kernel_size).transpose(1, 2).flatten(0, 1)[::7].double()
    values, vectors = torch.linalg.eigh(torch.cov(patches.T.cpu()))
    filters = (vectors / (values + 5e-4).sqrt()).flip(1).T  # the strongest first
    half = min(first.out_channels // 2, len(filters))
    filters = filters[:half].reshape(half, *first.weight.shape[1:]).to(first.weight)
    first.weight[: 2 * half].copy_(torch.cat([filters, -filters]))


def rates(step: int, steps: int) -> float:
    """The share of the highest rate: up in the first fifth of the steps, down to zero at their end."""
    return min((step + 1) / (0.2 * steps), (steps - step) / (0.8 * steps))


def optimisers(network: nn.Module, run: Run) -> list[torch.optim.Optimizer]:
    """What makes the network learn, with the highest rates."""
    if run.then:
        return [torch.optim.Adam(network.parameters(), lr=0.001)]
    filters = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    rest = [p for p in network.parameters() if not any(p is f for f in filters)]
    return [
        Muon(filters, lr=MUON_RATE, momentum=0.6),
        torch.optim.AdamW(rest, lr=ADAM_RATE, weight_decay=0.0),
    ]


@torch.inference_mode()
def accuracy(network: nn.Module, pictures: Pictures) -> float:
    """The share of test photos that are right, in one pass."""
    network.eval()
    right = 0
    for x, labels in pictures.test():
        with torch.autocast(x.device.type, torch.bfloat16):
            right += int((network(x).argmax(1) == labels).sum())
    network.train()
    return right / len(pictures.photos["test"])


class Training:
    """A run under way, and its checkpoint."""

    def __init__(self, name: str, epochs: float, seed: int, pictures: Pictures, work: Path) -> None:
        self.run, self.epochs, self.seed, self.pictures = RUNS[name], epochs, seed, pictures
        self.file = work / f"{name}-{epochs:g}-{seed}.pth"
        device = pictures.around.device
        torch.manual_seed(seed)
        options = {} if self.run.then or self.run.model != "pruned_resnet" else {"dropout": "0"}
        network = create(self.run.model, 10, options=options, size=(SIDE, SIDE))
        if not self.run.then:
            start_from(network, pictures.some().cpu())
        self.network = network.to(device, memory_format=torch.channels_last).train()
        self.optimisers = optimisers(self.network, self.run)
        self.highest = [optimiser.param_groups[0]["lr"] for optimiser in self.optimisers]
        self.per_epoch = len(pictures.photos["train"]) // self.run.batch
        self.step, self.cpu_s, self.wall_s = 0, 0.0, 0.0
        self.history: list[dict] = []
        self.losses: list[float] = []
        if self.file.is_file():
            self._load()

    def go(self) -> Iterator[dict]:
        """Train on from where it stands; the curve's points, one at each epoch's end."""
        steps, last = round(self.epochs * self.per_epoch), (time.process_time(), time.perf_counter())
        while self.step < steps:
            epoch, done = divmod(self.step, self.per_epoch)
            batches = self.pictures.epoch(epoch, self.seed, self.run.batch, not self.run.then)
            for number, (x, labels) in enumerate(batches):
                if number < done:
                    continue
                if self.step == steps:
                    break
                self._learn(x, labels, steps)
                now = time.process_time(), time.perf_counter()
                self.cpu_s, self.wall_s = self.cpu_s + now[0] - last[0], self.wall_s + now[1] - last[1]
                last = now
                if self.step % SAVE_STEPS == 0:
                    self._save()
                    self._say(steps)
            point = {
                "epoch": round(self.step / self.per_epoch, 2),
                "train_loss": round(float(np.mean(self.losses)), 4),
                "test_accuracy": round(accuracy(self.network, self.pictures), 4),
                "cpu_s": round(self.cpu_s, 1),
                "wall_s": round(self.wall_s, 1),
                "load": round(os.getloadavg()[0], 1),
            }
            self.history.append(point)
            self.losses = []
            self._save()
            last = time.process_time(), time.perf_counter()
            yield point

    def _learn(self, x: Tensor, labels: Tensor, steps: int) -> None:
        torch.manual_seed(1_000_003 * self.seed + self.step)  # dropout's chance, the same after a stop
        if not self.run.then:
            for optimiser, highest in zip(self.optimisers, self.highest, strict=True):
                optimiser.param_groups[0]["lr"] = highest * rates(self.step, steps)
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = self.network(x)
        smoothing = 0.0 if self.run.then else 0.2
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        self.network.zero_grad()
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()
        self.losses.append(loss.item())
        self.step += 1

    def _say(self, steps: int) -> None:
        loss = np.mean(self.losses[-SAVE_STEPS:])
        print(f"  {self.file.stem} {self.step}/{steps} loss {loss:.3f} cpu {self.cpu_s:.0f} s", flush=True)

    def _save(self) -> None:
        aside = self.file.with_suffix(".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                **{name: getattr(self, name) for name in KEPT},
            },
            aside,
        )
        aside.replace(self.file)

    def _load(self) -> None:
        kept = torch.load(self.file, map_location=self.pictures.around.device, weights_only=True)
        self.network.load_state_dict(kept["network"])
        for optimiser, state in zip(self.optimisers, kept["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        for name in KEPT:
            setattr(self, name, kept[name])


def train(
    name: str, epochs: float, seed: int, photos: dict[str, Tensor], work: Path, device: torch.device
) -> None:
    """Train one run to its end; its row in the results grows with each epoch."""
    training = Training(name, epochs, seed, Pictures(photos, RUNS[name].model, device), work)
    summary = summarise(create(RUNS[name].model, 10, size=(SIDE, SIDE)), (SIDE, SIDE))
    assert summary.parameters <= PARAMETERS, summary.parameters
    assert summary.macs <= MACS, summary.macs
    with kept_memory():
        for point in training.go():
            print(f"{name}: {point}", flush=True)
            keep(
                {
                    "run": name,
                    "title": RUNS[name].title,
                    "model": RUNS[name].model,
                    "epochs": epochs,
                    "complete": point["epoch"] >= epochs,
                    "seed": seed,
                    "batch": RUNS[name].batch,
                    "photos": {part: len(photos[part]) for part in ("train", "test")},
                    "parameters": summary.parameters,
                    "macs": summary.macs,
                    "accuracy": point["test_accuracy"],
                    "interval": interval(point["test_accuracy"], len(photos["test"])),
                    "history": training.history,
                    "machine": machine(device),
                    "date": time.strftime("%Y-%m-%d"),
                }
            )


def keep(row: dict) -> None:
    """Put a row into the results, in the place of the one for the same run, epochs and seed."""
    rows = json.loads(RESULTS.read_text())["runs"] if RESULTS.is_file() else []
    same = ("run", "epochs", "seed")
    rows = [other for other in rows if any(other[key] != row[key] for key in same)]
    rows = sorted([*rows, row], key=lambda r: (-r["epochs"], list(RUNS).index(r["run"]), r["seed"]))
    write_json(RESULTS, {"budget": {"parameters": PARAMETERS, "macs": MACS}, "runs": rows})


def interval(share: float, photos: int) -> list[float]:
    """The 95 % interval of a share of photos."""
    likely = wilson(round(share * photos), photos)
    return [round(likely.low, 4), round(likely.high, 4)]


def machine(device: torch.device) -> dict:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "arithmetic": "bfloat16 autocast over float32 weights",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def cpu_name() -> str:
    """The processor as Linux names it, with what matters to bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    return " ".join([fields.get("model name", platform.machine()), *flags])


def draw() -> None:
    """The curves of the longest runs that all are there of, one colour a run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = json.loads(RESULTS.read_text())["runs"]
    longest = max(row["epochs"] for row in rows)
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for row in (row for row in rows if row["epochs"] == longest):
        run = RUNS[row["run"]]
        epochs, right = zip(*((p["epoch"], 100 * p["test_accuracy"]) for p in row["history"]), strict=True)
        axes.plot(epochs, right, "o-", color=run.colour, label=f"{run.title}: {right[-1]:.1f} %")
    axes.set(xlabel="epoch", ylabel="test photos right, %", xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    axes.set_title("CIFAR-10 within 1,259,242 parameters and 133.1 M multiply-accumulates", fontsize=10)
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    """Train what is asked for, then draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="CIFAR-10: a folder of train/ and test/, or its archive")
    parser.add_argument("--epochs", type=float, default=8, help="of each run (default: %(default)s)")
    parser.add_argument("--runs", default=",".join(RUNS), help="which, in this order (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="on a CPU (default: %(default)s)")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/cifar_budget"), help="decoded photos, checkpoints"
    )
    parser.add_argument("--picture", action="store_true", help="only draw what is there")
    args = parser.parse_args()
    if not args.picture:
        torch.set_num_threads(args.threads)
        photos = read_photos(args.photos, args.work)
        for name in args.runs.split(","):
            train(name, args.epochs, args.seed, photos, args.work, torch.device(args.device))
    draw()


if __name__ == "__main__":
    main()
