"""A file of settings: what is wrong in it is told with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.demos.actions import json_lines, sinks_of, sources_of
from shiftedge.demos.settings import SCHEMA, RunSettings
from shiftedge.runtime.errors import SettingError
from shiftedge.runtime.spec import ModelSpec

ROOT = Path(__file__).parents[2]


def settings(tmp_path: Path, text: str) -> RunSettings:
    path = tmp_path / "actions.toml"
    path.write_text(text, encoding="utf-8")
    return RunSettings(path)


GOOD = """\
# A comment

[model]
threads = 2

[[source]]
name = "door"
from = "rtsp://user:secret@camera/stream"
retry = "forever"

[[source]]
from = "0"
size = "1280x720"
fps = 29.97

[[action]]
on = ["Swiping Left",
      "Stop Sign"]
camera = "door"
command = ["true", "{label}"]

[[action]]
on = "*"
webhook = "https://example.org:8123/hook?x=1"
headers = { Authorization = "Bearer x" }

[lines]
print = false
"""


def test_a_good_file(tmp_path: Path, spec: ModelSpec) -> None:
    found = settings(tmp_path, GOOD)
    assert found.table("model") == {"threads": 2}
    door, other = sources_of(found)
    assert (door.camera, door.text) == ("door", "rtsp://user:secret@camera/stream")
    assert door.retry is not None
    assert door.retry.service
    assert other.text == "0?size=1280x720&fps=29.97"
    sinks = list(sinks_of(found, spec, ["door", other.camera]).values())
    assert [sink.name for sink in sinks] == ["command true", "webhook https://example.org:8123"]
    assert json_lines(found, steps=False) is None
    assert found.table("mqtt") is None


WRONG = [
    ("[door]", 1, "there is no section 'door'"),
    ("[modle]\nx = 1", 1, "did you mean model?"),
    ("\n\n[model]\nthreads = 0", 4, "threads is 0; expected a whole number from 1"),
    ("model = 3", 1, "write [model] and its keys below"),
    ("[source]\nfrom = '0'", 1, "write [[source]]"),
    ("[[source]]\nname = 'door'", 1, "source has no from"),
    ("[[source]]\nfrom = '0'\nfps = 'fast'", 3, "a number of frames per second"),
    ("[[source]]\nfrom = 'clip.mp4'\nsize = '640x480'", 2, "takes no size"),
    ("[[source]]\nfrom = '0'\n[[source]]\nfrom = '0'", 3, "two cameras are called 0"),
    ("[[source]]\nfrom = 'ftp://x'", 2, "is not a source"),
    ("[[source]]\nfrom = '0'\nretry = 'soon'", 3, "seconds from 0, or 'forever'"),
    ("[[action]]\non = 'Stop Sign'", 1, "the action does nothing; expected one of keys, command"),
    ("[[action]]\non = '*'\nwebhook = 'http://a'\nkeys = 'A'", 1, "does 2 things (keys, webhook)"),
    ("[[action]]\n\nonn = '*'\nkeys = 'A'", 3, "did you mean on?"),
    ("[[action]]\non = 'Swipe Left'\nwebhook = 'http://a'", 2, "did you mean 'Swiping Left'?"),
    (
        "[[action]]\non = [\n  'Stop Sign',\n  'stop'\n]\nwebhook = 'http://a'",
        2,
        "no gesture 'stop'",
    ),
    ("[[action]]\non = 'No gesture'\nwebhook = 'http://a'", 2, "never becomes an event"),
    ("[[action]]\non = '*'\nwebhook = 'example.org/x'", 3, "expected a URL such as http://"),
    ("[[action]]\non = '*'\nwebhook = 'http://a:99999/'", 3, "expected a URL"),
    ("[[action]]\non = '*'\nwebhook = 'file:///etc/passwd'", 3, "expected a URL"),
    ("[[action]]\non = '*'\nwebhook = 'http://a'\nlimit_s = 3", 4, "limit_s is for a command"),
    ("[[action]]\non = '*'\nwebhook = 'http://a'\nheaders = { A = \"b\\nc\" }", 4, "line breaks"),
    ("[[action]]\non = '*'\ncommand = 'rm -rf x'", 3, "expected a list of texts"),
    ("[[action]]\non = '*'\ncommand = ['no-such-program-x']", 3, "no program 'no-such-program-x'"),
    ("[[action]]\non = '*'\ncamera = 'attic'\nwebhook = 'http://a'", 3, "no camera 'attic'"),
    ("[[action]]\non = '*'\nwebhook = 'http://a'\nconfidence = 2", 4, "from 0 to 1"),
    ("[mqtt]\nbroker = 'a b'", 2, "a host and its port"),
    ("[mqtt]\nbroker = 'a:x'", 2, "a host and its port"),
    ("[mqtt]\nbroker = 'a'\ntopic = 'x/#'", 3, "without + and #"),
    ("[mqtt]\nbroker = 'a'\nuser = 'u'\npassword_file = 'absent'", 4, "cannot be read"),
    ("[metrics]\nlisten = ':::'", 2, "a host and its port"),
    ("[lines]\nprint = 'no'", 2, "true or false"),
    ("[web]\nlisten = 'a:b'", 2, "a host and its port"),
    ("[web]\nkey = 'key.pem'", 2, "there is a key and no cert"),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG)
def test_what_is_wrong_has_its_line(
    tmp_path: Path, spec: ModelSpec, text: str, line: int, words: str
) -> None:
    pytest.importorskip("paho", reason="the mqtt extra (paho-mqtt) is not installed")
    with pytest.raises(SettingError) as raised:  # noqa: PT012 - whichever of them finds it
        found = settings(tmp_path, text)
        cameras = [each.camera for each in sources_of(found)]
        sinks_of(found, spec, cameras)
    assert f"actions.toml, line {line}: " in str(raised.value)
    assert words in str(raised.value)


def test_what_is_no_toml_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"is not TOML: .*line 2"):
        settings(tmp_path, "[model]\nthreads = \n")
    (tmp_path / "latin").write_bytes(b"# \xe9")
    with pytest.raises(SettingError, match="is not TOML"):
        RunSettings(tmp_path / "latin")
    (tmp_path / "large").write_bytes(b"#" * 70_000)
    with pytest.raises(SettingError, match="is it the file"):
        RunSettings(tmp_path / "large")
    with pytest.raises(SettingError, match=r"Cannot read .*absent"):
        RunSettings(tmp_path / "absent")


VALUES = st.sampled_from(
    ["1", '"x"', "[1,\n 2]", '"""a\n[b]\n"""', "{ a = 1 }", "[\n]", "'''\n'''"]
)
FILLING = st.lists(st.sampled_from(["", "# [table]", "  # x = 1"]), max_size=3)


@given(st.lists(st.tuples(FILLING, st.integers(0, 2), VALUES), min_size=1, max_size=8))
def test_the_line_of_every_value(parts: list[tuple[list[str], int, str]]) -> None:
    """Of files with tables, lists of tables, comments, and values over several lines."""
    lines: list[str] = []
    places: dict[Any, int] = {}
    tables = 0
    for number, (filling, kind, value) in enumerate(parts):
        lines += filling
        if kind:
            lines.append("[[t]]")
            places["t", tables] = len(lines)
            tables += 1
        before: tuple[Any, ...] = ("t", tables - 1) if tables else ()
        places[(*before, f"k{number}")] = len(lines) + 1
        lines += f"k{number} = {value}".split("\n")
    found = RunSettings.__new__(RunSettings)
    from shiftedge.demos import settings as module

    found._toml, found._text = module._toml(), "\n".join(lines)
    assert {place: found.line(place) for place in places} == places
    assert found.line(("t", 0, "absent")) == places.get(("t", 0), 1)


def test_the_example_is_good(spec: ModelSpec) -> None:
    """Every section that there is, for the labels of the bundled model."""
    found = RunSettings(ROOT / "demos" / "actions.toml")
    assert {name for name in SCHEMA if found.tables(name)} == set(SCHEMA)
    assert [each.camera for each in sources_of(found)]


def test_the_page_tells_of_every_key() -> None:
    page = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    for name, section in SCHEMA.items():
        form = f"[[{name}]]" if section.several else f"[{name}]"
        assert f"`{form}`" in page, form
        for key, entry in section.keys.items():
            assert f"| `{key}` | {entry.words} |" in page, (name, key)
