"""A container's options as its own programs meet them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runtime.api import Limits, State, Tmpfs, Ulimit
from runtime.engines.native.engine import NativeEngine
from runtime.errors import InvalidSpec
from runtime.kernel import ipc
from tests import archives
from tests.conftest import patience
from tests.kernel.containers import engine, output, run, spec
from tests.marks import no_cgroup, refused_early

__all__ = ["engine"]
pytestmark = pytest.mark.root


def said(engine: NativeEngine, script: str, **changes: Any) -> list[str]:
    return output(engine, spec(engine, "sh", "-c", script, **changes))


# ------------------------------------------------------------------------------------------------ init


@no_cgroup
def test_the_init_is_first_and_buries_orphans(engine: NativeEngine) -> None:
    script = "cat /proc/1/comm; (sleep 0.6; ps -o stat | grep -c Z) & (sh -c 'sleep 0.1 &'); exec sleep 1.5"
    assert said(engine, script) == ["init", "0"]
    assert said(engine, script, init=False) == ["sh", "1"]


@no_cgroup
def test_the_init_passes_the_stop_signal_on_and_the_exit_code_back(engine: NativeEngine) -> None:
    made = spec(engine, "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done")
    engine.create(made)
    engine.start(made.id)
    assert next(iter(engine.logs(made.id, follow=True))).text == "up"
    assert engine.stop(made.id, grace_s=patience(10)).exit_code == 7


@no_cgroup
def test_a_program_that_handles_no_signal_ends_by_the_stop_signal(engine: NativeEngine) -> None:
    """As the first process it would have ignored it, and its grace would have passed."""
    made = spec(engine, "sleep", "100000")
    engine.create(made)
    engine.start(made.id)
    assert engine.stop(made.id, grace_s=3600).exit_code == 128 + 15


BUSY = f"i=0; while [ $i -lt {20_000 / patience(1):.0f} ]; do i=$((i+1)); done"
"""For a moment that is much shorter than what a young process is given to get ready."""


@no_cgroup
def test_a_stop_just_after_the_start_is_not_lost(engine: NativeEngine) -> None:
    """The kernel drops a signal for which the first process has no handler yet."""
    made = spec(engine, "sh", "-c", f"{BUSY}; trap 'exit 7' TERM; while :; do sleep 0.1; done", init=False)
    engine.create(made)
    engine.start(made.id)
    assert engine.stop(made.id, grace_s=patience(30)).exit_code == 7


@no_cgroup
def test_a_signal_just_after_the_start_is_not_lost(engine: NativeEngine) -> None:
    made = spec(engine, "sh", "-c", f"{BUSY}; trap 'exit 7' USR1; while :; do sleep 0.1; done", init=False)
    engine.create(made)
    engine.start(made.id)
    engine.kill(made.id, "SIGUSR1")
    assert engine.controls.wait(made.id, patience(30)).exit_code == 7


@no_cgroup
@pytest.mark.parametrize("name", ["a\x0bb", "a\rb", "a\x85b", "SigBlk:\tno", "\\n:"])
def test_a_program_cannot_name_itself_so_that_nothing_stops_it(engine: NativeEngine, name: str) -> None:
    script = "while :; do sleep 0.1; done"
    code = f'printf \'#!/bin/sh\n{script}\n\' >"/tmp/$0"; chmod +x "/tmp/$0"; echo up; exec "/tmp/$0"'
    made = spec(engine, "sh", "-c", code, name, init=False)
    engine.create(made)
    engine.start(made.id)
    assert next(iter(engine.logs(made.id, follow=True))).text == "up"
    assert engine.isolation(made.id).seccomp
    assert engine.stop(made.id, grace_s=0.5).state is State.EXITED


@no_cgroup
@pytest.mark.parametrize("word", ["SIGNONE", "99"])
def test_a_stop_signal_that_only_its_image_knows_lets_it_be_ended(
    engine: NativeEngine, tmp_path: Path, word: str
) -> None:
    """No image says what cannot be stopped."""
    odd = engine.load(archives.write(tmp_path / "odd.tar", says={"StopSignal": word}))[0]
    id = run(engine, spec(engine, image=odd.id))
    engine.kill(id, "SIGCONT")
    assert engine.stop(id, grace_s=patience(10)).exit_code == 128 + 15


@no_cgroup
def test_an_image_with_an_init_of_its_own_has_that_alone(engine: NativeEngine) -> None:
    made = spec(engine, "/own/tini")
    engine.create(made)
    own = engine.home.container(made.id) / "upper/own"
    own.mkdir()
    (own / "tini").write_text("#!/bin/sh\ncat /proc/1/comm\n")
    (own / "tini").chmod(0o755)
    engine.start(made.id)
    assert [line.text for line in engine.logs(made.id, follow=True)] == ["tini"]


@refused_early
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nothing", "no command"), ("/bin/nothing", "no command"), ("./here", "no command"), ("/etc", "no command"),
        ("/plain", "permission denied"), ("/text", "not a program"), ("/foreign", "not a program"),
        ("/lost", "interpreter"), ("/dynamic", "interpreter"),
    ],
)  # fmt: skip
def test_a_program_that_the_init_could_not_run_is_told_before_the_start(
    engine: NativeEngine, command: str, words: str
) -> None:
    made = spec(engine, command)
    engine.create(made)
    upper = engine.home.container(made.id) / "upper"
    own = Path("/bin/cat").read_bytes()
    for name, content, mode in (
        ("plain", b"#!/bin/sh\n", 0o644), ("text", b"echo hello\n", 0o755), ("lost", b"#!/no/such\n", 0o755),
        ("foreign", own[:18] + b"\x16\x00" + own[20:], 0o755), ("dynamic", own, 0o755),
    ):  # fmt: skip
        (upper / name).write_bytes(content)
        (upper / name).chmod(mode)
    with pytest.raises(InvalidSpec, match=words) as caught:
        engine.start(made.id)
    assert caught.value.field == "command"
    assert engine.inspect(made.id).state is State.CREATED


@no_cgroup
def test_a_link_out_of_the_image_is_looked_for_inside(engine: NativeEngine) -> None:
    made = spec(engine, "/own/echo", "hello")
    engine.create(made)
    own = engine.home.container(made.id) / "upper/own"
    own.mkdir()
    os.symlink("../../../../bin/busybox", own / "echo")
    engine.start(made.id)
    assert [line.text for line in engine.logs(made.id, follow=True)] == ["hello"]


# ------------------------------------------------------------------------------------------------ policy


def bounding(lines: list[str]) -> int:
    return int(lines[0], 16)


CAPABILITIES = "sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status"
NET_RAW, CHOWN = 1 << 13, 1 << 0


@no_cgroup
def test_capabilities_are_added_and_dropped(engine: NativeEngine) -> None:
    assert bounding(said(engine, CAPABILITIES)) & (NET_RAW | CHOWN) == CHOWN
    assert bounding(said(engine, CAPABILITIES, capabilities_add=("NET_RAW",))) & NET_RAW
    assert not bounding(said(engine, CAPABILITIES, capabilities_drop=("cap_chown",))) & CHOWN
    assert bounding(said(engine, CAPABILITIES, capabilities_drop=("ALL",), capabilities_add=("CHOWN",))) == CHOWN
    assert "refused" in said(engine, "chown 5 /etc && echo done || echo refused", capabilities_drop=("CHOWN",))


@no_cgroup
def test_an_exec_has_no_more_than_the_container(engine: NativeEngine) -> None:
    from runtime.api import ExecSpec

    made = spec(engine, "sleep", "100", capabilities_drop=("ALL",))
    engine.create(made)
    engine.start(made.id)
    session = engine.exec(made.id, ExecSpec(("sh", "-c", CAPABILITIES), user="0"))
    assert int(session.stdout.read(), 16) == 0
    session.close()


@no_cgroup
def test_ulimits_hold(engine: NativeEngine) -> None:
    limits = (Ulimit("nofile", 50, 60), Ulimit("core", 0, 0), Ulimit("fsize", 512 * 100, 512 * 100))
    text = said(
        engine, "ulimit -n; ulimit -Hn; ulimit -c; head -c 100000 /dev/zero > /big; stat -c %s /big", ulimits=limits
    )
    assert text[:3] == ["50", "60", "0"]
    assert str(512 * 100) in text, "the shell's own word of the signal comes before or after"


def test_kernel_settings_are_the_containers_own(engine: NativeEngine) -> None:
    names = ("net.ipv4.tcp_keepalive_time", "kernel.shmmax", "fs.mqueue.msg_max")
    files = [f"/proc/sys/{name.replace('.', '/')}" for name in names]
    before = [Path(file).read_text() for file in files]
    assert said(engine, f"cat {' '.join(files)}", sysctls=dict(zip(names, ("77", "65536", "12"), strict=True))) == [
        "77", "65536", "12",
    ]  # fmt: skip
    assert [Path(file).read_text() for file in files] == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.no_such.setting", "1"),
        ("net.core.somaxconn", "many"),
        ("fs.mqueue.no_such", "1"),
        ("kernel.shmmni", "many"),
    ],
)
def test_a_kernel_setting_that_is_not_there_or_not_taken_is_told(engine: NativeEngine, name: str, value: str) -> None:
    made = spec(engine, "true", sysctls={"kernel.shmmax": "65536", name: value})
    engine.create(made)
    with pytest.raises(InvalidSpec) as refused:
        engine.start(made.id)
    assert refused.value.field == f"sysctls.{name}"
    assert engine.inspect(made.id).state is State.CREATED


def test_who_writes_kernel_settings_stays_who_it_was(engine: NativeEngine) -> None:
    """On new kernels a thread becomes the container's root for it."""
    before = os.geteuid(), os.stat("/proc/self/ns/ipc").st_ino
    assert said(engine, "cat /proc/sys/kernel/shmmni", sysctls={"kernel.shmmni": "77"}) == ["77"]
    assert (os.geteuid(), os.stat("/proc/self/ns/ipc").st_ino) == before


