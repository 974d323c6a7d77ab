"""iDDS in the bed: hyper-parameter points in one file, behind the client that PanDA's server passes commands on to.

Only the two calls that jobs of `phpo` make; the points are the test's. What the real service answers to them is in
the reference: a list of points, and a word that the update was successful.
"""

import json
import os
from pathlib import Path
from typing import Any

POINTS = Path(os.environ["BED_CACHE"]) / "points.json"


class Client:
    """As `idds.client.client.Client`, for points."""

    def __init__(self, host: str) -> None:
        self._host = host

    def set_original_user(self, user_name: str) -> None:
        pass

    def get_hyperparameters(self, workload_id: int, request_id: int | None, id: str) -> list[dict[str, Any]]:  # noqa: A002
        return [{"id": id, **self._points()[f"{workload_id}/{id}"]}]

    def update_hyperparameter(self, workload_id: int, request_id: int | None, id: str, loss: float) -> dict[str, Any]:  # noqa: A002
        points = self._points()
        points[f"{workload_id}/{id}"]["loss"] = loss
        POINTS.write_text(json.dumps(points))
        return {"status": 0, "message": "update successfully"}

    def _points(self) -> dict[str, Any]:
        found = json.loads(POINTS.read_text())
        assert isinstance(found, dict)
        return found


def install() -> None:
    """Puts it into the stand-in for iDDS."""
    import idds.client.client
    import idds.common.utils

    idds.client.client.Client = Client
    idds.common.utils.get_rest_host = lambda: "bed"
    idds.common.utils.json_loads = json.loads
