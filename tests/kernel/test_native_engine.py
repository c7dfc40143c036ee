"""What only a real kernel can show: limits that bite, privileges that are not there, a supervisor that was lost, two instances."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import signal
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import ContainerSpec, ContainerStatus, ExecSpec, Limits, State, Step
from runtime.engines.native.engine import NativeEngine
from runtime.engines.native.records import Records
from runtime.kernel import keyring
from tests import archives
from tests.conftest import patience
from tests.kernel import containers
from tests.kernel.containers import engine
from tests.marks import no_cgroup
from tests.prepared import busybox

__all__ = ["engine"]
pytestmark = pytest.mark.root
TIMES = 8


def spec(engine: NativeEngine, *command: str, **limits: int) -> ContainerSpec:
    return containers.spec(engine, *command, limits=replace(Limits(32 << 20, 1000, 64), **limits))


def said(engine: NativeEngine, *command: str, **limits: int) -> str:
    return "\n".join(containers.output(engine, spec(engine, *command, **limits)))


def test_memory_that_runs_out_is_told(engine: NativeEngine) -> None:
    made = spec(engine, "sh", "-c", "x=a; while :; do x=$x$x; done", memory_bytes=8 << 20)
    engine.create(made)
    engine.start(made.id)
    deadline = time.monotonic() + patience(20)
    while (status := engine.settle(made.id)).state is State.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert status.oom_killed
    assert status.reason == "out of memory"


def test_a_fork_bomb_meets_its_limit(engine: NativeEngine) -> None:
    text = said(engine, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait", pids=6)
    assert "fork" in text


def test_a_busy_loop_is_throttled(engine: NativeEngine) -> None:
    made = spec(engine, "sh", "-c", "while :; do :; done", cpu_millis=100)
    engine.create(made)
    engine.start(made.id)
    deadline = time.monotonic() + patience(10)
    while not (counters := engine.counters([made.id])[made.id]).throttled_ns:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert counters.cpu_ns
    engine.remove(made.id, force=True)


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs none /mnt", "mknod /dev/x c 1 3", "echo 1 > /proc/sys/kernel/panic", "echo b > /proc/sysrq-trigger",
        "hostname other", "ip link add dummy0 type dummy", "chroot /proc/1/root true && echo 1 > /sys/kernel/uevent_helper",
        "nsenter -t 1 -m true; dmesg -n 1",
    ],
)  # fmt: skip
def test_what_a_root_inside_may_not_do(engine: NativeEngine, attempt: str) -> None:
    assert said(engine, "sh", "-c", f"({attempt}) >/dev/null 2>&1 && echo allowed || echo refused") == "refused"


@no_cgroup
def test_root_inside_is_nobody_outside(engine: NativeEngine) -> None:
    made = spec(engine, "sh", "-c", "touch /made; exec sleep 100")
    engine.create(made)
    status = engine.start(made.id)
    outside = os.stat(f"/proc/{status.pid}").st_uid
    assert outside >= engine.home.uid_base
    file = engine.home.container(made.id) / "upper/made"
    deadline = time.monotonic() + patience(10)
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert file.stat().st_uid == outside
    assert os.stat("/dev/null").st_uid == 0
    engine.remove(made.id, force=True)


@no_cgroup
def test_output_can_be_opened_by_a_program(engine: NativeEngine) -> None:
    assert said(engine, "sh", "-c", "echo by-name > /dev/stdout") == "by-name"


@no_cgroup
def test_a_log_never_outgrows_its_limit(engine: NativeEngine) -> None:
    made = spec(engine, "sh", "-c", "yes 0123456789 | head -c 3000000; sleep 100", log_bytes=128 << 10)
    engine.create(made)
    engine.start(made.id)
    most, kept = 0, 0
    for _ in range(100):
        inodes = {}
        for path in engine.home.container(made.id).glob("ctr.log*"):
            with contextlib.suppress(FileNotFoundError):
                inodes[path.stat().st_ino] = path.stat().st_size
        most, kept = max(most, sum(inodes.values())), max(kept, len(inodes))
        engine.rotate_logs()
        time.sleep(0.01)
    assert kept > 1, "generations were kept"
    assert most <= 128 << 10
    engine.remove(made.id, force=True)


@no_cgroup
def test_a_followed_log_ends_with_a_program_that_says_nothing(engine: NativeEngine) -> None:
    """Nobody else settles it: no agent runs here."""
    made = spec(engine, "sleep", "0.3")
    engine.create(made)
    engine.start(made.id)
    assert list(engine.logs(made.id, follow=True)) == []
    assert engine.settle(made.id).exit_code == 0


def answered(engine: NativeEngine, id: str, spec: ExecSpec) -> str:
    with contextlib.closing(engine.exec(id, spec)) as session:
        said = session.stdout.read().decode()
        assert session.wait(patience(10)) == 0
    return said


@no_cgroup
def test_an_exec_has_the_containers_environment_and_its_own(engine: NativeEngine) -> None:
    made = replace(spec(engine, "sleep", "100"), env={"OF_CONTAINER": "one", "BOTH": "container"})
    engine.create(made)
    engine.start(made.id)
    more = {"OF_EXEC": "two", "BOTH": "exec"}
    rows = answered(engine, made.id, ExecSpec(("env",), env=more)).splitlines()
    assert {"OF_CONTAINER=one", "OF_EXEC=two", "BOTH=exec"} <= set(rows)
    assert any(row.startswith("PATH=") for row in rows)


@no_cgroup
def test_an_execs_environment_is_nobodys_to_read_on_the_node(engine: NativeEngine) -> None:
    made = spec(engine, "sleep", "100")
    engine.create(made)
    engine.start(made.id)
    secret = secrets.token_hex(16)
    session = engine.exec(made.id, ExecSpec(("sleep", "100"), env={"PASSWORD": secret}))
    shown = [path for path in Path("/proc").glob("[0-9]*/cmdline") if secret.encode() in content(path)]
    session.close()
    assert not shown


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


@no_cgroup
@pytest.mark.parametrize(("own", "other"), [("0", "1000"), ("1000", "0")])
def test_an_exec_has_the_capabilities_of_its_user(engine: NativeEngine, own: str, other: str) -> None:
    made = replace(spec(engine, "sleep", "100"), user=own)
    engine.create(made)
    engine.start(made.id)
    asked = ("sed", "-n", "s/^CapEff:[[:space:]]*//p", "/proc/self/status")
    effective = {user: int(answered(engine, made.id, ExecSpec(asked, user=user)), 16) for user in (own, other)}
    assert effective["1000"] == 0
    assert effective["0"] > 0


def test_closing_an_exec_ends_what_it_left_in_the_background(engine: NativeEngine) -> None:
    made = spec(engine, "sleep", "100")
    engine.create(made)
    engine.start(made.id)
    session = engine.exec(made.id, ExecSpec(("sh", "-c", "sleep 1234 & sleep 1235 & echo up; exec sleep 1236")))
    assert session.stdout.read(3) == b"up\n"
    session.close()
    listed = engine.exec(made.id, ExecSpec(("ps", "-o", "args")))
    assert b"123" not in listed.stdout.read()
    listed.close()
    engine.remove(made.id, force=True)


def test_what_a_command_that_ended_at_once_left_behind_is_ended(engine: NativeEngine) -> None:
    """Whoever looks at the command itself comes too late."""
    made = spec(engine, "sleep", "100")
    engine.create(made)
    engine.start(made.id)
    for _ in range(TIMES):
        with contextlib.closing(
            engine.exec(made.id, ExecSpec(("sh", "-c", "sleep 1234 >/dev/null 2>&1 &")))
        ) as session:
            assert session.wait(patience(10)) == 0
    with contextlib.closing(engine.exec(made.id, ExecSpec(("ps", "-o", "args")))) as listed:
        assert b"1234" not in listed.stdout.read()


def test_closing_an_exec_leaves_those_of_others_alone(engine: NativeEngine) -> None:
    made = spec(engine, "sleep", "100")
    engine.create(made)
    engine.start(made.id)
    with contextlib.closing(engine.exec(made.id, ExecSpec(("cat",)))) as other:
        engine.exec(made.id, ExecSpec(("sh", "-c", "sleep 1234 >/dev/null 2>&1 &"))).close()
        other.stdin.write(b"here\n")
        assert other.stdout.read(5) == b"here\n"


def test_a_killed_supervisor_is_told_and_nothing_hangs(engine: NativeEngine) -> None:
    made = spec(engine, "sleep", "100")
    engine.create(made)
    engine.start(made.id)
    os.kill(int((engine.home.conmon(made.id) / "conmon.pid").read_text()), signal.SIGKILL)
    status = engine.stop(made.id, grace_s=0.1)
    assert status.state is State.EXITED
    assert status.reason in {"", "supervisor lost"}
    assert [reading.epoch for reading in engine.final_readings(made.id)] == [1]


def test_two_instances_do_not_see_each_other(engine: NativeEngine, tmp_path: Path) -> None:
    block = engine.home.subnets.split(".")
    other_home = replace(
        engine.home,
        root=tmp_path / "other",
        instance=f"t{secrets.token_hex(4)}",
        subnets=f"10.{(int(block[1]) + 1) % 200 + 20}.0.0/16",
    )
    other = NativeEngine(other_home)
    busybox(other)
    mine, theirs = spec(engine, "sleep", "100"), spec(other, "sleep", "100")
    for one, made in ((engine, mine), (other, theirs)):
        one.create(made)
        one.start(made.id)
    assert other.reconcile().adopted == (theirs.id,)
    other.teardown()
    assert engine.inspect(mine.id).state is State.RUNNING
    assert engine.reconcile().adopted == (mine.id,)


@no_cgroup
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the older sibling of another architecture")
def test_system_calls_of_an_older_architecture_end_the_program(engine: NativeEngine) -> None:
    """An i386 program that only leaves by exit(0), int 0x80."""
    code = bytes.fromhex("b801000000 31db cd80")
    start, size = 0x8048000, 52 + 32 + len(code)
    header = b"\x7fELF\x01\x01\x01" + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, start + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    header += struct.pack("<IIIIIIII", 1, 0, start, start, size, size, 5, 0x1000)
    made = spec(engine, "sh", "-c", "/old; echo $?")
    engine.create(made)
    program = engine.home.container(made.id) / "upper/old"
    program.write_bytes(header + code)
    program.chmod(0o755)
    engine.start(made.id)
    assert [line.text for line in engine.logs(made.id, follow=True) if line.text.isdigit()] == [
        str(128 + signal.SIGSYS)
    ]
    engine.remove(made.id, force=True)


@no_cgroup
def test_a_tenants_containers_use_up_no_keys_of_its_user(engine: NativeEngine) -> None:
    """The kernel allows a user 200; with a session keyring of the tenant's for each container that was the most it could have."""
    held = []
    for _ in range(3):
        made = spec(engine, "sleep", "100")
        engine.create(made)
        engine.start(made.id)
        with contextlib.closing(engine.exec(made.id, ExecSpec(("true",)))) as session:
            session.wait(patience(10))
        held.append(_keys_of(engine.home.uid_base))
    assert held[0] == held[1] == held[2]


