"""What happens on a gesture: commands, webhooks and keys, with real processes and a real server."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from shiftedge.demos.sinks import Missed, Moment
from shiftedge.demos.sinks.actions import Action, Command, Rule, Webhook
from shiftedge.demos.sinks.keys import Keys, key_codes
from shiftedge.demos.sinks.outlet import NOTHING, Outlet
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.live.decode import GestureEvent


def moment(
    label: str = "Swiping Left", confidence: float = 0.93, at_s: float = 4.25, camera: str = "door"
) -> Moment:
    event = GestureEvent(at_s, label, 1, confidence, 0.0)
    zeros = np.zeros(2)
    return Moment(
        at_s, zeros, event, 0.0, 0, camera=camera, told_s=1000.0 + at_s, wall_s=1.8e9 + at_s
    )


class Noted(Action):
    def __init__(self, rule: Rule) -> None:
        super().__init__("noted", rule)
        self.done: list[tuple[str, float]] = []

    def do(self, moment: Moment) -> None:
        self.done.append((moment.camera, moment.time_s))


@pytest.mark.parametrize(
    ("rule", "times"),
    [
        (Rule(), [1.0, 2.0, 3.0, 4.0]),
        (Rule(labels=frozenset({"Stop Sign"})), [2.0]),
        (Rule(cameras=frozenset({"hall"})), [3.0]),
        (Rule(confidence=0.9), [1.0, 2.0, 3.0]),
        (Rule(pause_s=1.5), [1.0, 3.0]),
        (Rule(confidence=0.95), []),
    ],
)
def test_rules(rule: Rule, times: list[float]) -> None:
    action = Noted(rule)
    with Outlet(action) as outlet:
        outlet.begin([])
        for each in (
            moment(at_s=1.0),
            moment("Stop Sign", at_s=2.0),
            moment(at_s=3.0, camera="hall"),
            moment(confidence=0.8, at_s=4.0),
        ):
            outlet.put(NOTHING, each)
    assert [time_s for _, time_s in action.done] == times


def test_a_command_is_given_the_event_and_no_shell(tmp_path: Path) -> None:
    program = (
        "import json, os, sys; json.dump([sys.argv[2:], dict(os.environ)], open(sys.argv[1], 'w'))"
    )
    out = tmp_path / "out"
    label = "$(touch pwned); {camera} \"quoted'"
    command = Command(
        Rule(),
        [sys.executable, "-c", program, str(out), "{label}", "{confidence}%", "{camera}{x}", "{}"],
    )
    command.take(NOTHING, moment(label))
    arguments, environment = json.loads(out.read_text())
    assert arguments == [label, "0.93%", "door{x}", "{}"]
    assert environment["SHIFTEDGE_LABEL"] == label
    assert environment["SHIFTEDGE_AT"].startswith("2027-01-15T")


@pytest.mark.parametrize(
    ("arguments", "limit_s", "words"),
    [
        (["false"], 10.0, "ended with status 1"),
        (["sh", "-c", "echo 'no bell' >&2; exit 3"], 10.0, "status 3 and said: no bell"),
        (["sleep", "60"], 0.1, "was stopped after 0.1 s"),
        (["/nonexistent/x"], 10.0, "could not be started: No such file"),
        (["true", "\0"], 10.0, "could not be started"),
    ],
)
def test_a_command_that_fails_is_missed(arguments: list[str], limit_s: float, words: str) -> None:
    with pytest.raises(Missed, match=words):
        Command(Rule(), arguments, limit_s).take(NOTHING, moment())


class Server(http.server.ThreadingHTTPServer):
    """Answers with the given statuses, one after another, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.statuses = list(statuses)
        self.got: list[tuple[str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://user:secret@127.0.0.1:{self.server_port}/hook/secret"


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), json.loads(body)))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Any]:
    servers = []

    def start(*statuses: int) -> Server:
        server = Server(*statuses)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_webhook_tells_the_event(serve: Any) -> None:
    server = serve(200)
    url = server.url.replace("user:secret@", "")
    Webhook(Rule(), url, {"Authorization": "Bearer x"}).take(NOTHING, moment())
    ((path, headers, body),) = server.got
    assert path == "/hook/secret"
    assert headers["Authorization"] == "Bearer x"
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "camera": "door",
        "time_s": 4.25,
        "label": "Swiping Left",
        "confidence": 0.93,
        "at": "2027-01-15T08:00:04.250+00:00",
    }


def test_names_that_are_no_text_are_escapes(serve: Any) -> None:
    server = serve(200)
    strange = moment("\ud800x", camera="v\udce9.mp4")
    Webhook(Rule(), server.url.replace("user:secret@", "")).take(NOTHING, strange)
    ((_, _, body),) = server.got
    assert (body["label"], body["camera"]) == ("\ud800x", "v\udce9.mp4")


def test_what_fails_for_the_moment_is_tried_again(serve: Any) -> None:
    server = serve(503, 429, 500, 204)
    url = server.url.replace("user:secret@", "")
    hook = Webhook(Rule(), url, first_s=0.001)
    said: list[str] = []
    hook.note = said.append
    hook.take(NOTHING, moment())
    assert len(server.got) == 4
    assert "fails (status 503); trying again" in said[0]
    assert said[-1].endswith("answers again.")


