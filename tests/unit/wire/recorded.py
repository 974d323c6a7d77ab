"""Recorded job definitions of PanDA's, and a site to translate them for."""

import json
from pathlib import Path

from pilot.wire.places import Endpoint
from pilot.wire.site import Site

FOLDER = Path(__file__).parents[2] / "adapters/recorded/panda"

SITE = Site(
    queue="TEST_CE",
    resource="TEST_QUEUE",
    site="TEST_SITE",
    node="wn1.test.local",
    label="test",
    batch="slurm 77",
    batch_kind="SLURM",
    version="1.2",
    log_url="https://logs.test.local/77.out",
    endpoints={"TEST_RSE": Endpoint("file:///rse/in", "file:///rse/out")},
)


def definition(name: str, **changes: object) -> dict[str, object]:
    """A recorded definition, changed for one case."""
    found = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return {**found, **changes}
