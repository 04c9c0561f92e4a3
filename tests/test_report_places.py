"""Which copy the report names for a browser and for a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_bundle

from samesight.bundle import Bundle
from samesight.report import places
from samesight.report.places import advise, places_part

pytestmark = pytest.mark.row("R3")


def test_a_small_network_goes_whole_to_both(web_bundle: Bundle) -> None:
    browser, server = advise(web_bundle)
    assert (browser.place, browser.copy) == ("Browser", "fp32")
    assert (server.place, server.copy) == ("Server, CPU", "fp32")
    assert "smaller network" not in browser.why
    assert "samesight quantize" in server.why
    page = places_part(web_bundle)
    assert "Which copy where" in page
    assert browser.why.split(".")[0] in page


def test_a_large_network_goes_as_half_and_is_called_large(
    web_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MIB", 64)  # as if the network were larger
    browser, _ = advise(web_bundle)
    assert browser.copy == "fp16"
    monkeypatch.setattr(places, "MIB", 1)
    assert "a smaller network is worth more than a smaller copy" in advise(web_bundle)[0].why
    alone = replace_copies(web_bundle, ("fp32",))
    assert advise(alone)[0].copy == "fp32"


def test_an_int8_copy_is_for_the_server(
    web_bundle: Bundle, web_photos: list[tuple[Path, str]], tmp_path: Path
) -> None:
    quantized = tiny_bundle.with_int8(web_bundle, tmp_path / "int8", web_photos)
    browser, server = advise(quantized)
    assert (browser.copy, server.copy) == ("fp32", "int8")
    assert "take fp32" in server.why
    copies = tuple(
        replace(copy, recorded={**copy.recorded, "drop": 0.004}) if copy.name == "int8" else copy
        for copy in quantized.copies
    )
    assert "It lost 0.4" in advise(replace(quantized, copies=copies))[1].why


def replace_copies(bundle: Bundle, names: tuple[str, ...]) -> Bundle:
    return replace(bundle, copies=tuple(copy for copy in bundle.copies if copy.name in names))
