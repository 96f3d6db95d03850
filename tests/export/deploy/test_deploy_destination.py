"""Destinations taken apart: what is read, what is refused, and that none becomes an option."""

from __future__ import annotations

import shlex
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shiftedge.export.deploy.connection import Destination, parse_destination
from shiftedge.runtime.errors import DeployError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("board:jester", Destination(None, "board", "./jester")),
        ("pi@board:jester", Destination("pi", "board", "./jester")),
        ("pi@board:/opt/jester", Destination("pi", "board", "/opt/jester")),
        ("pi@board:/opt/jester///", Destination("pi", "board", "/opt/jester")),
        ("pi@board:~/a/b", Destination("pi", "board", "./a/b")),
        ("pi@board:~//a", Destination("pi", "board", "./a")),
        ("pi@board:../a", Destination("pi", "board", "./../a")),
        ("pi@board:-rf", Destination("pi", "board", "./-rf")),
        ("a@b.c@board:x", Destination("a@b.c", "board", "./x")),
        ("10.0.0.7:x", Destination(None, "10.0.0.7", "./x")),
        ("my_board-2.local:x", Destination(None, "my_board-2.local", "./x")),
        ("[::1]:/x", Destination(None, "::1", "/x")),
        ("pi@[fe80::1%eth0]:x@1+2", Destination("pi", "fe80::1%eth0", "./x@1+2")),
    ],
)
def test_what_is_read(text: str, expected: Destination) -> None:
    assert parse_destination(text) == expected


def test_how_it_is_passed_on() -> None:
    six = parse_destination("pi@[fe80::1]:a/b")
    assert (six.login, six.scp_login) == ("pi@fe80::1", "pi@[fe80::1]")
    assert (six.parent, six.name, str(six)) == ("./a", "b", "pi@[fe80::1]:a/b")
    plain = parse_destination("board:x")
    assert (plain.login, plain.scp_login, plain.parent) == ("board", "board", ".")
    assert parse_destination("board:/x").parent == "/"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *[(text, "is no destination") for text in ("", "board", "/opt/x", "a b:x", ":x", "@b:x")],
        *[(text, "is no destination") for text in ("-oProxyCommand=x:y", "-@b:x", "a@-b:x")],
        *[(text, "is no destination") for text in ("::1:x", "[x]:y", "[::1:x", "a\n:x", "a;b:x")],
        *[(text, "names no folder for") for text in ("b:", "b:/", "b:~/", "b://")],
        *[(text, "names no folder of its own") for text in ("b:.", "b:..", "b:x/..", "b:/x/.")],
        *[(f"b:{path}", "other characters") for path in ("a b", "$HOME", "a;b", "`x`", "a'b")],
        *[(f"b:{path}", "other characters") for path in ("~", "~pi/x", "a\nb", "ä", "a*", "a\\b")],
        (f"b:{'x' * 513}", "very long"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(DeployError, match=message) as caught:
        parse_destination(text)
    assert str(caught.value).count("\n") == 0
    assert "expected [USER@]HOST:PATH" in str(caught.value)


@given(
    st.text()
    | st.text(alphabet=string.ascii_letters + ":@[]/.~-_+ $'\n%", max_size=20)
    | st.builds("{}:{}".format, st.text(max_size=6), st.text(max_size=12))
    | st.builds("b:{}".format, st.text(alphabet="ab/.~-@+ ", max_size=12))
)
@example("b:~/-x")
@example("b:~//../x")
def test_anything_is_harmless_or_refused(text: str) -> None:
    try:
        found = parse_destination(text)
    except DeployError:
        return
    for word in (found.login, found.scp_login, found.path):
        assert not word.startswith("-")
        assert word.isprintable()
    assert found.path.startswith(("/", "./"))
    assert shlex.quote(found.path) == found.path
    assert not found.path.endswith("/")
    assert found.name not in ("", ".", "..")
    assert f"{found.parent}/{found.name}".replace("//", "/").endswith(found.path.replace("//", "/"))
    assert parse_destination(str(found)) == found


names = st.text(alphabet=string.ascii_letters + string.digits + "._+-", min_size=1, max_size=8)


@given(
    st.none() | names.filter(lambda name: name[0] not in "-.+"),
    names.filter(lambda name: name[0] not in "-.+" and "+" not in name),
    st.lists(names.filter(lambda name: name.strip(".")), min_size=1, max_size=4),
    st.booleans(),
)
def test_every_ordinary_one_is_read(
    user: str | None, host: str, parts: list[str], absolute: bool
) -> None:
    path = "/".join(parts)
    text = f"{f'{user}@' if user else ''}{host}:{'/' if absolute else ''}{path}"
    assert parse_destination(text) == Destination(
        user, host, f"/{path}" if absolute else f"./{path}"
    )
