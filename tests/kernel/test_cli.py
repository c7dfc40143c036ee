"""The runtime's command line, as a person uses it, without Django."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.api import ContainerSpec
from runtime.cli.controls import awaited
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
from tests import archives
from tests.conftest import Place, patience
from tests.kernel.real_registry import real_registry
from tests.marks import said_only
from tests.prepared import busybox

pytestmark = [pytest.mark.root, said_only]
ROOT = Path(__file__).parents[2]


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runtime", *words],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=patience(60),
    )


@pytest.fixture(autouse=True)
def cleaned(place: Place) -> Iterator[None]:
    yield
    assert cli("down").returncode == 0


def test_from_run_to_rm() -> None:
    made = cli(
        "run",
        "-d",
        "--name",
        "box",
        "-p",
        "8080",
        "-e",
        "GREETING=hello",
        "--memory",
        "32",
        "busybox",
        "sh",
        "-c",
        "echo $GREETING; sleep 100",
    )
    assert made.returncode == 0, made.stderr
    assert "->8080/tcp" in made.stdout
    assert "running" in cli("ps").stdout
    done = cli("exec", "box", "sh", "-c", "echo inside; exit 4")
    assert (done.returncode, done.stdout) == (4, "inside\n")
    done = cli("exec", "-e", "GREETING=bye", "-w", "/etc", "-u", "7", "box", "sh", "-c", "echo $GREETING $PWD; id -u")
    assert done.stdout == "bye /etc\n7\n"
    assert cli("logs", "box").stdout == "hello\n"
    assert json.loads(cli("inspect", "box").stdout)["isolation"]["seccomp"] is True
    assert "0." in cli("stats").stdout
    assert cli("stop", "-t", "0", "box").returncode == 0
    assert cli("rm", "box").returncode == 0
    assert "box" not in cli("ps").stdout
    assert "slipway.local/busybox:latest" in cli("images").stdout


def test_of_several_containers_one_that_is_refused_keeps_no_other() -> None:
    for name in ("one", "two"):
        assert cli("run", "-d", "--name", name, "busybox", "sleep", "100").returncode == 0
    assert cli("stop", "-t", "0", "two").returncode == 0
    done = cli("rm", "one", "two")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "one: The container is running. Stop it first, or remove it by force.\n"
    listed = cli("ps").stdout
    assert "one" in listed
    assert "two" not in listed


def test_prune_takes_what_has_ended_and_nothing_else() -> None:
    assert cli("create", "--name", "new", "busybox").returncode == 0
    assert cli("run", "-d", "--name", "busy", "busybox", "sleep", "100").returncode == 0
    assert cli("run", "-d", "--name", "again", "--restart", "always", "busybox", "sleep", "100").returncode == 0
    assert cli("run", "-d", "--name", "done", "busybox", "sleep", "100").returncode == 0
    assert cli("kill", "-s", "SIGUSR1", "again").returncode == 0
    assert cli("stop", "-t", "0", "done").returncode == 0
    deadline = time.monotonic() + patience(20)
    while "again exited" not in " ".join(cli("ps").stdout.split()):
        assert time.monotonic() < deadline
    assert cli("prune").stdout == "done\n"
    assert sorted(row.split()[1] for row in cli("ps").stdout.splitlines()[1:]) == ["again", "busy", "new"]


def test_what_ended_is_told_as_ended_though_nobody_watches() -> None:
    assert cli("run", "-d", "--name", "brief", "busybox", "sh", "-c", "exit 3").returncode == 0
    assert cli("logs", "-f", "brief").returncode == 0  # to its end
    assert cli("ps").stdout.splitlines()[1].split()[1:4] == ["brief", "exited", "3"]
    assert cli("run", "-d", "--name", "other", "busybox", "sleep", "100").returncode == 0
    assert cli("kill", "other").returncode == 0
    deadline = time.monotonic() + patience(20)
    while (seen := json.loads(cli("inspect", "other").stdout))["status"]["state"] == "running":
        assert time.monotonic() < deadline
    assert seen["status"]["exit_code"] == 128 + 9


def test_what_a_flood_replaces_before_it_is_read_is_told() -> None:
    flood = "sleep 2; seq 200000"
    assert cli("run", "-d", "--name", "flood", "--log", "1", "busybox", "sh", "-c", flood).returncode == 0
    done = cli("logs", "-f", "flood")
    numbers = [int(word) for word in done.stdout.split()]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 200_000
    whole = len(numbers) == 200_001 - numbers[0]
    assert whole or "bytes of the log were replaced" in done.stderr


def test_what_the_kernel_killed_is_told_while_the_container_lives() -> None:
    script = "tail /dev/zero; echo $?; exec sleep 100"
    assert cli("run", "-d", "--name", "hungry", "--memory", "16", "busybox", "sh", "-c", script).returncode == 0
    deadline = time.monotonic() + patience(30)
    while "137" not in cli("logs", "hungry").stdout:
        assert time.monotonic() < deadline
    status = json.loads(cli("inspect", "hungry").stdout)["status"]
    assert (status["state"], status["oom_kills"], status["oom_killed"]) == ("running", 1, False)


def test_run_attached_ends_with_the_programs_code() -> None:
    done = cli("run", "--rm", "busybox", "sh", "-c", "echo out; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\n")


def test_refusals_are_sentences() -> None:
    for words, text in (
        (("stop", "nobody"), "no container"),
        (("run", "busybox", "nonesuch"), "nonesuch"),
        (("run", "-p", "x", "busybox"), "port"),
        (("run", "-d", "--rm", "busybox"), "--rm"),
        (("run", "--rm", "--restart", "always", "busybox"), "--rm"),
    ):
        done = cli(*words)
        assert done.returncode == 1
        assert text in done.stderr
        assert "Traceback" not in done.stderr


def test_what_the_log_has_of_a_failed_start_is_shown_to_who_asks(tmp_path: Path) -> None:
    """The OCI runtime's own words, for which there is no sentence: a folder of the image where a file of the runtime's own comes."""
    image = archives.write(
        tmp_path / "odd.tar",
        reference="test/odd:latest",
        layers=[archives.busybox(), archives.entries(archives.folder("etc/hosts"))],
    )
    failed = ("run", "--rm", str(image), "true")
    done = cli(*failed)
    assert done.returncode == 1
    assert done.stderr.startswith("The container could not be started: "), done.stderr
    assert "level=error" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert str(Home.from_environment().root) not in done.stderr
    told = cli("--verbose", *failed)
    assert told.returncode == 1
    assert told.stderr.endswith(done.stderr)
    assert len(told.stderr) > 2 * len(done.stderr)


def ran(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, with these arguments."""
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=patience(60),
    )


