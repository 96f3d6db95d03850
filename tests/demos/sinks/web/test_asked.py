"""What people set on the page: the threshold, and clips of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.page import Page, Remembering, heard
from kit.playback import PlaySource

from shiftedge.__main__ import main
from shiftedge.demos.sinks.web.sink import NoCamera
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec

pytest.importorskip("aiohttp", reason="the web extra (aiohttp) is not installed")
pytest.importorskip("segno", reason="the web extra (segno) is not installed")
pytest.importorskip("cv2", reason="the camera extra is not installed")


async def ask(page: Page, client: Any, what: Any, **how: Any) -> tuple[int, Any]:
    headers = how.pop("headers", {"Origin": page.base})
    async with client.post("/ask", json=what, headers=headers, **how) as answer:
        kind = answer.content_type
        return answer.status, await (answer.json() if kind == "application/json" else answer.text())


def test_the_threshold_is_everybody_s(page: Page, spec: ModelSpec) -> None:
    async def talk(client: Any) -> Any:
        async with page.live(client) as live:
            before = (await heard(live, "hello"))["hello"][0]
            told = await ask(page, client, {"enter": 0.2})
            return before, told, (await heard(live, "enter"))["enter"][0]

    before, told, after = page.run(talk)
    assert before["enter"] == spec.decoder.enter
    assert told == (200, {"enter": 0.2})
    assert after["enter"] == 0.2
    settings = page.sink._decoder.settings
    assert (settings.enter, settings.exit) == (0.2, min(spec.decoder.exit, 0.2))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"enter": 1.5}, "A number from 0.05 to 0.99"),
        ({"enter": True}, "A number from"),
        ({"enter": "0.5"}, "A number from"),
        ({"label": "x", "seconds": 3600}, "A number from 1 to 5"),
        ({"label": 3}, "The label is a text"),
        ({"label": "x"}, "records nothing"),
        ({"keep": True}, "no clip to keep"),
        ({}, "nothing of that name"),
        ([1], "JSON of what"),
    ],
)
def test_what_cannot_be_asked(page: Page, what: Any, words: str) -> None:
    status, told = page.run(lambda client: ask(page, client, what))
    assert status == 400
    assert words in (told["error"] if isinstance(told, dict) else told)


def test_who_may_ask(page: Page) -> None:
    async def talk(client: Any) -> Any:
        what = {"enter": 0.5}
        large = {"label": "x" * 4000}
        return [
            (await ask(page, client, what, headers=headers))[0]
            for headers in ({}, {"Origin": "http://elsewhere"})
        ] + [(await ask(page, client, large))[0]]

    assert page.run(talk) == [403, 403, 413]


def test_a_clip_is_recorded(tmp_path: Path, spec: ModelSpec, play: PlaySource) -> None:
    data = tmp_path / "clips"
    with Page(Model(Remembering(spec)), play, data=data) as page:

        async def talk(client: Any) -> Any:
            first = await ask(page, client, {"label": "Finger Snap", "seconds": 1})
            again = await ask(page, client, {"label": "../x", "seconds": 1})
            return first, again

        first, again = page.run(talk)
        if first[1]["complaints"]:  # a machine that is busy drops frames
            assert first[1]["can_keep"]
            first = page.run(lambda client: ask(page, client, {"keep": True}))
    assert first == (200, {"kept": "Finger Snap/clip-001.avi", "complaints": []})
    assert (data / "Finger Snap" / "clip-001.avi").stat().st_size > 1000
    assert again[0] == 400
    assert "cannot be a label" in again[1]["error"]
    assert [each.name for each in tmp_path.iterdir()] == ["clips"]


def test_no_camera_of_this_machine(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = NoCamera()
    source.close()
    assert list(source) == []
    assert main(["demo", "--source", "browser:"]) == 1  # without a page there is nothing to see
    assert "browser:" in capsys.readouterr().err


def test_who_looks_after_it_needs_no_token(spec: ModelSpec, play: PlaySource) -> None:
    with Page(Model(Remembering(spec)), play, address=("0.0.0.0", 0)) as page:

        async def talk(client: Any) -> Any:
            found = []
            for path in ("/healthz", "/"):
                async with client.get(path) as answer:
                    found.append((answer.status, (await answer.text())[:6]))
            async with client.get("/healthz", headers={"Host": "elsewhere"}) as answer:
                found.append((answer.status, ""))
            return found

        assert page.run(talk) == [(200, "alive\n"), (401, "This p"), (421, "")]
