"""Who may ask: by the address, the Host and Origin of a request, a token, and how often.

A page that any web site may open in the user's browser must not be fooled into showing a camera.
So Host has to be a name of ours (a name that somebody else points here, DNS rebinding, is none),
Origin has to be the page itself, and beyond this machine a token is asked for.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

TOKEN_BYTES = 16
ELSEWHERE = "192.0.2.1", 9
"""An address of RFC 5737, kept for documents. Nothing is sent: a datagram socket is asked which of
our addresses it would use."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    words: str


class PageAccess:
    """The rules of one address.

    Args:
        host: that is listened on.
        tls: whether the page is https.
    """

    def __init__(self, host: str, *, tls: bool = False) -> None:
        self.scheme = "https" if tls else "http"
        self.token = None if is_loopback(host) else secrets.token_urlsafe(TOKEN_BYTES)
        self._host = host.lower()
        self._mark = b"" if self.token is None else _mark(self.token)
        self.requests = Buckets(rate_hz=20.0, burst=200)
        """Of one peer."""
        self.guesses = Buckets(rate_hz=0.1, burst=10)
        """Wrong tokens of one peer."""

    def refusal(
        self, host: str | None, origin: str | None, *, needs_origin: bool
    ) -> Refusal | None:
        """Judge a request by its headers.

        Args:
            host: as sent, with the port.
            origin: as sent; a browser sends none with a page that is typed or followed.
            needs_origin: of a WebSocket, which any site may open.
        """
        if host is None or not self._is_ours(host):
            return Refusal(421, "This is not the host that the page is served by.")
        if origin is None:
            return Refusal(403, "There is no Origin.") if needs_origin else None
        if origin.lower() != f"{self.scheme}://{host.lower()}":
            return Refusal(403, "Another site may not ask for this.")
        return None

    def knows(self, token: str | None) -> bool:
        """Whether this is the token, compared in constant time; True where none is asked for."""
        if self.token is None:
            return True
        return token is not None and hmac.compare_digest(_mark(token), self._mark)

    def link(self, port: int) -> str:
        """What opens the page; of all addresses of this machine, the one that others reach."""
        host = self._host
        address = _address(host)
        if address is not None and address.is_unspecified:
            host = _outward(address.version)
        shown = f"[{host}]" if ":" in host else host
        query = "" if self.token is None else f"?token={self.token}"
        return f"{self.scheme}://{shown}:{port}/{query}"

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if self.token is None:
            return is_loopback(name)
        own = socket.gethostname().lower()
        return _address(name) is not None or name in (
            self._host,
            "localhost",
            own,
            f"{own}.local",
        )


class Buckets:
    """How often each peer may: ``burst`` times at once, then ``rate_hz``.

    Args:
        most: peers that are remembered; who asked the longest ago is forgotten.
    """

    def __init__(
        self,
        *,
        rate_hz: float,
        burst: float,
        most: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate_hz, self._burst, self._most, self._clock = rate_hz, burst, most, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def left(self, peer: str) -> float:
        """How often more it may now."""
        now_s = self._clock()
        left, then_s = self._left.get(peer, (self._burst, now_s))
        return min(left + (now_s - then_s) * self._rate_hz, self._burst)

    def take(self, peer: str) -> bool:
        """Count one; False if that was too many."""
        left = self.left(peer)
        self._left[peer] = max(left - 1.0, 0.0), self._clock()
        self._left.move_to_end(peer)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return left >= 1.0


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _mark(token: str) -> bytes:
    """Of one length, whatever the token's."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _outward(version: int) -> str:
    if version == 4:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(ELSEWHERE)
                return str(probe.getsockname()[0])
            except OSError:  # no network
                pass
    return socket.gethostname()