def test_nothing_of_the_console_is_needed() -> None:
    """Neither Django nor the console is imported, whatever the verb."""
    program = (
        "import sys; from runtime.cli import main; code = main(sys.argv[1:]); "
        "bad = {name.split('.')[0] for name in sys.modules} & {'django', 'console', 'channels', 'celery', 'redis'}; "
        "sys.exit(f'imported: {bad}' if bad else code)"
    )
    for words in (("run", "-d", "--name", "alone", "busybox", "sleep", "100"), ("stats",), ("inspect", "alone")):
        done = ran(program, *words)
        assert done.returncode == 0, done.stderr


LIBRARIES = {
    "asyncio",
    "concurrent.futures",
    "httpx",
    "isal",
    "logging",
    "pyroute2",
    "ssl",
    "tarfile",
    "tempfile",
    "zstandard",
}
NO_LAUNCH = {"runtime.engines.native.creation", "runtime.engines.native.starting", "runtime.engines.native.recovery"}
NOT_LOADED = {
    ("run", "-d", "--name", "box", "slipway.local/busybox:latest", "sleep", "100"): {
        *(LIBRARIES - {"tempfile"}), "runtime.api.engine", "runtime.engines.native.recovery", "runtime.image.build",
    },
    ("exec", "box", "true"): {*LIBRARIES, *NO_LAUNCH, "hashlib", "random", "runtime.image.store", "runtime.network"},
    ("rm", "-f", "box"): {*LIBRARIES, *NO_LAUNCH, "runtime.image.store", "runtime.validation"},
}  # fmt: skip
"""What a verb has no use for, so that nobody waits for it: loading is most of what a small verb takes."""


def test_a_verb_loads_what_it_uses() -> None:
    program = (
        "import sys; from runtime.cli import main; code = main(sys.argv[1:]); print(*sys.modules, file=sys.stderr); "
        "sys.exit(code)"
    )
    assert cli("run", "--rm", "busybox", "true").returncode == 0  # the image is built, the network is up
    for words, unwanted in NOT_LOADED.items():
        done = ran(program, *words)
        assert done.returncode == 0, done.stderr
        loaded = set(done.stderr.split())
        assert "runtime.engines.native.engine" in loaded
        assert loaded & unwanted == set(), words


