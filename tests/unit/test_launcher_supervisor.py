"""The supervisor, with real small children."""

from __future__ import annotations

import asyncio
import io
import os
import pwd
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from launcher.output import Output
from launcher.supervisor import Child, Supervised, Supervisor, describe_exit, pause_after

ME = pwd.getpwuid(os.geteuid()).pw_name
ROOT = Path(__file__).parents[2]


def child(name: str, script: str, **more: object) -> Child:
    return Child(name, ["/bin/sh", "-c", script], user=ME, environment={"PATH": os.environ["PATH"]}, **more)  # type: ignore[arg-type]


class Heard:
    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.output = Output(self.stream, colour=False)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    async def until(self, condition: Callable[[list[str]], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition(self.lines):
                await asyncio.sleep(0.02)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def gone(pid: int) -> None:
    async with asyncio.timeout(30):
        while alive(pid):
            await asyncio.sleep(0.02)


async def run_until(supervisor: Supervisor, then: Awaitable[None]) -> int:
    running = asyncio.create_task(supervisor.run())
    await then
    supervisor.ask_to_stop()
    async with asyncio.timeout(30):
        return await running


async def test_lines_carry_the_name_of_who_said_them(heard: Heard) -> None:
    supervisor = Supervisor(
        [
            child("web", r"echo one; printf '\033[31mred\033[0m\n' >&2; printf 'no newline'; sleep 60"),
            child("worker", "echo two; exec sleep 60"),
        ],
        heard.output,
        lambda: None,
    )
    code = await run_until(supervisor, heard.until(lambda lines: {"web    | red", "worker | two"} <= set(lines)))
    assert code == 0
    assert "web    | one" in heard.lines
    assert "web    | no newline" in heard.lines
    assert heard.lines[-1] == "slipway| stopped"


async def test_a_very_long_line_arrives_in_pieces(heard: Heard) -> None:
    supervisor = Supervisor(
        [child("web", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo after; exec sleep 60")],
        heard.output,
        lambda: None,
    )
    await run_until(supervisor, heard.until(lambda lines: "web    | after" in lines))
    assert all(len(line) < 9000 for line in heard.lines)


async def test_a_child_that_dies_is_started_again_and_that_is_said(heard: Heard, tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"echo x >> {count}; [ $(wc -l < {count}) -ge 3 ] && exec sleep 60; exit 7"
    supervisor = Supervisor([child("agent", script)], heard.output, lambda: None)
    await run_until(supervisor, heard.until(lambda _: count.exists() and count.read_text().count("x") == 3))
    assert "slipway| agent ended (exit code 7); starting it again in 0.5 s" in heard.lines
    assert "slipway| agent ended (exit code 7); starting it again in 1 s" in heard.lines


async def test_stages_start_in_order_and_stop_in_order(heard: Heard) -> None:
    said = "trap 'echo bye; exit 0' TERM; echo {0}; while :; do sleep 0.05; done"
    children = [
        child("redis", said.format("up"), start_stage=1, stop_stage=3, ready_line="up"),
        child("worker", said.format("up"), start_stage=2, stop_stage=2, ready_line="up"),
        child("web", said.format("up"), start_stage=2, stop_stage=1, ready_line="up"),
    ]
    ready = asyncio.Event()
    await run_until(Supervisor(children, heard.output, ready.set), _set(ready))
    ups = [line.split("|")[0].strip() for line in heard.lines if line.endswith("| up")]
    byes = [line.split("|")[0].strip() for line in heard.lines if line.endswith("| bye")]
    assert ups[0] == "redis"
    assert byes == ["web", "worker", "redis"]


async def _set(event: asyncio.Event) -> None:
    async with asyncio.timeout(30):
        await event.wait()


async def test_one_that_will_not_stop_is_killed_with_all_it_started(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervisor, "STOP_WITHIN_S", 0.6)
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 61 & echo $$ $! > {pids}; echo up; while :; do sleep 0.05; done"
    supervisor = Supervisor([child("web", script, ready_line="up")], heard.output, lambda: None)
    assert await run_until(supervisor, heard.until(lambda lines: "web    | up" in lines)) == 0
    assert any("web did not stop within" in line for line in heard.lines)
    for pid in pids.read_text(encoding="ascii").split():
        await gone(int(pid))


async def test_what_left_the_group_goes_on(heard: Heard, tmp_path: Path) -> None:
    """As a container's monitor does, which outlives the worker that started it, killed or not."""
    pid_file = tmp_path / "pid"
    script = f"setsid --fork sh -c 'echo $$ > {pid_file}; exec sleep 64' > /dev/null 2>&1; echo up; exec sleep 64"
    supervisor = Supervisor([child("worker", script)], heard.output, lambda: None)
    running = asyncio.create_task(supervisor.run())
    await heard.until(lambda lines: "worker | up" in lines and pid_file.exists() and pid_file.read_text() != "")
    supervisor.supervised[0].signal(signal.SIGKILL)
    await heard.until(lambda lines: any("worker ended (killed by SIGKILL)" in line for line in lines))
    supervisor.ask_to_stop()
    await running
    monitor = int(pid_file.read_text(encoding="ascii"))
    assert alive(monitor)
    os.kill(monitor, signal.SIGKILL)


async def test_asked_twice_it_does_not_wait(heard: Heard) -> None:
    supervisor = Supervisor(
        [child("web", "trap '' TERM; echo up; while :; do sleep 0.05; done", ready_line="up")],
        heard.output,
        lambda: None,
    )
    running = asyncio.create_task(supervisor.run())
    await heard.until(lambda lines: "web    | up" in lines)
    supervisor.ask_to_stop()
    supervisor.ask_to_stop()
    async with asyncio.timeout(Supervisor.STOP_WITHIN_S - 2):
        assert await running == 0
    assert not any("did not stop" in line for line in heard.lines)


async def test_one_that_never_becomes_ready_ends_everything(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "GIVE_UP_AFTER", 2)
    told = []
    supervisor = Supervisor(
        [child("redis", "exec sleep 62"), child("web", "echo broken; exit 3", ready_line="never")],
        heard.output,
        lambda: told.append(1),
    )
    async with asyncio.timeout(30):
        assert await supervisor.run() == 1
    assert "web    | broken" in heard.lines
    assert any("web does not start: its lines above say why" in line for line in heard.lines)
    assert not told


async def test_a_child_that_cannot_be_started_says_so(heard: Heard) -> None:
    supervised = Supervised(Child("web", ["/does/not/exist"], user=ME), heard.output)
    assert await supervised._once() == 1
    assert heard.lines == ["web    | /does/not/exist cannot be started: No such file or directory"]


async def test_children_die_with_a_killed_launcher(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import asyncio, sys
        sys.path.insert(0, {str(ROOT)!r})
        from launcher.output import Output
        from launcher.supervisor import Child, Supervisor
        child = Child("web", ["/bin/sh", "-c", "trap '' TERM HUP; echo $$; while :; do sleep 0.05; done"], user={ME!r})
        asyncio.run(Supervisor([child], Output(), lambda: None).run())
    """)
    launcher = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    pid = int(launcher.stdout.readline().rpartition("|")[2])
    assert alive(pid)
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    await gone(pid)


@pytest.mark.root
async def test_a_child_of_another_user_dies_with_a_killed_launcher_too() -> None:
    """Changing user clears the parent-death signal, so it has to be asked for afterwards."""
    script = textwrap.dedent(f"""
        import asyncio, sys
        sys.path.insert(0, {str(ROOT)!r})
        from launcher.output import Output
        from launcher.supervisor import Child, Supervisor
        child = Child("web", ["/bin/sh", "-c", "echo $$ $(id -un); while :; do sleep 0.05; done"], user="nobody")
        asyncio.run(Supervisor([child], Output(), lambda: None).run())
    """)
    launcher = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    pid, user = launcher.stdout.readline().rpartition("|")[2].split()
    assert user == "nobody"
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    await gone(int(pid))


def test_pauses_grow_to_a_limit() -> None:
    assert [pause_after(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 20)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(
    ("code", "said"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-60, "killed by signal 60")]
)
def test_how_an_end_is_described(code: int, said: str) -> None:
    assert describe_exit(code) == said