def _keys_of(uid: int) -> int:
    """Keys that count against the user: the third figure of proc(5), /proc/key-users."""
    for line in Path("/proc/key-users").read_text().splitlines():
        owner, _, rest = line.partition(":")
        if int(owner) == uid:
            return int(rest.split()[2].partition("/")[0])
    return 0


@no_cgroup
def test_each_session_keyring_is_new_and_inherited() -> None:
    def sessions() -> tuple[int, int]:
        keyring.new_session()
        program = "from runtime.kernel import keyring; print(keyring.session())"
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        return keyring.session(), int(done.stdout)

    before = keyring.session()
    with ThreadPoolExecutor(1) as thread:
        first, second = thread.submit(sessions).result(), thread.submit(sessions).result()
    assert first[0] == first[1]
    assert second[0] == second[1]
    assert len({first[0], second[0], before}) == 3
    assert keyring.session() == before, "other threads keep theirs"


def test_a_stop_that_meets_a_start_waits_for_it_and_stops(engine: NativeEngine) -> None:
    made = spec(engine, "sleep", "100")
    engine.create(made)
    stopped: list[ContainerStatus] = []
    waiting = threading.Thread(target=lambda: stopped.append(engine.stop(made.id, grace_s=0)))

    def stop_it(step: Step) -> None:
        if step.stage == "network" and not waiting.is_alive():
            waiting.start()

    assert engine.start(made.id, progress=stop_it).state is State.RUNNING
    waiting.join()
    assert [one.state for one in stopped] == [State.EXITED]
    assert engine.inspect(made.id).state is State.EXITED