def test_no_kernel_setting_of_the_node_is_written_for_a_number_that_is_anothers_by_now() -> None:
    before = Path("/proc/sys/kernel/shmmni").read_text()
    with subprocess.Popen(["sleep", "100"]) as another:  # in the node's own namespaces
        try:
            with pytest.raises(ProcessLookupError):
                ipc.write_settings(another.pid, 0, {"kernel.shmmni": "77"})
        finally:
            another.kill()
    assert Path("/proc/sys/kernel/shmmni").read_text() == before


# ------------------------------------------------------------------------------------------------ memory


@no_cgroup
def test_a_file_system_in_memory_has_its_size_and_mode_and_runs_nothing(engine: NativeEngine) -> None:
    script = (
        "stat -c %a /cache /tools; head -c 3000000 /dev/zero > /cache/x; stat -c %s /cache/x;"
        "for at in /cache /tools; do rm -f $at/*; cp /bin/busybox $at/echo && $at/echo ran $at; done; true"
    )
    text = said(engine, script, tmpfs=(Tmpfs("/cache", 2 << 20, 0o750), Tmpfs("/tools", 4 << 20, executable=True)))
    assert text[:2] == ["750", "1777"]
    assert str(2 << 20) in text
    assert "ran /tools" in text
    assert "ran /cache" not in text


