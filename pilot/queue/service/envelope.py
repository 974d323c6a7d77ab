"""The envelope of every answer, PanDA's: success, message, data."""

import json

from pilot.model.plain import to_plain


def enveloped(data: object, message: str = "", success: bool = True) -> bytes:
    """The envelope around an answer."""
    whole = {"success": success, "message": message, "data": to_plain(data)}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