def test_a_stop_signals_nobody_who_took_over_the_number_of_a_process(engine: NativeEngine) -> None:
    """A program that ended before its start was recorded has no start time there to tell it by."""
    made = spec(engine, "true")
    engine.create(made)
    engine.start(made.id)
    with subprocess.Popen(["sleep", "100"]) as bystander:
        records = Records(engine.home)
        records.save(made.id, replace(records.record(made.id), pid=bystander.pid, pid_started=None))
        assert engine.stop(made.id, grace_s=0.1).state is State.EXITED
        assert bystander.poll() is None
        bystander.kill()


@no_cgroup
def test_an_exec_as_another_user_has_that_users_home(engine: NativeEngine) -> None:
    made = spec(engine, "sh", "-c", "echo www:x:33:33::/srv:/bin/sh > /etc/passwd; echo up; exec sleep 100")
    engine.create(made)
    engine.start(made.id)
    assert next(iter(engine.logs(made.id, follow=True))).text == "up"
    for wanted, expected in ((ExecSpec(("sh", "-c", "echo $HOME"), user="www"), b"/srv\n"),
                             (ExecSpec(("sh", "-c", "echo $HOME"), user="www", env={"HOME": "/own"}), b"/own\n")):  # fmt: skip
        with contextlib.closing(engine.exec(made.id, wanted)) as session:
            assert session.stdout.read() == expected