def test_what_is_piped_in_comes_out_of_the_program() -> None:
    assert cli("run", "-d", "--name", "box", "busybox", "sleep", "100").returncode == 0
    sent = os.urandom(300_000)
    words = [sys.executable, "-m", "runtime", "exec", "-i", "box", "cat"]
    done = subprocess.run(words, cwd=ROOT, check=True, input=sent, capture_output=True, timeout=patience(60))
    assert done.stdout == sent
    closed = cli("exec", "box", "cat")
    assert (closed.returncode, closed.stdout) == (0, "")
    early = [sys.executable, "-m", "runtime", "exec", "-i", "box", "head", "-c", "3"]
    done = subprocess.run(early, cwd=ROOT, check=True, input=sent, capture_output=True, timeout=patience(60))
    assert done.stdout == sent[:3]


@pytest.mark.parametrize(
    ("closed", "said"), [("<&-", ("in\n", "end\n")), (">&-", ("", "end\n")), ("<&- >&- 2>&-", ("", ""))]
)
def test_who_has_closed_a_stream_has_none(closed: str, said: tuple[str, str]) -> None:
    assert cli("run", "-d", "--name", "box", "busybox", "sleep", "100").returncode == 0
    words = f"exec {sys.executable} -m runtime exec -i box sh -c 'cat; echo in; echo end >&2' {closed}"
    done = subprocess.run(
        ["sh", "-c", words], cwd=ROOT, check=False, capture_output=True, text=True, timeout=patience(60)
    )
    assert (done.returncode, (done.stdout, done.stderr)) == (0, said)


def test_who_runs_something_talks_to_it() -> None:
    sent = bytes([16, 17]) + os.urandom(300_000)  # the keys to leave by are none where nobody types
    words = [sys.executable, "-m", "runtime", "run", "-i", "--rm", "busybox", "sh", "-c", "echo begun >&2; cat; exit 5"]
    done = subprocess.run(words, cwd=ROOT, check=False, input=sent, capture_output=True, timeout=patience(60))
    assert (done.returncode, done.stderr) == (5, b"begun\n")
    assert done.stdout == sent
    assert cli("ps").stdout.count("\n") == 1


def test_who_runs_a_terminal_has_it_from_its_first_word() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 31, 91, 0, 0))
        os.chdir(ROOT)
        script = "echo first; stty size; read word; echo got $word; exit 6"
        os.execv(sys.executable, [sys.executable, "-m", "runtime", "run", "-it", "busybox", "sh", "-c", script])
    try:
        assert b"first\r\n31 91" in _until(terminal, b"31 91")
        os.write(terminal, b"it\n")
        _until(terminal, b"got it")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    finally:
        os.close(terminal)


def test_who_leaves_by_the_keys_leaves_it_running() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        words = ["run", "-it", "--rm", "--name", "box", "busybox", "sh", "-c", "echo up; exec sleep 100"]
        os.execv(sys.executable, [sys.executable, "-m", "runtime", *words])
    try:
        _until(terminal, b"up")
        os.write(terminal, b"\x10\x11")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)
    assert "running" in cli("ps").stdout


def test_who_writes_before_it_reads_is_heard() -> None:
    """More than pipes and terminals hold, both ways at once."""
    assert cli("run", "-d", "--name", "box", "busybox", "sleep", "100").returncode == 0
    lines = "".join(f"{number}\n" for number in range(1, 50_001))
    for kind, script, said in (
        ("-i", "seq 1 50000; cat > /dev/null", lines),
        ("-it", "cat > /dev/null; echo end", "end\n"),
    ):
        words = [sys.executable, "-m", "runtime", "exec", kind, "box", "sh", "-c", script]
        done = subprocess.run(
            words, cwd=ROOT, check=True, input=lines, capture_output=True, text=True, timeout=patience(60)
        )
        assert done.stdout.endswith(said), kind


def test_a_terminal_that_nobody_types_at_shows_what_the_program_says() -> None:
    assert cli("run", "-d", "--name", "box", "busybox", "sleep", "100").returncode == 0
    words = [sys.executable, "-m", "runtime", "exec", "-t", "box"]
    for more, typed, said in (
        (("sh", "-c", "sleep 0.3; tty"), b"", b"/dev/pts/"),
        (("sh",), b"exit 4\n", b"exit 4"),
        (("sh", "-c", "stty -echo; cat"), b"no newline", b"no newline"),
    ):
        done = subprocess.run([*words, *more], cwd=ROOT, check=False, input=typed, capture_output=True, timeout=patience(60))  # fmt: skip
        assert (done.returncode, said in done.stdout) == (4 if b"exit" in typed else 0, True), done


