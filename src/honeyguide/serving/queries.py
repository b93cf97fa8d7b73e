"""What an address says beside its route: an item's id, ids and numbers of a query string."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.types import Scope

from honeyguide.errors import RequestError
from honeyguide.serving.record import has_control_characters
from honeyguide.serving.refusals import MalformedRequestError

__all__ = ["asked", "item_id_of", "suggest_query"]

_ITEMS = b"/v1/items/"
_LONGEST_ID = 512
_SUGGESTIONS, _MOST_SUGGESTIONS = 8, 50


def item_id_of(scope: Scope) -> str:
    """The rest of the path, whatever it holds: slashes, spaces, quotes, any script."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    try:
        item_id = unquote_to_bytes(raw[raw.index(_ITEMS) + len(_ITEMS) :]).decode()
    except UnicodeDecodeError as error:
        raise MalformedRequestError(
            expected="an item id in percent-encoded UTF-8", got=str(error), do="Encode the id."
        ) from error
    if not 0 < len(item_id) <= _LONGEST_ID or has_control_characters(item_id):
        raise RequestError(
            expected=f"an item id of 1 to {_LONGEST_ID} characters, none of them a control character",
            got=f"{item_id[:80]!a}",
            do="Put the id behind /v1/items/, percent-encoded.",
        )
    return item_id


def asked(query: bytes, names: tuple[str, ...]) -> dict[str, str]:
    """Exactly these parameters of a query string, each an id."""
    try:
        given = dict(parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=8))
    except ValueError as error:
        raise MalformedRequestError(
            expected="a query string", got=str(error), do=f"Send {'=...&'.join(names)}=..., percent-encoded."
        ) from error
    if given.keys() != set(names):
        raise RequestError(
            expected=" and ".join(names),
            got=", ".join(sorted(given)) or "nothing",
            do=f"Ask ?{'=...&'.join(names)}=...",
        )
    for name, value in given.items():
        if not 0 < len(value) <= _LONGEST_ID or has_control_characters(value):
            raise RequestError(
                expected=f"{name} of 1 to {_LONGEST_ID} characters, none of them a control character",
                got=f"{value[:80]!a}", do="Send it as the answer has it.",
            )  # fmt: skip
    return given


def suggest_query(query: bytes) -> tuple[str, int, str | None]:
    """`prefix`, `k` and `user_id` of a query string."""
    try:
        given = dict(parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=8))
    except ValueError as error:  # bytes that are no UTF-8 are one too
        raise MalformedRequestError(
            expected="a query string", got=str(error), do="Send prefix=...&k=..., percent-encoded."
        ) from error
    k = given.get("k", str(_SUGGESTIONS))
    if "prefix" not in given or given.keys() - {"prefix", "k", "user_id"}:
        raise RequestError(
            expected="prefix, and k if you like", got=", ".join(sorted(given)) or "nothing", do="Ask ?prefix=...&k=8."
        )
    if not (k.isascii() and k.isdigit() and len(k) <= 3 and 1 <= int(k) <= _MOST_SUGGESTIONS):
        raise RequestError(expected=f"k from 1 to {_MOST_SUGGESTIONS}", got=f"{k[:20]!a}", do="Ask ?prefix=...&k=8.")
    if len(given["prefix"]) > _LONGEST_ID:
        raise RequestError(
            expected=f"a prefix of at most {_LONGEST_ID} characters",
            got=f"{len(given['prefix'])}",
            do="Send what was typed last.",
        )
    user_id = given.get("user_id")
    if user_id is not None and (not 0 < len(user_id) <= _LONGEST_ID or has_control_characters(user_id)):
        raise RequestError(
            expected=f"user_id of 1 to {_LONGEST_ID} characters, none of them a control character",
            got=f"{user_id[:80]!a}", do="Leave it out, or send the person's id.",
        )  # fmt: skip
    return given["prefix"], int(k), user_id