def test_what_an_exec_of_a_killed_process_left_is_swept(engine: NativeEngine) -> None:
    made = spec(engine, "sleep", "100")
    engine.create(made)
    engine.start(made.id)
    program = (
        "import os, signal; from runtime.api import ExecSpec; from runtime.engines.native.engine import NativeEngine;"
        "from runtime.home import Home; engine = NativeEngine(Home.from_environment());"
        f"engine.exec('{made.id}', ExecSpec(('sleep', '50'), terminal=True)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    with contextlib.closing(engine.exec(made.id, ExecSpec(("sleep", "60")))):
        swept = engine.reconcile().swept
        (folder,) = (engine.home.run / "exec").iterdir()
    assert len(swept) == 1
    assert swept[0].startswith(f"exec:{made.id}.")
    assert not (engine.home.run / "exec" / swept[0].partition(":")[2]).exists()
    assert not folder.exists()


@no_cgroup
def test_an_image_that_has_a_layer_twice_shows_it_where_it_is_topmost(engine: NativeEngine, tmp_path: Path) -> None:
    """As of two steps that changed nothing, or of one that took back what another did; overlayfs takes no folder twice."""
    once = archives.layer({"d/a": b"once", "d/.wh.gone": b"", "x": b"once"})
    between = archives.layer({"d/gone": b"between", "d/b": b"between", "x": b"between"})
    layers = [archives.busybox(), once, between, once]
    image = engine.load(archives.write(tmp_path / "twice.tar", layers=layers))[0]
    made = containers.spec(engine, "sh", "-c", "echo $(cat /x) $(ls /d)", image=image.id)
    assert containers.output(engine, made) == ["once a b"]


@no_cgroup
def test_an_image_has_as_many_layers_as_docker_allows(engine: NativeEngine, tmp_path: Path) -> None:
    layers = [archives.busybox(), *(archives.layer({f"f{number}": b"x"}) for number in range(126))]
    image = engine.load(archives.write(tmp_path / "many.tar", layers=layers))[0]
    made = containers.spec(engine, "sh", "-c", "ls -d /f* | wc -l", image=image.id)
    assert containers.output(engine, made) == ["126"]
