"""Large answers, sent piece by piece: only so does TLS tell us that the other end does not read."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PIECE_BYTES = 128 << 10


class Pieces(Response):
    """The same answer; each piece waits until there is room for it."""

    def __init__(self, whole: Response) -> None:
        super().__init__(status_code=whole.status_code)
        self.body, self.raw_headers = whole.body, whole.raw_headers

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Sends it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        for begin in range(0, len(body), PIECE_BYTES):
            piece = body[begin : begin + PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": begin + PIECE_BYTES < len(body)})


def in_pieces(whole: Response) -> Response:
    """A small answer stays as it is."""
    body = getattr(whole, "body", b"")  # one that is streamed has none
    return Pieces(whole) if len(body) > PIECE_BYTES else whole
