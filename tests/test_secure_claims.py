"""What docs/threat-model.md claims, held to real runs: what passes between parties, and who learns what."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tiny_bundle import make_bundle, make_weights, write_photos

import samesight
from samesight.bundle import Bundle
from samesight.secure import party
from samesight.secure.graph import Graph
from samesight.secure.helperparty import serve_helper
from samesight.secure.imageparty import ImageSession
from samesight.secure.local import _free_places
from samesight.secure.modelparty import serve_model
from samesight.secure.party import Place
from samesight.secure.process import EngineProcess
from samesight.secure.protocols import PROTOCOLS
from samesight.secure.prove import golden_tensors
from samesight.secure.served import served_from
from samesight.secure.wire import Address
from samesight.verify.golden import REFERENCE, read_golden

Array = NDArray[Any]


class Wires:
    """Between the parties: each reaches another through a wire of its own, and what passes is kept."""

    def __init__(self) -> None:
        self.passed: dict[str, list[bytes]] = defaultdict(list)
        self._servers: list[socket.socket] = []

    def to(self, name: str, real: Address) -> Address:
        """Where a party reaches `real` and, at the next port, the sign-in there."""
        while True:
            first = socket.create_server(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with suppress(OSError, OverflowError):
                second = socket.create_server(("127.0.0.1", port + 1))
                break
            first.close()
        for server, target in ((first, real.port), (second, real.port + 1)):
            self._servers.append(server)
            threading.Thread(target=self._take, args=(server, target, name), daemon=True).start()
        return Address("127.0.0.1", port)

    def _take(self, server: socket.socket, target: int, name: str) -> None:
        with suppress(OSError):
            while True:
                near = server.accept()[0]
                try:
                    far = socket.create_connection(("127.0.0.1", target))
                except OSError:  # not there yet: whoever asked asks again
                    near.close()
                    continue
                for source, sink, way in ((near, far, "out"), (far, near, "back")):
                    words = (source, sink, f"{name} {way}")
                    threading.Thread(target=self._carry, args=words, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.passed[name].append(data)
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for server in self._servers:
            server.close()


def shows(data: bytes, numbers: Array, bits: int) -> bool:
    """Whether a few of `numbers` stand in `data` one behind the other, as floats or in fixed point.

    At every byte; the fixed point may be rounded either way, and may have a share's other half in between.
    """
    run = min(4, numbers.size)
    floats = set(numbers.astype("<f4").view(np.uint32).tolist()) - {0}
    exact = np.floor(numbers.astype(np.float64) * 2.0**bits).astype(np.int64)
    exact = exact[np.abs(exact) > 1 << 12]  # small ones are counters and sizes of messages too
    fixed = {int(one) + more for one in exact.tolist() for more in (0, 1)}
    for kind, wanted in (("<u4", floats), ("<i8", fixed)):
        if not wanted:
            continue
        sought = np.array(sorted(wanted), dtype=kind)
        width = np.dtype(kind).itemsize
        for start in range(width):
            words = np.frombuffer(data[start : start + (len(data) - start) // width * width], kind)
            hit = np.isin(words, sought)
            for step in (1, 2):
                together = np.ones(max(0, len(hit) - step * (run - 1)), bool)
                for number in range(run):
                    together &= hit[number * step : number * step + len(together)]
                if together.any():
                    return True
    return False


@pytest.mark.parametrize("form", ["<f4", "fixed", "pairs"])
def test_the_search_finds_what_it_is_for(form: str) -> None:
    random = np.random.default_rng(1)
    numbers = random.standard_normal(100).astype(np.float32)
    noise = random.bytes(4001)
    fixed = np.round(numbers.astype(np.float64) * 2**20).astype("<i8")
    pairs = np.stack([fixed, random.integers(-(2**63), 2**63 - 1, 100)], axis=1)
    shown = {"<f4": numbers.tobytes(), "fixed": fixed.tobytes(), "pairs": pairs.tobytes()}[form]
    assert shows(noise + shown[16:200] + noise, numbers, 20)
    assert not shows(noise * 4, numbers, 20)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tiny")
    photos = write_photos(folder / "photos")
    return make_bundle(folder / "bundle", photos, make_weights(photos))


class Seen:
    """What each party's own process orders of its engine, and hears from it."""

    def __init__(self) -> None:
        self.orders: dict[str, list[tuple[str, bool]]] = defaultdict(list)  # kind, and whether with an array
        self.heard: dict[str, list[tuple[str, bool]]] = defaultdict(list)

    def engine(self) -> type[EngineProcess]:
        seen = self

        class Watched(EngineProcess):
            def __init__(self, *words: Any) -> None:
                self.owner = threading.current_thread().name
                super().__init__(*words)

            def order(self, kind: str, values: Array | None = None, **fields: Any) -> None:
                seen.orders[self.owner].append((kind, values is not None))
                super().order(kind, values, **fields)

            def receive(self) -> Any:
                message = super().receive()
                assert message is not None
                seen.heard[self.owner].append((message["kind"], "values" in message))
                return message

        return Watched


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires()
    yield made
    made.close()


