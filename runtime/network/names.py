"""Names on a network: one dnsmasq for each, without privileges, which knows that network's containers and nobody else's.

It listens on the gateway's address, on a port that the rules lead questions for names to.  Each container has a file in a folder that
dnsmasq watches (``hostsdir``, dnsmasq(8)), so a name comes and goes without a signal.  What it does not know it asks the node's name
servers, but for internal networks, where there is nothing else.  It lives as long as the network's bridge.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from runtime import logs
from runtime.errors import EngineFault, HostUnfit
from runtime.home import Home
from runtime.kernel.process import Process, arguments_of, pids
from runtime.network.endpoint import Endpoint, Place
from runtime.network.firewall import NAMES_PORT
from runtime.network.segments import Segment

DOMAIN = "slipway.internal"
"""``web`` on the network ``default`` is also ``web.default.slipway.internal``: what is in a container's search list first is never asked outside."""
START_DEADLINE_S = 10.0
END_DEADLINE_S = 2.0

logger = logs.of(__name__)


def serves(segment: Segment) -> bool:
    """A flat network's names are its own business."""
    return not segment.flat


class Names:
    def __init__(self, home: Home) -> None:
        self._folder = home.run / "dns"

    def _hosts(self, bridge: str) -> Path:
        return self._folder / bridge / "hosts"

    def _pid_file(self, bridge: str) -> Path:
        """In a folder of its own, the only one that the server may write."""
        return self._folder / bridge / "server" / "pid"

    # the server ------------------------------------------------------------------------------------------

    def alive(self, bridge: str) -> bool:
        return self._pid(bridge) is not None

    def _pid(self, bridge: str) -> int | None:
        """What the file says is believed only of a process that was started for this network."""
        try:
            descriptor = os.open(self._pid_file(bridge), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            text = file.read(32).strip()
        return int(text) if text.isdigit() and self._mark(bridge) in arguments_of(int(text)) else None

    def _mark(self, bridge: str) -> bytes:
        return os.fsencode(f"--pid-file={self._pid_file(bridge)}")

    def ensure(self, segment: Segment) -> None:
        """Under the networks' lock, with the gateway's address there.  Raises HostUnfit, EngineFault."""
        if self.alive(segment.bridge):
            return
        program = shutil.which("dnsmasq", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            raise HostUnfit("dnsmasq is missing.", hint="Install the package dnsmasq-base.")
        self._end(segment.bridge)  # one that a crash kept from being written down holds the address
        uid, gid = _user()
        self._make_folders(segment.bridge, uid, gid)
        done = subprocess.run(
            [program, *self._options(segment)],
            check=False,
            capture_output=True,
            cwd="/",
            user=uid,
            group=gid,
            extra_groups=(),
            start_new_session=True,
            timeout=START_DEADLINE_S,
        )
        if done.returncode != 0:
            logger.error("dnsmasq of %s: %s", segment.bridge, done.stderr.decode(errors="replace").strip())
            raise EngineFault("The network's name server does not start.", hint="The node's log has the details.")

    def _make_folders(self, bridge: str, uid: int, gid: int) -> None:
        for folder in (self._folder, self._folder / bridge, self._hosts(bridge)):
            folder.mkdir(exist_ok=True, parents=True)
            folder.chmod(0o711 if folder == self._folder else 0o750)
            os.chown(folder, 0, 0 if folder == self._folder else gid)
        own = self._pid_file(bridge).parent
        own.mkdir(exist_ok=True)
        os.chown(own, uid, gid, follow_symlinks=False)

    def _options(self, segment: Segment) -> list[str]:
        outside = ["--no-resolv", "--address=/#/"] if segment.internal else []
        return [
            os.fsdecode(self._mark(segment.bridge)), "--conf-file=/dev/null", "--log-facility=/dev/null", f"--port={NAMES_PORT}",
            f"--listen-address={segment.gateway}", "--bind-interfaces", "--no-hosts", f"--hostsdir={self._hosts(segment.bridge)}",
            "--domain-needed", "--bogus-priv", "--expand-hosts", f"--domain={segment.name}.{DOMAIN}", f"--local=/{DOMAIN}/", *outside,
        ]  # fmt: skip

    def silence(self, bridge: str) -> None:
        """End the server and forget the network's names."""
        self._end(bridge)
        shutil.rmtree(self._folder / bridge, ignore_errors=True)

    def _end(self, bridge: str) -> None:
        mark = self._mark(bridge)
        known = self._pid(bridge)
        for pid in (known,) if known else [pid for pid in pids() if mark in arguments_of(pid)]:
            with contextlib.suppress(ProcessLookupError), Process(pid) as process:
                if mark not in arguments_of(pid):
                    continue
                process.send(signal.SIGTERM)
                if not process.wait(END_DEADLINE_S):
                    process.send(signal.SIGKILL)
                    process.wait(END_DEADLINE_S)

    def silence_all(self) -> None:
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            self.silence(folder.name)
        shutil.rmtree(self._folder, ignore_errors=True)

    # the names -------------------------------------------------------------------------------------------

    def tell(self, endpoint: Endpoint, bridges: Iterable[str]) -> None:
        """Let the servers of these networks know the container: its own by name and alias alone, its tenant's others by
        ``name.network.slipway.internal``, which a container on both has in its search list."""
        for bridge in bridges:
            hosts = self._hosts(bridge)
            lines = [_line(endpoint, place, bridge) for place in endpoint.places if place.names]
            if not lines:
                self.untell(endpoint.container, [bridge])
            elif hosts.is_dir():
                # of this writer alone: a start of the network's first container tells of all others while they tell of themselves
                temporary = hosts / f".{endpoint.container}.{os.urandom(4).hex()}"
                with contextlib.suppress(
                    FileNotFoundError
                ):  # it leaves the network in this moment, or the network goes
                    temporary.write_text("".join(lines), encoding="ascii")
                    temporary.chmod(0o644)
                    os.replace(temporary, hosts / endpoint.container)

    def untell_all(self, container: str) -> None:
        """Whichever networks knew it."""
        self.untell(container, _listed(self._folder))

    def untell(self, container: str, bridges: Iterable[str]) -> None:
        for bridge in bridges:
            hosts = self._hosts(bridge)
            unfinished = [name for name in _listed(hosts) if name.startswith(f".{container}.")]
            for name in (container, *unfinished):
                (hosts / name).unlink(missing_ok=True)


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _line(endpoint: Endpoint, place: Place, bridge: str) -> str:
    """As hosts(5)."""
    names = dict.fromkeys((endpoint.name, *place.aliases))
    words = names if place.bridge == bridge else [f"{name}.{place.network}.{DOMAIN}" for name in names]
    return "".join(f"{address} {' '.join(words)}\n" for address in (place.address, place.address6) if address)


def _user() -> tuple[int, int]:
    """The one that Debian's package makes, else nobody."""
    for name in ("dnsmasq", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
    raise HostUnfit("The node has no user for name servers.", hint="Install the package dnsmasq-base.")
