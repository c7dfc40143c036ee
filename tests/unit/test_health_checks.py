"""Health: the course of checks, an image's own check, and a port that answers in every wrong way."""

from __future__ import annotations

import argparse
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import keeper
from runtime.api import ContainerSpec, HealthCheck, Image, Outcome, Watched
from runtime.cli.health import options, wanted
from runtime.engines.native import health
from runtime.errors import InvalidSpec
from runtime.image.healthcheck import of_image
from runtime.keeper import Course
from runtime.network import probing
from runtime.network.probing import Patience

BAD, GOOD = Outcome(False, "no"), Outcome(True)


def course(**changes: float) -> Course:
    return Course(Watched(HealthCheck("tcp", port=1, **changes), 1, 100.0, "starting"))  # type: ignore[arg-type]


def test_so_many_failures_in_a_row_make_it_unhealthy() -> None:
    one = course()
    assert [one.after(BAD, 200.0) for _ in range(3)] == ["starting", "starting", "unhealthy"]
    assert one.after(GOOD, 200.0) == "healthy"
    assert [one.after(outcome, 200.0) for outcome in (BAD, BAD, GOOD, BAD, BAD)] == ["healthy"] * 5
    assert one.after(BAD, 200.0) == "unhealthy"


def test_failures_of_the_start_period_do_not_count() -> None:
    one = course(start_period_s=60, retries=1)
    assert one.after(BAD, 159.0) == "starting"
    assert one.pause_s(159.0) < one.watched.check.interval_s
    assert one.after(BAD, 161.0) == "unhealthy"
    other = course(start_period_s=60, retries=1)
    assert other.after(GOOD, 110.0) == "healthy"
    assert other.after(BAD, 120.0) == "unhealthy", "once it was healthy, every failure counts"


def test_a_clock_that_is_set_back_spares_nobody_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    one = course(start_period_s=60, retries=1)
    assert one.after(BAD, -3600.0) == "starting"
    began = one.known
    monkeypatch.setattr(keeper.time, "monotonic", lambda: began + 61)
    assert one.after(BAD, -3540.0) == "unhealthy"


class Relayed:
    """A command that has ended, whose last words come a moment later, as they do by runc."""

    def __init__(self) -> None:
        self.stdin = open(os.devnull, "wb")  # noqa: SIM115 -- closed by who asks
        self.stderr = None
        read, self.write = os.pipe()
        self.stdout = os.fdopen(read, "rb", buffering=0)

    def finished(self) -> bool:
        return True


@pytest.mark.parametrize("held", [False, True], ids=["", "what is left behind holds the output open"])
def test_the_last_words_of_a_command_are_waited_for(held: bool) -> None:
    session = Relayed()
    last = threading.Timer(0.05, lambda: (os.write(session.write, b"fine"), held or os.close(session.write)))
    last.start()
    began = time.monotonic()
    assert health._output(session, Patience(30, lambda: False)) == b"fine"  # type: ignore[arg-type]
    assert time.monotonic() - began < 5
    last.join()
    session.stdout.close()
    if held:
        os.close(session.write)


class Kept:
    """An engine with one container, whose health is asked for each tenth of a second, and one that waits to be started."""

    def __init__(self) -> None:
        self.health = self.restarts = self
        self.asked = threading.Semaphore(0)
        self.starts = threading.Semaphore(0)
        self.waits = True

    def waiting(self) -> dict[str, float]:
        return {"cended": time.time() + 0.3} if self.waits else {}

    def watched(self) -> dict[str, Watched]:
        return {"cone": Watched(HealthCheck("tcp", port=1, interval_s=0.1), 1, time.time(), "healthy")}

    def spec(self, id: str) -> ContainerSpec:
        return ContainerSpec(id, "tenant1", id, "sha256:" + "0" * 64)

    def probe(self, id: str, *, given_up: object) -> Outcome:
        self.asked.release()
        return GOOD

    def carry_out(self, id: str) -> None:
        self.waits = False
        self.starts.release()