def test_shared_memory_has_the_size_that_was_asked_for(engine: NativeEngine) -> None:
    assert said(engine, "df -k /dev/shm | tail -1 | awk '{print $2}'", tmpfs=(Tmpfs("/dev/shm", 1 << 20),)) == ["1024"]


@no_cgroup
def test_a_host_name_may_have_dots(engine: NativeEngine) -> None:
    asked = "hostname; hostname -s; grep -c 'mail.example.com mail$' /etc/hosts"
    assert said(engine, asked, hostname="mail.example.com") == ["mail.example.com", "mail", "1"]


@no_cgroup
def test_a_read_only_root_keeps_what_programs_need(engine: NativeEngine) -> None:
    made = spec(
        engine, "sh", "-c",
        "for at in / /etc /home; do touch $at/x 2>/dev/null && echo $at; done; for at in /tmp /run /var/tmp /dev/shm; do touch $at/x && echo $at; done;"
        "cat /run/own; hostname",
        read_only=True, hostname="box",
    )  # fmt: skip
    engine.create(made)
    own = engine.home.container(made.id) / "upper/run"
    own.mkdir()
    (own / "own").write_text("of the image\n")
    engine.start(made.id)
    text = [line.text for line in engine.logs(made.id, follow=True)]
    assert text == ["/tmp", "/run", "/var/tmp", "/dev/shm", "of the image", "box"]


def test_what_lies_in_memory_counts_against_the_limit(engine: NativeEngine) -> None:
    made = spec(
        engine, "sh", "-c", "head -c 60000000 /dev/zero > /cache/x; echo lived",
        tmpfs=(Tmpfs("/cache", 64 << 20),), limits=Limits(32 << 20, 1000, 64),
    )  # fmt: skip
    output(engine, made)
    assert engine.counters([made.id]) == {}
    (final,) = engine.final_readings(made.id)
    assert final.counters.oom_kills
