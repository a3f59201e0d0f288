"""The body of a reply: whatever is sent, no more than the cap is ever held."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from enrichlog.body import BODY_CAP, BodyTooLarge, CannotUnpack, read_body

BOMB = gzip.compress(b" " * 100 * BODY_CAP)


def read(*chunks: bytes, encoding: str = "gzip") -> bytes:
    async def sent() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def whole() -> bytes:
        return b"".join([piece async for piece in read_body(sent(), {"content-encoding": encoding})])

    return asyncio.run(whole())


def test_a_body_may_come_in_pieces_of_any_size() -> None:
    text = gzip.compress(b"Data Engineer")
    assert read(*(text[place : place + 1] for place in range(len(text)))) == b"Data Engineer"
    assert read(text[:5], b"", text[5:]) == b"Data Engineer"


def test_what_unpacks_to_a_hundred_times_the_cap_takes_no_more_memory_than_the_cap() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            read(BOMB)
        assert BODY_CAP < tracemalloc.get_traced_memory()[1] < 5 * BODY_CAP
    finally:
        tracemalloc.stop()


def test_a_packed_body_may_have_several_members_which_count_together() -> None:
    members = gzip.compress(b"Data ") + gzip.compress(b"Engineer")
    assert read(members) == read(members[:7], members[7:]) == b"Data Engineer"
    with pytest.raises(BodyTooLarge):
        read(*[gzip.compress(b" " * (BODY_CAP // 4))] * 5)


def test_a_packed_body_without_its_end_is_refused_and_what_stands_behind_it_is_passed_over() -> None:
    text = gzip.compress(b"Data Engineer")
    with pytest.raises(CannotUnpack):
        read(text[:-10])
    for behind in (b"\0" * 8, b"\r\n", b"something else"):
        assert read(text + behind) == read(text, behind) == b"Data Engineer"
    assert read() == read(b"") == b""  # an empty body that is called packed is empty