def test_a_clock_that_is_set_back_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour, as where a node has a wrong clock until it has found the right one."""
    engine, real = Kept(), time.time
    monkeypatch.setattr(keeper, "ROOM_EVERY_S", 1000.0)
    kept = keeper.Keeper(engine)  # type: ignore[arg-type]
    running = threading.Thread(target=kept.run)
    running.start()
    try:
        assert engine.asked.acquire(timeout=5)
        monkeypatch.setattr(keeper.time, "time", lambda: real() - 3600)
        for _ in range(3):
            assert engine.asked.acquire(timeout=5)
        assert engine.starts.acquire(timeout=5)
    finally:
        kept.stop()
        running.join()


@pytest.mark.parametrize(
    ("test", "command"),
    [
        (["CMD-SHELL", "curl -f localhost"], ("/bin/sh", "-c", "curl -f localhost")),
        (["CMD", "/check", "--fast"], ("/check", "--fast")),
        (["NONE"], None),
        ([], None),
        (["CMD"], None),
        (["CMD", 3], None),
        ("CMD true", None),
        (None, None),
        (["OTHER", "x"], None),
    ],
)
def test_what_an_image_says(test: object, command: tuple[str, ...] | None) -> None:
    found = of_image({"Healthcheck": {"Test": test}})
    assert (found.command if found else None) == command


def test_an_images_times_are_held_within_what_can_be() -> None:
    second = 10**9
    given = {"Test": ["CMD", "x"], "Interval": 5 * second, "Timeout": 2 * second, "Retries": 7, "StartPeriod": second}
    assert of_image({"Healthcheck": given}) == HealthCheck("command", ("x",), None, "/", 5.0, 2.0, 7, 1.0)
    wild = {"Test": ["CMD", "x"], "Interval": 1, "Timeout": 10**30, "Retries": 10**9, "StartPeriod": -5}
    assert of_image({"Healthcheck": wild}) == HealthCheck("command", ("x",), None, "/", 1.0, 300.0, 1000, 0.0)
    beyond = {"Test": ["CMD", "x"], "Interval": 10**400, "Timeout": 10**400, "Retries": 10**400, "StartPeriod": 10**400}
    assert of_image({"Healthcheck": beyond}) == HealthCheck("command", ("x",), None, "/", 86400.0, 300.0, 1000, 86400.0)
    odd = {"Test": ["CMD", "x"], "Interval": "1s", "Timeout": None, "Retries": True, "StartPeriod": 1.5}
    assert of_image({"Healthcheck": odd}) == HealthCheck("command", ("x",), None, "/", 30.0, 30.0, 3, 0.0)
    assert of_image({"Healthcheck": [1]}) is None


class Port:
    """Answers each connection with ``answer``, then holds it open or not."""

    def __init__(self, answer: bytes, *, hold: bool = False, trickle: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.number = int(self._listener.getsockname()[1])
        self._answer, self._hold, self._trickle = answer, hold, trickle
        self._held: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._trickle:
                threading.Thread(target=self._drip, args=(connection,), daemon=True).start()
                continue
            connection.sendall(self._answer)
            if self._hold:
                self._held.append(connection)
            else:
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1 << 16)
                connection.close()

    def _drip(self, connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            connection.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Without root no other network namespace can be visited: the tests' own stands for it."""
    from contextlib import nullcontext

    monkeypatch.setattr(probing, "inside_network", lambda _path: nullcontext())
    return Path("/proc/self/ns/net")


@pytest.mark.parametrize(
    ("answer", "ok", "words"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nbody", True, "HTTP 200 OK"),
        (b"HTTP/1.0 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n", True, "HTTP 302 Found"),
        (b"HTTP/1.1 500 Oh\xff\r\n", False, "HTTP 500 Oh"),
        (b"HTTP/1.1 404\r\n", False, "HTTP 404"),
        (b"SSH-2.0-OpenSSH\r\n", False, "not HTTP"),
        (b"\0" * 10000, False, "not HTTP"),
        (b"", False, "not HTTP"),
    ],
)
def test_an_answer_is_judged_by_its_first_line(here: Path, answer: bytes, ok: bool, words: str) -> None:
    port = Port(answer)
    outcome = probing.http(here, None, port.number, "/", Patience(10, lambda: False))
    port.close()
    assert outcome.ok is ok
    assert words in outcome.output


@pytest.mark.parametrize("how", [{"hold": True}, {"trickle": True}])
def test_an_answer_that_never_comes_is_not_waited_for(here: Path, how: dict[str, bool]) -> None:
    port = Port(b"", **how)
    assert not probing.http(here, None, port.number, "/", Patience(0.5, lambda: False)).ok
    assert not probing.http(here, None, port.number, "/", Patience(3600, lambda: True)).ok
    port.close()


def test_a_port_that_nobody_has(here: Path) -> None:
    port = Port(b"")
    assert probing.tcp(here, None, port.number, Patience(10, lambda: False)).ok
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    refused = probing.tcp(here, "127.0.0.1", number, Patience(10, lambda: False))
    assert refused == Outcome(False, "Connection refused")
    port.close()


@pytest.mark.parametrize(
    ("words", "check"),
    [
        ([], None),
        (["--no-health"], HealthCheck("none")),
        (["--health-tcp", "80", "--health-retries", "7"], HealthCheck("tcp", port=80, retries=7)),
        (["--health-timeout", "2.5"], HealthCheck("command", ("own",), interval_s=5.0, timeout_s=2.5)),
    ],
)
def test_figures_of_the_command_line_are_of_its_check_or_the_images_own(words: list[str], check: HealthCheck) -> None:
    assert wanted(_given(words), _image({"Healthcheck": {"Test": ["CMD", "own"], "Interval": 5 * 10**9}})) == check


@pytest.mark.parametrize("words", [["--health-interval", "5"], ["--no-health", "--health-start-period", "0"]])
def test_figures_of_no_check_are_refused(words: list[str]) -> None:
    with pytest.raises(InvalidSpec, match="no health check") as refused:
        wanted(_given(words), _image({}))
    assert "--health-cmd" in refused.value.hint


def _given(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options(parser)
    return parser.parse_args(words)


def _image(config: dict[str, object]) -> Image:
    return Image("sha256:0", (), "amd64", "linux", 0, (), "", config)
