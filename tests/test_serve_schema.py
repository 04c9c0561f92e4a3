"""schemathesis over the description: whatever it allows is answered as it says, photos among it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving import Server, serving

from samesight.bundle import Bundle

pytestmark = [pytest.mark.row("R2"), pytest.mark.slow]


def photo(form: str, side: int, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (side, side + 3, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, form)
    return stream.getvalue()


WHOLE = st.builds(photo, st.sampled_from(["JPEG", "PNG", "WEBP"]), st.integers(1, 60), st.integers(0, 99))
CUT = st.builds(lambda data, share: data[: int(share * len(data))], WHOLE, st.floats(0, 1))
PHOTOS = WHOLE | CUT | st.binary(max_size=60)
for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, PHOTOS)
schemathesis.openapi.format("binary", PHOTOS)

# No schema can say which bytes are a whole photo, nor that `data` is as long as `shape` says. So the check
# that all that a schema allows is accepted (positive_data_acceptance) is left out; all others are held.


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("schema"), bundle.folder) as running:
        yield running


def test_the_server_does_as_it_says(server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 14
    for operation in operations:

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(), st.booleans())
        def hold(case: schemathesis.Case, real: bool) -> None:
            if real and "name" in case.path_parameters:  # a model that there is
                case.path_parameters["name"] = "tiny"
                if "version" in case.path_parameters:
                    case.path_parameters["version"] = "1.0.0"
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        hold()
    statuses = {event["status"] for event in server.events("request") if event["route"] == "classify"}
    assert {200, 415, 422} <= statuses, "photos that are whole, none, and spoilt were among them"
    assert not server.events("fault")
