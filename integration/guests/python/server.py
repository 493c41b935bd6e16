"""Proves: a `wasi:http/incoming-handler` component made from Python (CPython inside). Each path shows one thing:

    /            200, `hello from python`
    /echo        200, the request's body
    /env         200, the environment, one NAME=VALUE a line
    /sleep?ms=N  200 after N milliseconds
    others       404
"""

import os
import time
from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

# The most that one `blocking-write-and-flush` takes (wasi:io), and what is asked for at once.
PART = 4096


def answer(request: IncomingRequest) -> tuple[int, bytes]:
    """Status and body of the response."""
    target = urlsplit(request.path_with_query() or "/")
    match target.path:
        case "/":
            return 200, b"hello from python\n"
        case "/echo":
            return 200, body_of(request)
        case "/env":
            return 200, "".join(f"{name}={value}\n" for name, value in os.environ.items()).encode()
        case "/sleep":
            milliseconds = int(parse_qs(target.query)["ms"][0])
            time.sleep(milliseconds / 1000)
            return 200, f"slept {milliseconds} ms\n".encode()
        case other:
            return 404, f"no such path: {other}\n".encode()


def body_of(request: IncomingRequest) -> bytes:
    """All of the request's body."""
    parts = []
    with request.consume() as body, body.stream() as stream:
        while True:
            try:
                parts.append(stream.blocking_read(PART))
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return b"".join(parts)
                raise


class IncomingHandler(exports.IncomingHandler):
    """The component's export."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        status, content = answer(request)
        response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
        response.set_status_code(status)
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            for start in range(0, len(content), PART):
                stream.blocking_write_and_flush(content[start : start + PART])
        OutgoingBody.finish(body, None)
