"""The body of a reply: read up to a cap, and unpacked where a server packs it although nobody asked."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping

BODY_CAP = 2 * 1024 * 1024
"""The most bytes of a reply that are read, packed or unpacked; a longer one is no answer of a model."""

_PACKED = ("gzip", "x-gzip", "deflate")
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_GZIP = b"\x1f"  # its first byte; the second may come with the next chunk
MOST_MEMBERS = 1_000


class BodyTooLarge(Exception):
    """The body is longer than the cap."""


class CannotUnpack(Exception):
    """The body is packed in a way that cannot be undone."""


async def read_body(chunks: AsyncIterable[bytes], headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    """The pieces of a body, unpacked; `headers` are those it came with, by lower-case names.

    Raises `BodyTooLarge` before more than the cap is held in memory, and `CannotUnpack`.
    """
    encoding = encoding_of(headers)
    unpacking = _Unpacking() if encoding in _PACKED else None
    read = given = 0
    async for chunk in chunks:
        read += len(chunk)
        try:
            piece = unpacking.unpack(chunk, BODY_CAP - given + 1) if unpacking else chunk
        except zlib.error as error:
            raise CannotUnpack(f"it is not {encoding}: {error}") from error
        given += len(piece)
        if max(read, given) > BODY_CAP:
            raise BodyTooLarge
        yield piece
    if unpacking and read and not unpacking.is_whole:
        raise CannotUnpack(f"it is {encoding} without its end")


class _Unpacking:
    """A packed body on its way: one member, or several one behind the other (RFC 1952, 2.2).

    What stands behind the last one and is no other, such as padding, is passed over.
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._members = 1

    @property
    def is_whole(self) -> bool:
        """Whether the last member has come to its end."""
        return self._member.eof

    def unpack(self, packed: bytes, most: int) -> bytes:
        """What these bytes unpack to, up to so many bytes. Raises `zlib.error`."""
        unpacked = b""
        while packed and len(unpacked) < most:
            if self._member.eof:
                if not packed.startswith(_GZIP) or self._members == MOST_MEMBERS:
                    break
                self._member, self._members = zlib.decompressobj(_GZIP_OR_ZLIB), self._members + 1
            unpacked += self._member.decompress(packed, most - len(unpacked))
            packed = self._member.unused_data
        return unpacked


def check_head(headers: Mapping[str, str]) -> None:
    """Raises `BodyTooLarge` or `CannotUnpack` when the head alone says so."""
    if int(headers.get("content-length") or 0) > BODY_CAP:
        raise BodyTooLarge
    if (encoding := encoding_of(headers)) not in ("", *_PACKED):
        raise CannotUnpack(f"its content-encoding is {encoding}")


def encoding_of(headers: Mapping[str, str]) -> str:
    """How the body is packed, as its head says it; empty when it is not."""
    names = (name.strip().lower() for name in headers.get("content-encoding", "").split(","))
    return ", ".join(name for name in names if name not in ("", "identity"))