@pytest.mark.parametrize("status", [302, 400, 404])
def test_a_refusal_is_not_and_tells_no_secret(serve: Any, status: int) -> None:
    server = serve(status)
    url = server.url.replace("user:secret@", "")
    with pytest.raises(Missed, match=f"was refused with status {status}") as raised:
        Webhook(Rule(), url).take(NOTHING, moment())
    assert len(server.got) == 1
    assert "secret" not in str(raised.value)


def test_a_server_that_is_away_is_waited_for_then_given_up(serve: Any) -> None:
    server = serve(200)
    port = server.server_port
    server.shutdown()
    server.server_close()
    hook = Webhook(Rule(), f"http://127.0.0.1:{port}/x", retry_s=0.05, first_s=0.01)
    with pytest.raises(Missed, match=r"could not be told of a gesture: .*[Rr]efused"):
        hook.take(NOTHING, moment())


def test_the_end_cuts_the_waiting_short(serve: Any) -> None:
    server = serve(500)
    hook = Webhook(Rule(), server.url.replace("user:secret@", ""), first_s=3600.0, retry_s=3600.0)
    with Outlet(hook) as outlet:
        outlet.begin([])
        outlet.put(NOTHING, moment())
        outlet.put(NOTHING, moment())
        while not server.got:
            threading.Event().wait(0.01)
    assert outlet.account().missed == 2


class FakeKeyboard:
    made: ClassVar[list[FakeKeyboard]] = []
    refused: ClassVar[OSError | None] = None

    def __init__(self, events: dict[int, list[int]], name: str) -> None:
        if self.refused is not None:
            raise self.refused
        self.events, self.name = events, name
        self.written: list[tuple[int, int] | str] = []
        self.made.append(self)

    def write(self, kind: int, code: int, value: int) -> None:
        assert kind == 1
        self.written.append((code, value))

    def syn(self) -> None:
        self.written.append("syn")

    def close(self) -> None:
        self.written.append("closed")


CODES = {"KEY_PAGEDOWN": 109, "KEY_LEFTCTRL": 29, "KEY_LEFTALT": 56, "KEY_T": 20, "KEY_MAX": 0x2FF,
         "KEY_VOLUMEUP": 115, "KEY_RESERVED": 0, "EV_KEY": 1, "BTN_LEFT": 272}  # fmt: skip
"""Of linux/input-event-codes.h."""


@pytest.fixture
def uinput(monkeypatch: pytest.MonkeyPatch) -> type[FakeKeyboard]:
    """evdev, as far as it is used, with a keyboard that writes down what is pressed."""
    ecodes = types.SimpleNamespace(ecodes=CODES, EV_KEY=1)
    fake: Any = types.ModuleType("evdev")
    fake.__path__ = []
    fake.ecodes, fake.UInput, fake.UInputError = ecodes, FakeKeyboard, ValueError
    monkeypatch.setitem(sys.modules, "evdev", fake)
    monkeypatch.setitem(sys.modules, "evdev.ecodes", ecodes)  # type: ignore[arg-type]
    monkeypatch.setattr(FakeKeyboard, "made", [])
    monkeypatch.setattr(FakeKeyboard, "refused", None)
    return FakeKeyboard


def test_a_swipe_is_page_down(uinput: type[FakeKeyboard]) -> None:
    texts = ("Page Down", "Ctrl+Alt+T")
    keys = Keys(Rule(), texts, [key_codes(text) for text in texts])
    with Outlet(keys) as outlet:
        outlet.begin([])
        outlet.put(NOTHING, moment())
    (keyboard,) = uinput.made
    assert keyboard.events == {1: [20, 29, 56, 109]}
    assert keyboard.written == [
        (109, 1), "syn", (109, 0), "syn",
        (29, 1), (56, 1), (20, 1), "syn", (20, 0), (56, 0), (29, 0), "syn",
        "closed",
    ]  # fmt: skip


@pytest.mark.usefixtures("uinput")
@pytest.mark.parametrize("text", ["PageDwn", "Ctrl+", "", "KEY_MAX", "Reserved", "BTN_LEFT", "+"])
def test_an_unknown_key_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is no key; expected names such as PageDown"):
        key_codes(text)


@pytest.mark.usefixtures("uinput")
@pytest.mark.parametrize("text", ["PageDown", "page down", "PgDn", "KEY_PAGEDOWN", " pagedown "])
def test_a_key_has_many_spellings(text: str) -> None:
    assert key_codes(text) == (109,)


def test_without_permission_keys_are_a_sentence(uinput: type[FakeKeyboard]) -> None:
    uinput.refused = PermissionError(13, "Permission denied", "/dev/uinput")
    keys = Keys(Rule(), ["T"], [(20,)])
    with pytest.raises(OutputError, match=r"/dev/uinput cannot be opened .*Permission denied") as e:
        keys.begin([])
    assert "modprobe uinput" in str(e.value)
    keys.close()


def test_the_real_names_of_keys() -> None:
    pytest.importorskip("evdev", reason="the keys extra (evdev) is not installed")
    assert key_codes("Ctrl+Page Down") == (29, 109)
    assert [key_codes(key) for key in ("F5", "Left", "Play/Pause", "1", "Volume Up")] == [
        (63,), (105,), (164,), (2,), (115,)
    ]  # fmt: skip