def test_who_reads_a_terminal_slowly_has_the_end_of_it() -> None:
    """What it says is more than a pipe of a page and one reading hold, and no more than a terminal does, 11 KiB, wherever the readings cut it."""
    assert cli("run", "-d", "--name", "box", "busybox", "sleep", "100").returncode == 0
    ours, terminal = pty.openpty()
    words = [sys.executable, "-m", "runtime", "exec", "-t", "box", "sh", "-c", "seq 1 1450; sleep 0.2; seq 1 300"]
    with subprocess.Popen(words, cwd=ROOT, stdin=terminal, stdout=subprocess.PIPE, bufsize=0, pipesize=4096) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"1"
        deadline = time.monotonic() + patience(20)
        while _has_children(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert process.stdout.read().endswith(b"\n299\r\n300\r\n")
    os.close(ours)
    os.close(terminal)


def _has_children(pid: int) -> bool:
    """Those that have ended are none."""
    states = subprocess.run(["ps", "--ppid", str(pid), "-o", "stat="], check=False, capture_output=True, text=True)
    return any(not row.startswith("Z") for row in states.stdout.split())


def test_a_terminal_is_one_with_its_size_and_passes_changes_on() -> None:
    assert cli("run", "-d", "--name", "box", "busybox", "sleep", "100").returncode == 0
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "runtime", "exec", "-it", "box", "sh"])
    try:
        _resize(terminal, 31, 91)
        _until(terminal, b"# ")
        os.write(terminal, b"tty; stty size\n")
        assert b"31 91" in _until(terminal, b"31 91")
        _resize(terminal, 40, 100)
        os.write(terminal, b"stty size\n")
        _until(terminal, b"40 100")
        os.write(terminal, b"exit 6\n")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    finally:
        os.close(terminal)


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def _until(terminal: int, wanted: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + patience(20)
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096)
    return seen