@pytest.mark.row("X3")
def test_what_passes_shows_neither_image_nor_weights_and_one_party_learns_the_answer(
    tiny: Bundle, engine: Path, wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that three real parties send one another is read along, without TLS around it."""
    seen, chosen = Seen(), PROTOCOLS["aby3"]
    monkeypatch.setattr(party, "EngineProcess", seen.engine())
    real = _free_places(chosen)

    def place(role: str) -> Place:
        peers = {
            other: real[other] if other == role else wires.to(f"{role} to {other}", real[other])
            for other in chosen.roles
        }
        return Place(chosen, peers, engine)

    served = served_from(tiny, reveal_logits=True)
    model, helper = place("model"), place("helper")
    ready = threading.Event()
    more = {"sessions": 1, "ready": ready.set}
    threads = [
        threading.Thread(target=serve_model, args=(served, model), kwargs=more, name="model"),
        threading.Thread(target=serve_helper, args=(helper,), kwargs={"sessions": 1}, name="helper"),
    ]
    for thread in threads:
        thread.start()
        assert ready.wait(60)
    monkeypatch.setattr(threading.current_thread(), "name", "image")
    image = next(golden_tensors(tiny))
    expected = read_golden(tiny).logits[REFERENCE][0]
    with ImageSession(place("image"), logits=True) as session:
        answer = session.answer(image[None])
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert answer.logits is not None
    assert np.abs(answer.logits[0] - expected).max() < 1e-3

    traffic = {name: b"".join(parts) for name, parts in wires.passed.items()}
    everything = b"".join(traffic.values())
    for one in ("image to model out", "image to helper out", "model to helper out"):
        assert len(traffic[one]) > 8 * 1000, "the engines' shares go this way too"
    assert b'"GlobalAveragePool"' in everything, "the public part is there to be read"
    secrets = {
        "image": [image, image.transpose(1, 2, 0)],
        **{
            name: [values, values.transpose(2, 3, 1, 0) if values.ndim == 4 else values.T]
            for name, values in served.network.weights.items()
        },
        "answer": [answer.logits],
    }
    for name, forms in secrets.items():
        for numbers in forms:
            found = shows(everything, np.ascontiguousarray(numbers).reshape(-1), served.bits)
            assert not found, f"the {name} can be read on the wire"

    assert {kind for kind, has_array in seen.orders["model"] if has_array} == {"weights"}
    assert {kind for kind, has_array in seen.orders["image"] if has_array} == {"run"}
    assert not any(has_array for _, has_array in seen.orders["helper"])
    assert ("run", True) in seen.heard["image"]
    for other in ("model", "helper"):
        assert ("run", False) in seen.heard[other]
        assert not any(has_array for _, has_array in seen.heard[other]), "no answer is given to it"


SHARES = """
import json, sys
import numpy as np
import spu.api, spu.libspu
from samesight.secure.program import _config
from samesight.secure.protocols import PROTOCOLS

found = {}
x = np.random.default_rng(3).standard_normal(4000).astype(np.float32)
fixed = np.floor(x.astype(np.float64) * 2**20).astype(np.int64)
for name, protocol in PROTOCOLS.items():
    io = spu.api.Io(len(protocol.roles), _config(name, 20))
    owner = 0 if protocol.private_inputs else -1
    shares = io.make_shares(x, spu.libspu.Visibility.VIS_SECRET, owner)
    size = x.size * 8 * (2 if name == "aby3" else 1)  # behind a few bytes that say how many there are
    data = [b"".join(share.share_chunks)[-size:] for share in shares]
    words = [np.frombuffer(one, np.int64) for one in data]
    back = np.asarray(io.reconstruct(shares))
    rows = [one.reshape(-1, 2) for one in words] if name == "aby3" else None
    found[name] = {
        "returned": float(np.abs(back - x).max()),
        "zeros": [not any(one) for one in data],
        "bits": [float(np.unpackbits(np.frombuffer(one, np.uint8)).mean()) for one in data],
        "shown": [bool((np.abs(w[:, None] - fixed[None, :8]) <= 1).any()) for w in words],
    }
    if rows:
        total = rows[0][:, 0] + rows[0][:, 1] + rows[1][:, 1]
        found[name]["three add up"] = int(np.abs(total - fixed).max())
        found[name]["two do not"] = float((np.abs(rows[0].sum(axis=1) - fixed) > 2**40).mean())
print(json.dumps(found))
"""


@pytest.mark.row("X3")
def test_a_party_without_the_weights_holds_zeros_or_random_shares(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "samesight").symlink_to(Path(samesight.__file__).parent, target_is_directory=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([engine, "-c", SHARES], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    aby3, cheetah = found["aby3"], found["cheetah"]
    assert aby3["returned"] < 1e-5 > cheetah["returned"]
    assert not any(aby3["shown"]), "no party's share has the numbers in it"
    assert all(0.49 < share < 0.51 for share in aby3["bits"]), "each looks like noise"
    assert aby3["three add up"] <= 1, "all three parts are the number"
    assert aby3["two do not"] > 0.99, "two of the parts, which is what one party holds, are not"
    assert cheetah["zeros"] == [False, True], "the owner keeps its numbers, the other has zeros"


def test_the_public_part_has_no_numbers_of_the_network(tiny: Bundle) -> None:
    served = served_from(tiny)
    words = json.dumps(served.network.graph.to_json()).encode()
    numbers = {f"{value:.6g}" for one in served.network.weights.values() for value in one.reshape(-1)[:50]}
    assert not any(number.encode() in words for number in numbers if len(number) > 5)
    assert isinstance(Graph.from_json(json.loads(words)), Graph)
