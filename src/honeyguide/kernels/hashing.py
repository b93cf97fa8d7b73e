"""Strings to stable numbers: the same on every machine, process and Python version (unlike `hash`).

Stands in the request path of experiments, so it imports the standard library only.
"""

from __future__ import annotations

import unicodedata
from hashlib import blake2b

__all__ = ["hash64", "normalised", "uniform"]


def hash64(key: str, salt: str = "") -> int:
    """A 64-bit hash in [0, 2**64), the first eight bytes of BLAKE2b (RFC 7693), little-endian.

    Different salts give independent hashes of the same key; the salt's length is part of what is hashed, so
    ("ab", "c") and ("b", "ca") differ. About one microsecond.
    """
    data = f"{len(salt)}:{salt}{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def uniform(key: str, salt: str = "") -> float:
    """A number in [0, 1) with 53 random bits, the top bits of `hash64`."""
    return (hash64(key, salt) >> 11) * 2.0**-53


def normalised(text: str) -> str:
    """A text by which two spellings of one query are equal: NFKC, no case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