@pytest.mark.parametrize(("input", "sent"), [([], signal.SIGINT), (["-i"], signal.SIGINT), ([], signal.SIGTERM)])
def test_ctrl_c_stops_what_was_run_attached(input: list[str], sent: signal.Signals) -> None:
    words = [sys.executable, "-m", "runtime", "run", *input, "--rm", "--name", "box", "busybox", "sh", "-c"]
    process = subprocess.Popen(
        [*words, "grep SigBlk /proc/self/status; trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert int(process.stdout.readline().split()[1], 16) & 1 << (signal.SIGINT - 1) == 0, "its own signals are its own"
    assert process.stdout.readline() == "up\n"
    process.send_signal(sent)
    assert process.wait(timeout=patience(30)) == 9
    assert "box" not in cli("ps").stdout


def test_a_second_ctrl_c_kills_what_does_not_stop() -> None:
    words = [sys.executable, "-m", "runtime", "run", "--name", "deaf", "busybox", "sh", "-c"]
    script = "trap 'echo no' TERM; echo up; while :; do sleep 0.1; done"
    with subprocess.Popen([*words, script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "no\n", "what it says while it is to end is shown"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=patience(30)) == 128 + 9
    assert cli("rm", "deaf").returncode == 0


@pytest.mark.parametrize("deed", [("rm", "-f"), ("restart", "-t", "0")])
def test_who_waits_is_told_the_code_of_what_is_removed_or_started_anew(deed: tuple[str, ...]) -> None:
    script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done"
    words = [sys.executable, "-m", "runtime"]
    with subprocess.Popen(
        [*words, "run", "--name", "box", "--no-init", "busybox", "sh", "-c", script],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    ) as attached:  # fmt: skip
        assert attached.stdout is not None
        assert attached.stdout.readline() == "up\n"
        engine = NativeEngine(Home.from_environment())
        id = engine.list()[0].id
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(awaited, engine, id, patience(30))
            time.sleep(0.5)
            assert cli(*deed, "box").returncode == 0
            code = waiting.result()
        assert attached.wait(timeout=patience(30)) == code
    assert code in {9, 137}, "it may have heard the stop before it was killed"


def test_several_at_once_or_none() -> None:
    for name in ("one", "two"):
        assert cli("run", "-d", "--name", name, "busybox", "sleep", "100").returncode == 0
    assert cli("rm", "-f", "one", "nobody").returncode == 1
    assert "one" in cli("ps").stdout, "nothing is half done"
    assert cli("stop", "-t", "0", "one", "two").returncode == 0
    assert cli("ps").stdout.count("exited") == 2
    assert cli("start", "one").returncode == 0
    assert cli("rm", "-f", "one", "two").returncode == 0
    assert cli("ps").stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-p", "80/sctp"], "not a port"), (["-p", "1:2:3"], "not a port"), (["-p", "²"], "not a port"),
        (["-p", "80:"], "not a port"), (["-p", "99999"], "is not a port"), (["--cpus", "nan"], "not a number"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_a_sentence(words: list[str], said: str) -> None:
    done = cli("run", "-d", *words, "busybox", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_two_tenants_use_is_nobodys_to_remove() -> None:
    engine = NativeEngine(Home.from_environment())
    image = busybox(engine).id
    for tenant in ("tenant1", "tenant2"):
        engine.create(ContainerSpec(f"c{tenant}", tenant, "web", image, command=("true",)))
    done = cli("rm", "web")
    assert done.returncode == 1
    assert "ctenant1, ctenant2" in done.stderr
    assert len(engine.list()) == 2
    assert cli("rm", "ctenant1").returncode == 0
    assert [status.id for status in engine.list()] == ["ctenant2"]


def test_options_of_run_are_what_the_container_has() -> None:
    words = (
        "-l", "team=blue", "-u", "5", "-w", "/tmp", "--hostname", "inner", "--read-only", "--tmpfs", "/cache:size=1m,mode=700,exec",
        "--ulimit", "core=0", "--ulimit", "nofile=50:60", "--cap-add", "net_raw", "--cap-drop", "ALL", "--sysctl",
        "net.ipv4.tcp_keepalive_time=99", "--stop-signal", "QUIT", "--stop-time", "3", "--swap", "8", "--cpuset", "0", "--cpu-weight", "200",
        "--entrypoint", "sh", "--memory", "24", "--pids", "9", "--cpus", "0.5", "--log", "1",
    )  # fmt: skip
    shown = "id -u; pwd; hostname; ulimit -n; cat /proc/sys/net/ipv4/tcp_keepalive_time; exec sleep 100"
    made = cli("run", "-d", "--name", "box", *words, "busybox", "-c", shown)
    assert made.returncode == 0, made.stderr
    spec = json.loads(cli("inspect", "box").stdout)["spec"]
    assert (
        spec["limits"] | {"memory_bytes": 24 << 20, "swap_bytes": 8 << 20, "cpuset": "0", "cpu_weight": 200}
        == spec["limits"]
    )
    assert (spec["limits"]["pids"], spec["limits"]["cpu_millis"], spec["labels"]) == (9, 500, {"team": "blue"})
    assert (spec["limits"]["log_bytes"], spec["limits"]["disk_bytes"]) == (1 << 20, None)
    assert (spec["stop_signal"], spec["stop_grace_s"], spec["entrypoint"]) == ("QUIT", 3.0, ["sh"])
    assert spec["tmpfs"] == [{"path": "/cache", "size_bytes": 1 << 20, "mode": 0o700, "executable": True}]
    deadline = time.monotonic() + patience(20)
    while (text := cli("logs", "box").stdout.split()) != ["5", "/tmp", "inner", "50", "99"]:
        assert time.monotonic() < deadline, text


def test_what_is_created_runs_when_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("from here\n")
    made = cli("create", "--name", "box", "busybox", "cat", "/words")
    assert cli("ps").stdout.splitlines()[1].split()[:3] == [made.stdout.strip(), "box", "created"]
    assert cli("cp", str(tmp_path / "words"), "box:/").returncode == 0
    assert cli("start", "box").returncode == 0
    assert (cli("wait", "box").stdout, cli("logs", "box").stdout) == ("0\n", "from here\n")


def test_what_runs_is_controlled() -> None:
    assert cli("run", "-d", "--name", "box", "--memory", "32", "busybox", "sleep", "100").returncode == 0
    assert cli("pause", "box").returncode == 0
    assert "paused" in cli("ps").stdout
    assert "paused" in cli("exec", "box", "true").stderr
    assert cli("unpause", "box").returncode == 0
    assert cli("update", "box", "--memory", "48", "--pids", "20").returncode == 0
    limits = json.loads(cli("inspect", "box").stdout)["spec"]["limits"]
    assert (limits["memory_bytes"], limits["pids"], limits["cpu_millis"]) == (48 << 20, 20, 1000)
    assert cli("rename", "box", "crate").returncode == 0
    assert "sleep 100" in cli("top", "crate").stdout
    assert cli("tenant", "cli", "--cpus", "0.5", "--pids", "50").returncode == 0
    assert cli("tenant", "cli", "--pids", "0").stdout.split()[-4:] == ["-", "0.5", "-", "-"]
    assert cli("wait", "-t", "0.1", "crate").returncode == 1
    assert cli("restart", "-t", "0", "crate").returncode == 0
    assert cli("kill", "-s", "USR1", "crate").returncode == 0
    assert cli("wait", "crate").stdout == f"{128 + signal.SIGUSR1}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--label", "x"], "NAME=VALUE"), (["--ulimit", "core"], "not a ulimit"), (["--tmpfs", "/a:what=1"], "not a tmpfs"),
        (["--tmpfs", "/a:size=big"], "not an amount"), (["--read-bps", "fast"], "not an amount"), (["--cap-add", "SYS_ADMIN"], "SYS_ADMIN"),
        (["--sysctl", "kernel.panic=1"], "kernel.panic"), (["--cpuset", "99"], "processors"),
    ],
)  # fmt: skip
def test_an_option_outside_the_policy_is_a_sentence(words: list[str], said: str) -> None:
    done = cli("run", "-d", *words, "busybox", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert cli("ps").stdout.count("\n") == 1


def test_volumes_by_the_command_line() -> None:
    assert cli("volume", "create", "--size", "32", "sized").stdout == "sized\n"
    made = cli(
        "run", "-d", "--name", "box", "-v", "sized:/v", "-v", "new:/n:ro", "--disk", "32", "busybox", "sleep", "100"
    )
    assert made.returncode == 0, made.stderr
    full = cli(
        "exec", "box", "sh", "-c", "dd if=/dev/zero of=/v/x bs=1M count=40; dd if=/dev/zero of=/x bs=1M count=40"
    )
    assert full.stderr.count("No space left") == 2
    listed = cli("volume", "ls").stdout
    assert "sized" in listed
    assert "new" in listed
    assert json.loads(cli("volume", "inspect", "sized").stdout)["size_bytes"] == 32 * 2**20
    refused = cli("volume", "rm", "sized")
    assert (refused.returncode, refused.stderr) == (1, "A container has the volume. Remove the container first.\n")
    assert cli("rm", "-f", "box").returncode == 0
    assert cli("volume", "rm", "sized").returncode == 0
    assert cli("volume", "prune").stdout == "new\n"
    for words in (
        ("volume", "create", "--size", "1", "x"),
        ("run", "-v", "nonsense", "busybox"),
        ("run", "-v", "fresh:/a", "-v", "bad:/proc/x", "busybox"),
        ("run", "-v", "fresh:/a", "busybox", "no-such-command"),
        ("volume", "rm", "none"),
    ):
        said = cli(*words)
        assert said.returncode == 1
        assert said.stderr.endswith(".\n")
    assert cli("volume", "ls").stdout.count("\n") == 1, "what was refused left no volume"


def test_files_by_the_command_line(tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "deep").mkdir(parents=True)
    (here / "deep/file").write_text("from here")
    (here / "trap").symlink_to(tmp_path)
    assert cli("run", "-d", "--name", "box", "busybox", "sleep", "100").returncode == 0
    assert cli("cp", str(here), "box:/tmp").returncode == 0
    assert cli("exec", "box", "cat", "/tmp/here/deep/file").stdout == "from here"
    cli("exec", "box", "sh", "-c", "chmod 4755 /tmp/here/deep/file; chown 5 /tmp/here/deep/file; rm /etc/group")
    back = tmp_path / "back"
    back.mkdir()
    done = cli("cp", "box:/tmp/here", str(back))
    assert done.returncode == 0, done.stderr
    copied = back / "here/deep/file"
    assert copied.read_text() == "from here"
    assert (copied.stat().st_uid, copied.stat().st_mode & 0o7777) == (0, 0o755), "ours, and no set-uid program"
    assert (back / "here/trap").is_symlink()
    changes = cli("diff", "box").stdout.splitlines()
    assert {"A /tmp/here/deep/file", "D /etc/group", "C /etc"} <= set(changes)
    assert cli("export", "-o", str(tmp_path / "all.tar"), "box").returncode == 0
    with tarfile.open(tmp_path / "all.tar") as archive:
        assert "tmp/here/deep/file" in archive.getnames()
    made = cli("commit", "-m", "hello", "box", "mine:1", "cat", "/tmp/here/deep/file")
    assert made.returncode == 0, made.stderr
    assert cli("run", "--rm", "mine:1").stdout == "from here"
    for words in (
        ("cp", "a", "b"),
        ("cp", "box:/none", str(back)),
        ("cp", "box:/tmp", "/no/such"),
        ("cp", "/no/such", "box:/tmp"),
    ):
        said = cli(*words)
        assert said.returncode == 1, words
        assert said.stderr.endswith(".\n"), said.stderr


def test_a_copy_gets_the_name_that_is_not_there_yet(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "file").write_text("from here")
    os.link(here / "file", here / "twin")
    assert cli("run", "-d", "--name", "box", "busybox", "sleep", "100").returncode == 0
    for words in (
        (str(here / "file"), "box:/tmp/new"),
        (str(here / "file"), "box:/tmp/new"),  # which is replaced
        (str(here), "box:/tmp/folder"),
        ("box:/tmp/new", str(tmp_path / "back")),
        ("box:/tmp/new", str(tmp_path / "back")),
        ("box:/tmp/folder", str(tmp_path / "tree")),
        ("box:/", str(tmp_path / "all")),
    ):
        done = cli("cp", *words)
        assert done.returncode == 0, done.stderr
    inside = cli("exec", "box", "cat", "/tmp/new", "/tmp/folder/file")
    assert inside.stdout == "from here" * 2, inside.stderr
    assert (tmp_path / "back").read_text() == "from here"
    assert (tmp_path / "tree/file").samefile(tmp_path / "tree/twin")
    assert (tmp_path / "all/tmp/folder/file").read_text() == "from here"


def test_no_copy_goes_where_a_link_leads_or_a_folder_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from here")
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    (tmp_path / "link").symlink_to(outside)
    assert cli("run", "-d", "--name", "box", "busybox", "sleep", "100").returncode == 0
    cli(
        "exec",
        "box",
        "sh",
        "-c",
        f"echo inside >/tmp/f; mkdir /tmp/d; ln -s {outside} /tmp/link; ln -s {tmp_path} /tmp/up",
    )
    assert cli("cp", "box:/tmp/f", str(tmp_path / "link")).returncode == 0
    assert cli("cp", str(tmp_path / "file"), "box:/tmp/link").returncode == 0
    assert outside.read_text() == "untouched"
    before = sorted(tmp_path.iterdir())
    for words in (
        (str(tmp_path / "file"), "box:/tmp/up/new"),
        (str(tmp_path / "file"), "box:/tmp/none/new"),
        (str(tmp_path / "file"), "box:/tmp/new/"),
        (str(tmp_path / "file"), "box:/proc/new"),
        (str(tmp_path / "file"), "box:/tmp/f/new"),
        (str(tmp_path), "box:/tmp/f"),
        ("box:/tmp/f", str(tmp_path / "none/new")),
        ("box:/tmp/f", str(tmp_path / "new/") + "/"),
        ("box:/tmp/none", str(tmp_path / "new")),
        ("box:/tmp/d", str(tmp_path / "file")),
        ("box:/", str(tmp_path / "file")),
    ):
        said = cli("cp", *words)
        assert said.returncode == 1, words
        assert said.stderr.endswith(".\n"), said.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert cli("exec", "box", "ls", "/tmp").stdout.split() == ["d", "f", "link", "up"]


def test_what_happened_and_what_was_said() -> None:
    script = "echo out; echo err >&2; exit 3"
    assert cli("run", "--name", "brief", "busybox", "sh", "-c", script).returncode == 3
    happened = told("brief")
    assert [event["kind"] for event in happened] == ["created", "started", "died"]
    assert happened[-1]["data"] == {"epoch": 1, "exit_code": 3}
    assert cli("events", "--since", "2030-01-01", "brief").stdout == ""
    assert cli("logs", "--stream", "stdout", "brief").stdout == "out\n"
    assert cli("logs", "--since", "1h", "--stream", "stderr", "brief").stderr == "err\n"
    assert cli("logs", "--until", "1h", "brief").stdout == ""
    at, text = cli("logs", "-T", "--stream", "stdout", "brief").stdout.split()
    assert (at[:2], text) == ("20", "out")
    refused = cli("logs", "--since", "yesterday", "brief")
    assert (refused.returncode, "is not a time" in refused.stderr) == (1, True)
    assert "died" in cli("events", "brief").stdout


def test_watch_starts_again_and_asks_for_health() -> None:
    script = "touch /tmp/well; sleep 3; exit 1"  # so long that the keeper is there, which tells of its starts
    words = ("--restart", "on-failure:1", "--health-cmd", "test -e /tmp/well", "--health-interval", "1")
    assert cli("run", "-d", "--name", "frail", *words, "busybox", "sh", "-c", script).returncode == 0
    watch = subprocess.Popen(
        [sys.executable, "-m", "runtime", "watch"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + patience(30)
        while [event["kind"] for event in told("frail")].count("died") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    finally:
        watch.send_signal(signal.SIGTERM)
        said, _ = watch.communicate(timeout=patience(20))
    assert watch.returncode == 0, said
    assert "frail started, restart 1" in said
    assert json.loads(cli("inspect", "frail").stdout)["status"]["restart_at"] is None


def told(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in cli("events", "--json", name).stdout.splitlines()]


def test_health_is_asked_by_hand() -> None:
    assert cli("run", "-d", "--name", "well", "--health-cmd", "echo fine", "busybox", "sleep", "100").returncode == 0
    asked = cli("health", "well")
    assert (asked.returncode, asked.stdout) == (0, "healthy fine\n")
    assert cli("run", "-d", "--name", "sick", "--health-tcp", "81", "busybox", "sleep", "100").returncode == 0
    asked = cli("health", "sick")
    assert (asked.returncode, asked.stdout) == (1, "unhealthy Connection refused\n")
    for bad in (
        ("--health-tcp", "x"),
        ("--health-http", "99999"),
        ("--restart", "on-failure:x"),
        ("--restart", "maybe"),
    ):
        assert cli("run", "-d", *bad, "busybox", "true").returncode == 1


def test_networks_from_creation_to_removal() -> None:
    made = cli("network", "create", "back", "--ipv6", "--internal")
    assert made.returncode == 0, made.stderr
    run = ("run", "-d", "--memory", "32", "--network", "default", "--network", "back,alias=db", "--net-out", "8M")
    web = cli(*run, "--name", "web", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
    assert web.returncode == 0, web.stderr
    ask = (
        "run",
        "--rm",
        "--memory",
        "32",
        "--network",
        "back",
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://db/hostname",
    )
    asked = cli(*ask)
    assert asked.stdout == "web\n", asked.stderr
    assert "back" in cli("network", "ls").stdout
    refused = cli("network", "rm", "back")
    assert refused.returncode == 1
    assert "has containers" in refused.stderr
    assert cli("network", "disconnect", "back", "web").returncode == 0
    refused = cli("network", "disconnect", "default", "web")
    assert (refused.returncode, "last" in refused.stderr) == (1, True)
    joined = cli("network", "connect", "back", "web", "--alias", "db")
    assert joined.stdout.split()[0] == "eth1"
    asked = cli(*ask)
    assert asked.stdout == "web\n", asked.stderr
    assert cli("rm", "-f", "web").returncode == 0
    assert cli("network", "prune").stdout == "cli/back\n"
    assert cli("network", "inspect", "back").returncode == 1


def test_images_come_and_go_by_registry(tmp_path: Path) -> None:
    archive = archives.write(tmp_path / "image.tar")
    loaded = cli("image", "load", "--name", "mine/box:1", str(archive))
    assert loaded.returncode == 0, loaded.stderr
    with real_registry(tmp_path / "registry") as shop:
        pushed = cli("image", "push", "mine/box:1", f"{shop.address}/box:2")
        assert pushed.stdout.strip() == f"{shop.address}/box@{loaded.stdout.split()[0]}"
        assert cli("image", "rm", "mine/box:1").returncode == 0
        assert cli("image", "pull", f"{shop.address}/box:2").stdout == loaded.stdout.split()[0] + "\n"
        assert f"{shop.address}/box:2" in cli("image", "ls").stdout
        refused = cli("image", "push", "-u", "somebody", f"{shop.address}/box:2")
        assert (refused.returncode, "SLIPWAY_REGISTRY_PASSWORD is not set." in refused.stderr) == (1, True)
        nowhere = cli("image", "push", f"{shop.address}/box:2", "slipway.local/box")
        assert (nowhere.returncode, "stay on this node" in nowhere.stderr) == (1, True)
