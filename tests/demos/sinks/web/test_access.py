"""Who may ask for the page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.demos.sinks.web.access import Buckets, PageAccess, is_loopback


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.2", False),
        ("localhost.example.org", False),
    ],
)
def test_only_beyond_this_machine_a_token_is_asked_for(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
    access = PageAccess(host)
    assert (access.token is None) is alone
    assert access.knows(None) is alone
    assert access.knows(access.token)


def test_two_pages_have_two_tokens() -> None:
    first, second = PageAccess("0.0.0.0"), PageAccess("0.0.0.0")
    assert first.token is not None
    assert len(first.token) >= 22  # 128 bits
    assert not second.knows(first.token)


@given(st.text())
def test_no_other_token_is_known(token: str) -> None:
    access = PageAccess("0.0.0.0")
    assert access.knows(token) is (token == access.token)


@pytest.mark.parametrize(
    ("host", "origin", "socket", "status"),
    [
        ("127.0.0.1:8765", None, False, None),
        ("localhost:8765", "http://localhost:8765", True, None),
        ("[::1]:8765", "http://[::1]:8765", True, None),
        ("127.0.0.1:8765", None, True, 403),
        ("127.0.0.1:8765", "null", True, 403),
        ("127.0.0.1:8765", "https://127.0.0.1:8765", True, 403),
        ("127.0.0.1:8765", "http://127.0.0.1:8766", False, 403),
        ("127.0.0.1:8765", "http://evil.example", True, 403),
        ("evil.example", "http://evil.example", True, 421),
        ("127.0.0.1.evil.example:8765", None, False, 421),
        ("192.168.0.7:8765", None, False, 421),
        ("[", None, False, 421),
        ("", None, False, 421),
        (None, None, False, 421),
    ],
)
def test_forged_headers(
    host: str | None, origin: str | None, socket: bool, status: int | None
) -> None:
    refusal = PageAccess("127.0.0.1").refusal(host, origin, needs_origin=socket)
    assert (None if refusal is None else refusal.status) == status


@given(st.text(), st.none() | st.text())
def test_only_names_of_this_machine_are_answered(host: str, origin: str | None) -> None:
    refusal = PageAccess("127.0.0.1").refusal(host, origin, needs_origin=True)
    if refusal is None:
        assert origin is not None
        assert origin.lower() == f"http://{host.lower()}"
        assert host.lower().startswith(("localhost", "127.", "[::1]"))


def test_of_all_addresses_names_in_numbers_are_ours() -> None:
    access = PageAccess("0.0.0.0", tls=True)
    assert access.refusal("10.0.0.2:8765", None, needs_origin=False) is None
    refusal = access.refusal("rebound.example:8765", None, needs_origin=False)
    assert refusal is not None
    assert refusal.status == 421
    link = access.link(8765)
    assert link.startswith("https://")
    assert link.endswith(f":8765/?token={access.token}")
    assert "0.0.0.0" not in link
    assert PageAccess("::1").link(80) == "http://[::1]:80/"


def test_who_asks_too_often_waits() -> None:
    now_s = 0.0
    buckets = Buckets(rate_hz=2.0, burst=3, most=2, clock=lambda: now_s)
    assert [buckets.take("a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert buckets.take("b")
    now_s = 1.0
    assert [buckets.take("a") for _ in range(3)] == [True, True, False]
    buckets.take("b")
    buckets.take("c")  # a is forgotten
    assert buckets.left("a") == 3.0
