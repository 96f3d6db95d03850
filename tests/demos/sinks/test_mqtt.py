"""Events to a real mosquitto, which is stopped and started."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kit.mosquitto import Listener, Mosquitto, broker_program, free_port, wait_until

from shiftedge.demos.sinks import Missed, Moment
from shiftedge.demos.sinks import mqtt as module
from shiftedge.demos.sinks.mqtt import Broker, Mqtt
from shiftedge.demos.sinks.outlet import NOTHING, Outlet
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.live.decode import GestureEvent
from shiftedge.runtime.spec import ModelSpec

pytest.importorskip("paho", reason="the mqtt extra (paho-mqtt) is not installed")


@pytest.fixture
def program() -> str:
    return broker_program()


@pytest.fixture
def broker(program: str, tmp_path: Path) -> Iterator[Mosquitto]:
    started = Mosquitto(program, tmp_path)
    yield started
    started.stop()


@pytest.fixture
def sessions(spec: ModelSpec) -> Any:
    model = SimpleNamespace(spec=spec)
    return [SimpleNamespace(name=name, model=model) for name in ("Front door", "Front/door")]


def moment(number: float, camera: str = "Front door") -> Moment:
    event = GestureEvent(number, "Swiping Left", 1, 0.93, 0.0)
    return Moment(number, np.zeros(4), event, 0.0, 0, camera=camera, wall_s=1.8e9)


def test_home_assistant_is_told_and_events_come(broker: Mosquitto, sessions: Any) -> None:
    listener = Listener(broker)
    with Outlet(Mqtt(Broker("127.0.0.1", broker.port, topic="house/hall"))) as outlet:
        outlet.begin(sessions)
        outlet.put(NOTHING, moment(1.5))
        outlet.put(NOTHING, moment(2.5, "Front/door"))
        wait_until(lambda: listener.of("house/hall/Front_door_2/event"))
        wait_until(lambda: len(listener.of("house/hall/availability")) == 1)
    wait_until(lambda: listener.of("house/hall/availability") == ["online", "offline"])
    assert listener.of("house/hall/Front_door/event") == [
        {
            "event_type": "Swiping Left",
            "camera": "Front door",
            "time_s": 1.5,
            "confidence": 0.93,
            "at": "2027-01-15T08:00:00.000+00:00",
        }
    ]
    (config,) = listener.of("homeassistant/event/house_hall_Front_door/config")
    assert config["event_types"] == ["Swiping Left", "Swiping Right", "Stop Sign"]
    assert config["state_topic"] == "house/hall/Front_door/event"
    assert config["availability_topic"] == "house/hall/availability"
    assert listener.of("homeassistant/event/house_hall_Front_door_2/config")
    listener.close()
    assert (outlet.account().taken, outlet.account().missed) == (2, 0)
    late = Listener(broker)  # who comes later is told what is retained, and no event
    wait_until(lambda: len(late.got) == 3)
    assert all(retained for _, _, retained in late.got)
    assert late.of("house/hall/availability") == ["offline"]
    late.close()


def test_a_broker_that_goes_and_comes_costs_no_event(broker: Mosquitto, sessions: Any) -> None:
    said: list[str] = []
    with Outlet(Mqtt(Broker("127.0.0.1", broker.port, discovery=None)), on_note=said.append) as out:
        out.begin(sessions)
        listener = Listener(broker)
        out.put(NOTHING, moment(0))
        wait_until(lambda: len(listener.of("shiftedge/Front_door/event")) == 1)
        listener.close()
        broker.stop()
        wait_until(lambda: any("is gone" in sentence for sentence in said))
        for number in range(1, 41):  # more than paho has under way at once
            out.put(NOTHING, moment(number))
        wait_until(lambda: out.account().taken == 41)
        broker.start()
        again = Listener(broker)
        wait_until(lambda: len(again.of("shiftedge/Front_door/event")) == 40)
        wait_until(lambda: any("is there again" in sentence for sentence in said))
        assert [each["time_s"] for each in again.of("shiftedge/Front_door/event")] == list(
            range(1, 41)
        )
        assert "online" in again.of("shiftedge/availability")
        again.close()
    assert out.account().missed == out.account().dropped == 0


def test_a_broker_that_is_not_there_yet(program: str, tmp_path: Path, sessions: Any) -> None:
    broker = Mosquitto(program, tmp_path)
    broker.stop()
    said: list[str] = []
    with Outlet(Mqtt(Broker("127.0.0.1", broker.port)), on_note=said.append) as outlet:
        outlet.begin(sessions)
        outlet.put(NOTHING, moment(1))
        wait_until(lambda: any("does not answer" in sentence for sentence in said))
        broker.start()
        listener = Listener(broker)
        wait_until(lambda: listener.of("shiftedge/Front_door/event"))
        listener.close()
    broker.stop()


def test_what_was_not_sent_is_counted(sessions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MOST", 5)
    sink = Mqtt(Broker("127.0.0.1", free_port()))
    sink.begin(sessions)
    for number in range(5):
        sink.take(NOTHING, moment(number))
    with pytest.raises(Missed, match="5 events wait for it already"):
        sink.take(NOTHING, moment(6))
    sink.close()
    assert sink.undelivered == 5


def test_who_is_lost_is_offline(broker: Mosquitto, sessions: Any) -> None:
    """The last will, when the connection breaks without a word."""
    listener = Listener(broker)
    sink = Mqtt(Broker("127.0.0.1", broker.port))
    sink.begin(sessions)
    wait_until(lambda: listener.of("shiftedge/availability") == ["online"])
    sink._client.socket().shutdown(socket.SHUT_RDWR)
    wait_until(lambda: "offline" in listener.of("shiftedge/availability"))
    wait_until(lambda: listener.of("shiftedge/availability")[-1] == "online")
    sink.close()
    listener.close()


def test_a_wrong_password_is_told(program: str, tmp_path: Path, sessions: Any) -> None:
    (tmp_path / "users").write_text("")
    (tmp_path / "users").chmod(0o600)
    settings = ("allow_anonymous false", f"password_file {tmp_path / 'users'}", "user root")
    broker = Mosquitto(program, tmp_path, *settings)
    said: list[str] = []
    where = Broker("127.0.0.1", broker.port, user="hall", password="wrong")
    with Outlet(Mqtt(where), on_note=said.append) as outlet:
        outlet.begin(sessions)
        wait_until(lambda: any("refuses this client (Not authorized)" in each for each in said))
    broker.stop()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that has signed itself, and its key."""
    pytest.importorskip("cryptography", reason="the dev extra (cryptography) is not installed")
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "broker.pem", folder / "broker.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    paths[1].chmod(0o644)  # mosquitto reads it as its own user
    return paths


def test_tls(program: str, tmp_path: Path, sessions: Any) -> None:
    pem, key = certificate(tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        with contextlib.suppress(OSError):
            folder.chmod(folder.stat().st_mode | 0o011)
    broker = Mosquitto(program, tmp_path, "user root", f"certfile {pem}", f"keyfile {key}")
    listener = Listener(broker, ca_certs=str(pem))
    with Outlet(Mqtt(Broker("127.0.0.1", broker.port, tls=True, ca_file=pem))) as outlet:
        outlet.begin(sessions)
        outlet.put(NOTHING, moment(1))
        wait_until(lambda: listener.of("shiftedge/Front_door/event"))
    said: list[str] = []
    with Outlet(Mqtt(Broker("127.0.0.1", broker.port, tls=True)), on_note=said.append) as outlet:
        outlet.begin(sessions)  # nobody vouches for this certificate
        outlet.put(NOTHING, moment(2))
        wait_until(lambda: said)
    assert len(listener.of("shiftedge/Front_door/event")) == 1
    listener.close()
    broker.stop()
    with pytest.raises(OutputError, match=r"certificates of .* cannot be used"):
        Mqtt(Broker("127.0.0.1", tls=True, ca_file=key))
