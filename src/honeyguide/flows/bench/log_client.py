"""A client of the log's benchmark, in a process of its own: `python -m ... PORT REPEAT NUMBER BATCHES BATCH`.

It makes its bodies, says so, waits for a line, sends them one after the other over one socket, and ends.
"""

from __future__ import annotations

import socket
import sys

import msgspec

from honeyguide.errors import ResourceError
from honeyguide.schema.wire import EventsRequest


def main(port: int, repeat: int, number: int, batches: int, size: int) -> None:
    """Send, each batch once the one before is answered. Time goes on from batch to batch and from repeat to repeat."""
    from honeyguide.flows.bench.log import events

    requests = []
    for n in range(batches):
        seed = 1_000_000_000 + (repeat * 100 + number) * batches + n
        body = msgspec.json.encode(EventsRequest(events(size, seed, at_s=12 + 5 * repeat + 0.012 * n)))
        head = f"POST /v1/events HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    print("ready", flush=True)
    sys.stdin.readline()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):
                part = connection.recv(1 << 16)
                if not part:
                    raise ResourceError(expected="an answer", got="a closed connection", do="See the server's log.")
                answer += part
            if f'"accepted":{size},'.encode() not in answer:
                raise ResourceError(expected=f"{size} accepted", got=repr(answer[-200:]), do="See the server's log.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
