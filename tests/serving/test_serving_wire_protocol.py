"""A response in one write, and bodies that need no closer look at their ids."""

from __future__ import annotations

import asyncio

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.schema.wire import EventIn, EventsRequest
from honeyguide.serving.record import PlainEventsRequest, _clean
from honeyguide.serving.wire_protocol import _OneWrite


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed_after = -1

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed_after = len(self.written)


def test_a_head_and_its_body_leave_together_and_a_head_alone_leaves_too() -> None:
    async def play() -> list[list[bytes]]:
        loop, seen = asyncio.get_running_loop(), []
        transport = _Transport()
        one = _OneWrite(transport, loop)
        one.write(b"head")
        one.write(b"body")
        seen.append(transport.written.copy())
        one.write(b"")  # an empty body after a head that is gone
        one.write(b"only a head")
        await asyncio.sleep(0)
        seen.append(transport.written.copy())
        one.write(b"last words")
        one.close()
        seen.append(transport.written.copy())
        assert transport.closed_after == 3
        await asyncio.sleep(0)
        assert len(transport.written) == 3
        return seen

    first, second, third = asyncio.run(play())
    assert first == [b"headbody"]
    assert second == [b"headbody", b"only a head"]
    assert third == [b"headbody", b"only a head", b"last words"]


_ids = st.text(min_size=1, max_size=6) | st.sampled_from(["a", "\x7f", "\x00", "\\", "\u2028", "é", '"'])


@given(user=_ids, item=_ids, session=st.none() | _ids, ascii_only=st.booleans())
def test_a_plain_body_holds_no_control_character(user: str, item: str, session: str | None, ascii_only: bool) -> None:
    import json

    batch = EventsRequest([EventIn(user, item, "view", session_id=session)])
    body = json.dumps(msgspec.to_builtins(batch), ensure_ascii=ascii_only).encode(errors="replace")
    if PlainEventsRequest.fits(body):
        assert _clean(batch)
        assert msgspec.json.decode(body, type=PlainEventsRequest) == PlainEventsRequest(batch.events)
    elif user.isascii() and item.isascii() and (session or "").isascii():
        assert any(c in user + item + (session or "") for c in '"\\\x7f') or not _clean(batch)
