"""Serves the page, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib.resources
import json
import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftedge.demos.health import PATHS, Health
from shiftedge.demos.sinks.web.access import PageAccess, Refusal
from shiftedge.demos.sinks.web.camera import LARGEST_BYTES, BrowserCamera
from shiftedge.demos.sinks.web.viewer import LONGEST_BYTES, Viewer
from shiftedge.runtime.errors import OutputError, ShiftedgeError
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.words import plain

FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Server": "shiftedge",
}
LIVE, CAMERA, ASK = "/live", "/camera", "/ask"
ASK_BYTES = 1024
"""Of what a page asks for."""
VIEWERS_MOST = 16
CAMERAS_MOST = 4
CONNECTIONS_MOST = 256
"""More are closed at once, those first that have not asked for anything."""
SPEAK_S = 10.0
"""By when a connection has to have sent a whole request."""
FIGURES_S = 1.0
START_S = 20.0
END_S = 0.5
TELLS_MOST = 256
COOKIE_S = 30 * 86400


@dataclass(frozen=True)
class Certificate:
    """PEM files for TLS; the key may be in the certificate's file."""

    certificate: Path
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """
        Raises:
            OutputError: they cannot be read, or do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A password is asked for on the terminal otherwise, where nobody may sit.
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise OutputError(
                f"The certificate {self.certificate} cannot be used "
                f"({getattr(error, 'strerror', None) or error}); expected PEM files of a "
                "certificate and its key, without a password."
            ) from error
        return context


class PageServer:
    """The page's server.

    Args:
        address: host and port; port 0 is any that is free.
        hello: gives a page's first message.
        figures: gives those of each second, from the number of viewers.
        model: gives what looks at browsers' own cameras.
        health: gives what ``/healthz`` and ``/readyz`` are answered from; they want no token.
        on_shown: see :class:`Viewer`.
        on_ask: does what a page asks for, in a thread that may wait, and gives the answer.

    Raises:
        MissingExtraError: aiohttp is not installed.
    """

    def __init__(
        self,
        address: tuple[str, int],
        access: PageAccess,
        hello: Callable[[], dict[str, Any]],
        figures: Callable[[int], dict[str, Any]],
        model: Callable[[], Model],
        health: Callable[[], Health],
        certificate: Certificate | None = None,
        on_shown: Callable[[float], None] = lambda seconds: None,
        on_ask: Callable[[dict[str, Any]], dict[str, Any]] = lambda asked: {},
    ) -> None:
        self._web = require("aiohttp.web")
        self._address, self._access = address, access
        self._hello, self._figures, self._certificate = hello, figures, certificate
        self._on_shown, self._on_ask = on_shown, on_ask
        self._asks = concurrent.futures.ThreadPoolExecutor(1, "web ask")
        self._model, self._health = model, health
        self._cameras = 0
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "web camera")
        self._files = {path: (_file(name), kind) for path, (name, kind) in FILES.items()}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._viewers: set[Viewer] = set()
        self._sockets: set[Any] = set()
        self._spoke: set[Any] = set()
        self._since: dict[Any, float] = {}
        self._lock = threading.Lock()
        self._texts: deque[str] = deque(maxlen=TELLS_MOST)
        self._newest: dict[str, tuple[bytes, float | None]] = {}
        self._asked = False
        self._ticking: asyncio.Task[None] | None = None
        self._runner: Any = None
        self.port = 0

    @property
    def viewers(self) -> int:
        """Browsers that look on."""
        return len(self._viewers)

    def start(self) -> None:
        """Serve from now on.

        Raises:
            OutputError: the address cannot be listened on, or the certificate not be used.
        """
        host, port = self._address
        context = None if self._certificate is None else self._certificate.context()
        self._thread.start()
        begun = asyncio.run_coroutine_threadsafe(self._begin(context), self._loop)
        try:
            begun.result(START_S)
        except (OSError, OverflowError, UnicodeError, concurrent.futures.TimeoutError) as error:
            self.close()
            raise OutputError(
                f"The page cannot be served at {host}:{port}: "
                f"{getattr(error, 'strerror', None) or error or 'no answer'}; expected HOST:PORT "
                "of this machine after --web, with a port that is free."
            ) from error

    def tell(self, message: dict[str, Any]) -> None:
        """Give every page a message. From any thread, at once."""
        with self._lock:
            self._texts.append(json.dumps(message))
        self._ask()

    def show(self, kind: str, content: bytes, taken_s: float | None = None) -> None:
        """Give every page the newest of a kind, and when it was taken, to be told how long it took.
        From any thread, at once."""
        with self._lock:
            self._newest[kind] = content, taken_s
        self._ask()

    def close(self) -> None:
        """End all connections. May be called twice."""
        if self._loop.is_closed():
            return
        if not self._thread.is_alive():
            self._loop.close()
            return
        ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        concurrent.futures.wait([ended], 2.0 * END_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._asks.shutdown(wait=False, cancel_futures=True)
        if not self._thread.is_alive():
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        # A connection that breaks, or is one too many for the system, is nothing to print.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._loop.run_forever()

    async def _begin(self, context: ssl.SSLContext | None) -> None:
        web = self._web

        async def guard(request: Any, handler: Any) -> Any:
            return await self._guard(request, handler)

        application = web.Application(
            middlewares=[web.middleware(guard)], client_max_size=ASK_BYTES
        )
        application.router.add_get(LIVE, self._live)
        application.router.add_get(CAMERA, self._camera)
        application.router.add_post(ASK, self._answer)
        for path in self._files:
            application.router.add_get(path, self._file)
        for path in PATHS:
            application.router.add_get(path, self._well)
        application.on_response_prepare.append(_with_headers)
        silent = logging.getLogger("shiftedge.web")
        silent.propagate = False
        silent.addHandler(logging.NullHandler())
        self._runner = web.AppRunner(
            application,
            handle_signals=False,
            access_log=None,
            logger=silent,
            keepalive_timeout=15.0,
            max_line_size=4096,
            max_field_size=4096,
            shutdown_timeout=END_S / 2,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, *self._address, ssl_context=context)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        self._ticking = asyncio.create_task(self._tick())

    async def _end(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        for viewer in list(self._viewers):
            viewer.tell(json.dumps({"kind": "end"}))
        await asyncio.sleep(0.02)  # for that to leave
        farewell = [
            asyncio.create_task(each.close(code=1001, message=b"The show is over."))
            for each in self._sockets
        ]
        if farewell:
            await asyncio.wait(farewell, timeout=END_S)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(FIGURES_S)
            self._sweep()
            if self._viewers:
                self.tell(self._figures(len(self._viewers)))

    def _sweep(self) -> None:
        """Close connections that ask for nothing, and those that are too many."""
        now_s = time.monotonic()
        open_now = set(self._runner.server.connections)
        self._spoke &= open_now
        self._since = {each: since_s for each, since_s in self._since.items() if each in open_now}
        mute = [each for each in open_now if each not in self._spoke]
        for each in mute:
            if now_s - self._since.setdefault(each, now_s) > SPEAK_S:
                each.force_close()
        for each in mute[: max(len(open_now) - CONNECTIONS_MOST, 0)]:
            each.force_close()

    def _ask(self) -> None:
        with self._lock:
            asked, self._asked = self._asked, True
        if not asked:
            try:
                self._loop.call_soon_threadsafe(self._hand_out)
            except RuntimeError:  # it is closed
                return

    def _hand_out(self) -> None:
        with self._lock:
            texts, newest = list(self._texts), dict(self._newest)
            self._texts.clear()
            self._newest.clear()
            self._asked = False
        for viewer in self._viewers:
            for text in texts:
                viewer.tell(text)
            for kind, content in newest.items():
                viewer.show(kind, *content)

    async def _guard(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        web, access = self._web, self._access
        self._spoke.add(request.protocol)
        peer = request.remote or ""
        if len(self._runner.server.connections) > CONNECTIONS_MOST:
            return self._no(Refusal(503, "There are too many connections."))
        if not access.requests.take(peer):
            return self._no(Refusal(429, "That was asked too often; wait a little."))
        refusal = access.refusal(
            request.headers.get("Host"),
            request.headers.get("Origin"),
            needs_origin=request.path in (LIVE, CAMERA, ASK),
        )
        if refusal is not None:
            return self._no(refusal)
        if access.token is not None and request.path not in PATHS:
            if access.guesses.left(peer) < 1.0:
                return self._no(Refusal(429, "That were too many wrong tokens; wait a minute."))
            given = request.query.get("token")
            token = request.cookies.get(self._cookie) if given is None else given
            if not access.knows(token):
                if token is not None:
                    access.guesses.take(peer)
                words = "This page wants its token: open the link that shiftedge has printed."
                return self._no(Refusal(401, words))
            if given is not None:
                # Off with the token from the address line, which is kept, shown and shared.
                answer = web.HTTPSeeOther("/")
                answer.set_cookie(
                    self._cookie,
                    access.token,
                    httponly=True,
                    samesite="Lax",
                    secure=access.scheme == "https",
                    max_age=COOKIE_S,
                )
                raise answer
        return await handler(request)

    @property
    def _cookie(self) -> str:
        """Cookies know no ports, so the name does."""
        return f"shiftedge-{self.port}"

    def _no(self, refusal: Refusal) -> Any:
        answer = self._web.Response(status=refusal.status, text=refusal.words + "\n")
        if refusal.status == 429:
            answer.headers["Retry-After"] = "10"
        answer.force_close()
        return answer

    async def _file(self, request: Any) -> Any:
        content, kind = self._files[request.path]
        return self._web.Response(body=content, content_type=kind, charset="utf-8")

    async def _well(self, request: Any) -> Any:
        status, words = self._health().answer(request.path)
        return self._web.Response(status=status, text=words + "\n")

    async def _answer(self, request: Any) -> Any:
        try:
            asked = json.loads(await request.read())
            if not isinstance(asked, dict):
                raise ValueError
        except (ValueError, RecursionError):
            return self._no(Refusal(400, "JSON of what is asked for was expected."))
        loop = asyncio.get_running_loop()
        try:
            told = await loop.run_in_executor(self._asks, self._on_ask, asked)
        except (ShiftedgeError, ValueError) as error:
            told = {"error": plain(error)}
        return self._web.json_response(told, status=400 if "error" in told else 200)

    async def _live(self, request: Any) -> Any:
        if len(self._viewers) >= VIEWERS_MOST:
            return self._no(Refusal(503, f"{VIEWERS_MOST} browsers look on already."))
        socket = self._socket(request, LONGEST_BYTES)
        if socket is None:
            return self._no(Refusal(426, "This is a WebSocket."))
        viewer = Viewer(socket, self._on_shown)
        self._viewers.add(viewer)
        self._sockets.add(socket)
        try:
            await socket.prepare(request)
            viewer.tell(json.dumps(self._hello()))
            await viewer.follow()
        finally:
            self._viewers.discard(viewer)
            self._sockets.discard(socket)
        return socket

    async def _camera(self, request: Any) -> Any:
        if self._cameras >= CAMERAS_MOST:
            return self._no(Refusal(503, f"{CAMERAS_MOST} browsers send their cameras already."))
        socket = self._socket(request, LARGEST_BYTES)
        if socket is None:
            return self._no(Refusal(426, "This is a WebSocket."))
        self._cameras += 1
        self._sockets.add(socket)
        try:
            await socket.prepare(request)
            await BrowserCamera(socket, self._model(), self._pool).follow()
        finally:
            self._cameras -= 1
            self._sockets.discard(socket)
        return socket

    def _socket(self, request: Any, most_bytes: int) -> Any:
        socket = self._web.WebSocketResponse(
            heartbeat=20.0, max_msg_size=most_bytes, compress=False, timeout=END_S
        )
        return socket if socket.can_prepare(request).ok else None


async def _with_headers(request: Any, answer: Any) -> None:
    answer.headers.update(HEADERS)


def _file(name: str) -> bytes:
    return (importlib.resources.files(__package__) / "static" / name).read_bytes()
