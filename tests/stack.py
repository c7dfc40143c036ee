"""A whole Slipway for one test run: the real ``./slipway up`` on a home, an instance, a port and addresses of its own."""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx

from runtime.api import Engine, State
from runtime.engines import open_engine
from runtime.home import Home
from tests.blocks import free_block
from tests.traces import Traces, traces

SOURCE = Path(__file__).resolve().parents[1]
READY_WITHIN_S = 300.0
IMAGE_WITHIN_S = 600.0
STOP_WITHIN_S = 40.0
READY = re.compile(r"ready in [\d.]+ s: (http://\S+)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PROCESSES = {
    "redis": "redis-server",
    "web": "uvicorn",
    "worker": "--skip-checks worker",
    "beat": "--skip-checks beat",
    "agent": "manage.py agent",
}


class Stack:
    """``url`` and ``passwords`` are what the launcher printed; ``engine`` is a second opinion over the same home."""

    def __init__(self, root: Path, settings: Mapping[str, str], subnets: str) -> None:
        self.settings = dict(settings)
        self.home = Home(
            root=root / "home",
            instance=f"e{secrets.token_hex(4)}",
            subnets=subnets,
            uid_base=0x58000000 + random.randrange(0x800) * 65536,
        )
        self.port = _free_port()
        self.url = ""
        self.passwords: dict[str, str] = {}
        self.output: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._engine: Engine | None = None

    # life ------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "DJANGO_"))}
        installed = {
            name: os.environ[name] for name in ("SLIPWAY_VENV", "SLIPWAY_NODE_MODULES") if os.environ.get(name)
        }
        return {
            **kept,
            **installed,
            "SLIPWAY_HOME": str(self.home.root),
            "SLIPWAY_INSTANCE": self.home.instance,
            "SLIPWAY_SUBNETS": self.home.subnets,
            "SLIPWAY_UID_BASE": hex(self.home.uid_base),
            "SLIPWAY_PORT": str(self.port),
            "NO_COLOR": "1",
            **self.settings,
        }

    def up(self) -> None:
        """Until the launcher says that it is ready."""
        self.output.append("--- up")
        begin = len(self.output)
        self._process = subprocess.Popen(
            [str(SOURCE / "slipway"), "up"], cwd=SOURCE, env=self.environment(), text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        self._until(lambda: self._is_ready(begin), READY_WITHIN_S, "ready")
        for line in self.output:
            words = line.strip(" |│┃").split()
            if len(words) == 3 and words[0] in ("admin", "demo"):
                self.passwords[words[0]] = words[1]

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(COLOUR.sub("", line.rstrip()))

    def _is_ready(self, begin: int) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"./slipway up ended:\n{self.tail()}")
        found = [match for line in self.output[begin:] if (match := READY.search(line))]
        if found:
            self.url = found[-1][1]
        return bool(found)

    def _until(self, true: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = time.monotonic() + within_s
        while not true():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not {what} within {within_s:g} s:\n{self.tail()}")
            time.sleep(0.02)

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code.  Containers go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(STOP_WITHIN_S)
        self._process = None
        return code

    def end_launcher(self, number: int) -> None:
        """Any signal; returns when the launcher and all its processes are gone."""
        assert self._process is not None
        pids = [self.wait_for(name) for name in PROCESSES]
        self._process.send_signal(number)
        self._process.wait(STOP_WITHIN_S)
        self._process = None
        self._until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), STOP_WITHIN_S, "gone")

    def down(self) -> Traces:
        """Stop it if it runs, then ``./slipway down --yes``; returns what is left."""
        if self._process is not None:
            self.interrupt()
        self.take_containers_down()
        shutil.rmtree(self.home.run, ignore_errors=True)  # its locks and sockets: free names now
        return traces(self.home)

    def take_containers_down(self) -> str:
        """``./slipway down --yes``, whether or not the rest runs; returns what it said."""
        done = subprocess.run(
            [str(SOURCE / "slipway"), "down", "--yes"], cwd=SOURCE, env=self.environment(), check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"./slipway down failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def kill_launcher(self) -> None:
        """When everything else failed: the kernel ends the children with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def tail(self, count: int = 60) -> str:
        return "\n".join(self.output[-count:])

    # inside ----------------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = open_engine("native", self.home)
        return self._engine

    def pid(self, name: str) -> int:
        """Of one of the launcher's children, told by its command line."""
        assert self._process is not None
        tasks = Path(f"/proc/{self._process.pid}/task").glob(
            "*/children"
        )  # what a thread started is listed with that thread
        for pid in " ".join(task.read_text() for task in tasks).split():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if PROCESSES[name] in command:
                return int(pid)
        raise LookupError(f"{name} does not run")

    def wait_for(self, name: str, *, other_than: int = 0) -> int:
        """The process is there, as another one than ``other_than``."""
        found = 0

        def there() -> bool:
            nonlocal found
            with contextlib.suppress(LookupError, FileNotFoundError):
                found = self.pid(name)
            return found not in (0, other_than)

        self._until(there, 60, f"there again: {name}")
        return found

    def wait_for_image(self, name: str) -> None:
        def there() -> bool:
            return any(f"/{name}:" in reference for image in self.engine.images() for reference in image.references)

        self._until(there, IMAGE_WITHIN_S, f"there: image {name}")

    def running(self) -> dict[str, int]:
        """Name -> pid, as the engine says."""
        return {one.name: one.pid or 0 for one in self.engine.list() if one.state is State.RUNNING}

    def manage(self, *words: str) -> str:
        done = subprocess.run(
            [str(SOURCE / "slipway"), "manage", *words], cwd=SOURCE, env=self.environment(), check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"manage {words[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def signed_in(self, username: str, password: str = "") -> Iterator[Session]:
        with httpx.Client(base_url=self.url, follow_redirects=True, timeout=30) as client:
            session = Session(client)
            session.sign_in(username, password or self.passwords[username])
            yield session


# ------------------------------------------------------------------------------------------------ HTTP


class Forms(HTMLParser):
    """The forms of a page as a browser would submit them: action and default values."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, list[str]]]] = []
        self._templates = 0
        self._area: str | None = None
        self._select: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        if tag == "template":
            self._templates += 1
        if self._templates:
            return
        if tag == "form":
            self.forms.append((known.get("action") or known.get("hx-post", ""), {}))
        elif self.forms and known.get("name") and tag in {"input", "select", "textarea"}:
            self._control(tag, known)
        elif tag == "option" and self._select and self.forms:
            values = self.forms[-1][1]
            if "selected" in known or not values[self._select][-1]:
                values[self._select][-1] = known.get("value", "")

    def _control(self, tag: str, known: Mapping[str, str]) -> None:
        values = self.forms[-1][1]
        if tag == "select":
            self._select = known["name"]
            values.setdefault(known["name"], []).append("")
        elif tag == "textarea":
            self._area = known["name"]
            values.setdefault(known["name"], []).append("")
        elif known.get("type") not in {"checkbox", "radio", "submit", "button"} or "checked" in known:
            values.setdefault(known["name"], []).append(known.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "template":
            self._templates -= 1
        if tag == "select":
            self._select = None
        if tag == "textarea":
            self._area = None

    def handle_data(self, data: str) -> None:
        if self._area and self.forms:
            self.forms[-1][1][self._area][-1] += data.removeprefix("\n")


class Session:
    """Somebody signed in, with plain HTTP: reads the page's form and posts it, as a browser does."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def sign_in(self, username: str, password: str) -> None:
        page = self.submit("/sign-in/", "password", username=username, password=password)
        if "/sign-in/" in page.url.path:
            raise RuntimeError(f"{username} could not sign in")

    def submit(self, url: str, having: str, **values: str | list[str]) -> httpx.Response:
        return self.send(self.filled(url, having, **values))

    def send(self, form: httpx.Request) -> httpx.Response:
        """Where it leads, as a browser goes there."""
        return self.client.send(form, follow_redirects=True).raise_for_status()

    def filled(self, url: str, having: str, **values: str | list[str]) -> httpx.Request:
        """The form at ``url`` that has a field ``having`` or an action that ends with it, ready to be sent."""
        page = self.client.get(url)
        page.raise_for_status()
        for action, defaults in Forms(page.text).forms:
            if having in defaults or action.endswith(having):
                unknown = set(values) - set(defaults)
                if unknown:
                    raise LookupError(f"the form at {url} has no field {sorted(unknown)}, but {sorted(defaults)}")
                target = urljoin(str(page.url), action or str(page.url))
                headers = {"Referer": str(page.url)}
                return self.client.build_request("POST", target, data={**defaults, **values}, headers=headers)
        raise LookupError(f"no form with {having} at {url}")

    def launch(
        self, item: str, name: str, environment: Mapping[str, str] | None = None, **values: str
    ) -> httpx.Response:
        return self.send(self.launch_form(item, name, environment, **values))

    def launch_form(
        self, item: str, name: str, environment: Mapping[str, str] | None = None, **values: str
    ) -> httpx.Request:
        """With the form's own values but for those given; ``environment`` replaces the form's variables."""
        chosen = environment or {}
        variables = {"variable_name": list(chosen), "variable_value": list(chosen.values())} if chosen else {}
        return self.filled(f"/catalog/launch/?item={item}", "request_key", name=name, **values, **variables)

    def remove(self, container: str) -> httpx.Response:
        return self.submit(f"/containers/{container}/", f"/{container}/remove/")

    def post(self, path: str, **values: str) -> httpx.Response:
        """As a script would: the cookie's token, no form."""
        token = self.client.cookies.get("csrftoken") or ""
        headers = {"X-CSRFToken": token, "Referer": str(self.client.base_url)}
        return self.client.post(path, data=values, headers=headers)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def stack(settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Up, and at the end Ctrl-C, down, and proof that nothing is left.  ``settings`` are variables, on top of its own."""
    with free_block() as subnets:
        yield from _stack(settings or {}, subnets)


def _stack(settings: Mapping[str, str], subnets: str) -> Iterator[Stack]:
    root = Path(tempfile.mkdtemp(prefix="slipway-stack-", dir="/var/tmp"))
    root.chmod(0o755)
    made = Stack(root, settings, subnets)
    try:
        made.up()
        yield made
    except BaseException:
        print(made.tail(), file=sys.stderr)
        _abandon(made)
        shutil.rmtree(root, ignore_errors=True)
        raise
    left = made.down()
    shutil.rmtree(root)
    assert_gone(left)


def _abandon(made: Stack) -> None:
    """Take away what can be, lest a failure leaves containers; the failure itself is what is reported."""
    made.kill_launcher()
    with contextlib.suppress(Exception):
        made.engine.teardown()


def assert_gone(left: Traces) -> None:
    """No mount, cgroup, interface, rule or process of the instance; of files only what a home keeps."""
    for kind in ("mounts", "cgroups", "interfaces", "firewall", "processes"):
        found = getattr(left, kind)
        assert not found, f"{kind} left behind: {sorted(found)}"
    containers = [path for path in left.files if "/runtime/containers/" in path]
    assert not containers, f"files left behind: {containers}"
