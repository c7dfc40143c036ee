"""Every setting of Slipway, in one table, for flags, ``--help``, the children's environment and docs/configuration.md.

``python3 -m launcher.settings > docs/configuration.md`` writes the page again after a change here.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from launcher.refusal import Refusal

LONGEST_HOME = 107 - len("/redis/redis.sock")
"""A unix socket's address holds 107 bytes, unix(7)."""
SOURCE = Path(__file__).resolve().parents[1]
INTERNAL = frozenset({"SLIPWAY_AGENT_SOCKET", "SLIPWAY_FAILPOINT"})
"""For tests: handed to the children as they are, and no setting for a person."""
COMMAND_LINE = frozenset({"SLIPWAY_REGISTRY_PASSWORD"})
"""What ``python -m runtime`` alone reads: no setting, and nobody else's to see."""
INHERITED = re.compile(
    r"LANG|LC_\w+|TZ|TERM|NO_COLOR|(http|https|no|all)_proxy|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|npm_config_\w+"
    r"|DJANGO_SUPERUSER_\w+",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(?<=:)(?!//)[^:@/]*(?=@)")
"""In a URL, ``user:password@host``."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.  ``parse`` raises ValueError on a bad value; ``expected`` completes "... is not"."""

    env: str
    default: str
    help: str
    parse: Callable[[str], str]
    expected: str
    flag: str = ""
    shown_default: str = ""


def _text(raw: str) -> str:
    return raw


def _number(low: int, high: int) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if not low <= int(raw) <= high:
            raise ValueError(raw)
        return str(int(raw))

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw not in words:
            raise ValueError(raw)
        return raw

    return parse


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if not re.fullmatch(pattern, raw):
            raise ValueError(raw)
        return raw

    return parse


def _folder(raw: str) -> str:
    path = os.path.abspath(os.path.expanduser(raw))
    if path == "/" or not path.isprintable():
        raise ValueError(raw)
    return path


def _home(raw: str) -> str:
    """Its path becomes part of mount options, URLs and a socket's address, which have separators and a limit."""
    path = _folder(raw)
    if set(path) & set(",:;#?%\\\"'") or len(path.encode()) > LONGEST_HOME:
        raise ValueError(raw)
    return path


def _optional_folder(raw: str) -> str:
    return _folder(raw) if raw else ""


def _folders(raw: str) -> str:
    return ",".join(_folder(part.strip()) for part in raw.split(",") if part.strip())


def _address(raw: str) -> str:
    return str(ipaddress.ip_address("127.0.0.1" if raw == "localhost" else raw.strip("[]")))


def _block(raw: str) -> str:
    block = ipaddress.IPv4Network(raw)
    if block.prefixlen > 24:
        raise ValueError(raw)
    return str(block)


def _uid_base(raw: str) -> str:
    base = int(raw, 0)
    if base < 65536 or base % 65536 or base > 2**32 - 2 * 65536:
        raise ValueError(raw)
    return hex(base)


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw and urlsplit(raw).scheme not in schemes:
            raise ValueError(raw)
        return raw

    return parse


def _database_url(raw: str) -> str:
    parts = urlsplit(_url("postgresql", "postgres")(raw))
    if raw and not parts.path.strip("/"):
        raise ValueError(raw)
    _ = parts.port  # raises for what is no port
    return raw


def _redis_url(raw: str) -> str:
    """Slipway uses databases 0 to 3, so the URL names none."""
    parts = urlsplit(_url("redis", "rediss", "unix")(raw))
    if parts.query or (parts.scheme != "unix" and parts.path.strip("/")) or (parts.scheme == "unix" and not parts.path):
        raise ValueError(raw)
    _ = parts.port
    return raw


def _yes_no(raw: str) -> str:
    return _one_of("1", "true", "yes", "on", "0", "false", "no", "off")(raw.lower())


OPTIONS: tuple[Option, ...] = (
    Option("SLIPWAY_PORT", "8000", "Port of the console.", _number(1, 65535), "a port from 1 to 65535", "--port"),
    Option(
        "SLIPWAY_LISTEN",
        "127.0.0.1",
        "Address that the console listens on. 0.0.0.0 is every address of the machine; put TLS in front of it then.",
        _address,
        "an IP address",
        "--listen",
    ),
    Option(
        "SLIPWAY_HOME",
        "/var/lib/slipway",
        "Folder of everything that lasts: database, secrets, images, containers, installed dependencies.",
        _home,
        f"a folder that can be a home: not /, up to {LONGEST_HOME} bytes, without , : ; # ? % \\ and quotes",
        "--home",
    ),
    Option(
        "SLIPWAY_INSTANCE",
        "slipway",
        "Name in every kernel object that this Slipway makes. Two on one machine need two names.",
        _matching(r"[a-z][a-z0-9-]{0,19}"),
        "a name of up to 20 lower-case letters, digits and dashes that begins with a letter",
    ),
    Option(
        "SLIPWAY_NODE",
        "",
        "Name of this machine among the nodes.",
        _matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}|"),
        "a name of letters, digits, dashes and underscores",
        shown_default="the host's name",
    ),
    Option(
        "SLIPWAY_SUBNETS",
        "10.89.0.0/16",
        "Block of addresses from which every tenant gets a /24. Two on one machine need two blocks.",
        _block,
        "an IPv4 block of at least a /24, such as 10.89.0.0/16",
    ),
    Option(
        "SLIPWAY_FLAT_BRIDGES",
        "",
        "Bridges of this machine, with commas, that containers may be on with addresses of the network beyond.",
        _matching(r"([A-Za-z0-9_.-]{1,15}(,[A-Za-z0-9_.-]{1,15})*)?"),
        "names of interfaces with commas between them, such as br0,br1",
    ),
    Option(
        "SLIPWAY_FLOWS",
        "",
        "Connections that this machine tracks at once for one address of a container: as many that it began, and as many that came to it. Without: a 128th of what its table holds.",
        _matching(r"([1-9][0-9]{1,6})?"),
        "a number from 10 to 9999999, such as 4096",
    ),
    Option(
        "SLIPWAY_IMAGE_MARKS",
        "85,75",
        "Percent of the home's disk: above the first, images that no container has and that can be had again go, the least recently used first, down to the second. 100,100: none ever.",
        _matching(r"(100|[1-9]?[0-9]),(100|[1-9]?[0-9])"),
        "two percentages with a comma between them, the higher first, such as 85,75",
    ),
    Option(
        "SLIPWAY_UID_BASE",
        "0x40000000",
        "First user id of the tenants' ranges, 65,536 ids each. Two on one machine need ranges far apart.",
        _uid_base,
        "a multiple of 65536 from 65536 on",
    ),
    Option(
        "SLIPWAY_ENGINE",
        "native",
        "What runs containers: native, or fake for work on the console.",
        _one_of("native", "fake"),
        "native or fake",
    ),
    Option(
        "SLIPWAY_DEFAULT_REGISTRY",
        "docker.io",
        "Registry of an image reference that names none.",
        _matching(r"[A-Za-z0-9.-]+(:\d+)?"),
        "a host name, with a port if need be",
    ),
    Option(
        "SLIPWAY_EXPORT_ROOTS",
        "",
        "Folders of this machine, with commas, under which scheduled exports may write; each tenant gets a folder of its own.",
        _folders,
        "a list of folders, none of them /",
        shown_default="none",
    ),
    Option(
        "SLIPWAY_DATABASE_URL",
        "",
        "PostgreSQL 14 or newer instead of SQLite: postgresql://user:password@host:5432/name, or ?host=/socket/folder; libpq's"
        " sslmode, sslrootcert and the like may follow. The user must be allowed to create tables.",
        _database_url,
        "a URL such as postgresql://user:password@host/name",
        shown_default="SQLite in the home",
    ),
    Option(
        "SLIPWAY_REDIS_URL",
        "",
        "A Redis of your own instead of the private one: redis://host:6379, or unix:///path/redis.sock; its databases 0 to 3"
        " are used.",
        _redis_url,
        "a URL such as redis://host:6379, without a database",
        shown_default="a private Redis in the home",
    ),
    Option(
        "SLIPWAY_ALLOWED_HOSTS",
        "",
        "Host names, with commas, under which browsers may reach the console.",
        _text,
        "a list",
        shown_default="localhost, and with --listen also the machine's name and addresses",
    ),
    Option(
        "SLIPWAY_TRUSTED_ORIGINS",
        "",
        "Origins, with commas, behind a proxy that changes the host: https://console.example.org.",
        _text,
        "a list",
    ),
    Option("SLIPWAY_TLS", "no", "yes: a proxy in front speaks TLS; cookies become secure.", _yes_no, "yes or no"),
    Option(
        "SLIPWAY_LOG",
        "INFO",
        "How much is written: DEBUG, INFO or WARNING. DEBUG shows every request.",
        _one_of("DEBUG", "INFO", "WARNING"),
        "DEBUG, INFO or WARNING",
    ),
    Option("SLIPWAY_DEBUG", "no", "yes: Django's debug pages. Never where others can reach it.", _yes_no, "yes or no"),
    Option(
        "SLIPWAY_VENV",
        "",
        "An existing virtual environment, used as it is.",
        _optional_folder,
        "a folder",
        shown_default="venv in the home, installed by up",
    ),
    Option(
        "SLIPWAY_NODE_MODULES",
        "",
        "An existing node_modules folder, used as it is.",
        _optional_folder,
        "a folder",
        shown_default="node_modules in the home, installed by up",
    ),
)


ARENAS = "2"
"""Of malloc.  glibc gives every thread one of its own, which behind the interpreter's lock only costs: a worker's eight threads took 18 MB
more and went on growing over 450 launches (measured), and with two it stayed as large as it was.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """Values of every option, checked, by the name of their variable; and where the code is."""

    values: Mapping[str, str]
    source: Path = field(default=SOURCE)

    @property
    def home(self) -> Path:
        return Path(self.values["SLIPWAY_HOME"])

    @property
    def run(self) -> Path:
        return Path("/run") / self.instance

    @property
    def instance(self) -> str:
        return self.values["SLIPWAY_INSTANCE"]

    @property
    def node(self) -> str:
        return self.values["SLIPWAY_NODE"] or socket.gethostname().split(".")[0] or "node"

    @property
    def port(self) -> int:
        return int(self.values["SLIPWAY_PORT"])

    @property
    def listen(self) -> str:
        return self.values["SLIPWAY_LISTEN"]

    @property
    def venv(self) -> Path:
        return Path(self.values["SLIPWAY_VENV"] or self.home / "venv")

    @property
    def node_modules(self) -> Path:
        return Path(self.values["SLIPWAY_NODE_MODULES"] or self.home / "node_modules")

    @property
    def python(self) -> Path:
        return self.venv / "bin/python"

    @property
    def loopback_only(self) -> bool:
        return ipaddress.ip_address(self.listen).is_loopback

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the console."""
        address = ipaddress.ip_address(self.listen)
        host = f"[{address}]" if address.version == 6 else str(address)
        if address.is_unspecified:
            host = "localhost"
        return f"http://{host}:{self.port}/"

    @property
    def connect_address(self) -> str:
        """The listen address, or the loopback one when it is a wildcard."""
        address = ipaddress.ip_address(self.listen)
        if not address.is_unspecified:
            return self.listen
        return "127.0.0.1" if address.version == 4 else "::1"

    def _allowed_hosts(self) -> list[str]:
        """This machine's own loopback names are always among them: the launcher asks there whether the web is ready."""
        given = self.values["SLIPWAY_ALLOWED_HOSTS"]
        if given:
            others = [name.strip() for name in given.split(",") if name.strip()]
        else:
            others = [] if self.loopback_only else _names_of_this_machine(self.listen)
        return list(dict.fromkeys(["localhost", "127.0.0.1", "[::1]", *others]))

    def environment(self) -> dict[str, str]:
        """Of every child: all settings spelled out, and of root's own variables only what a program needs to run."""
        kept = {name: value for name, value in os.environ.items() if INHERITED.fullmatch(name) or name in INTERNAL}
        ours = {name: value for name, value in self.values.items() if value != ""}
        ours["SLIPWAY_NODE"] = self.node
        ours["SLIPWAY_NODE_MODULES"] = str(self.node_modules)
        ours["SLIPWAY_ALLOWED_HOSTS"] = ",".join(self._allowed_hosts())
        path = f"{self.venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {
            **kept,
            **ours,
            "HOME": str(self.home),
            "PATH": path,
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "console.settings",
            "MALLOC_ARENA_MAX": ARENAS,
        }


def _names_of_this_machine(listen: str) -> list[str]:
    names = [socket.gethostname(), socket.getfqdn()]
    address = ipaddress.ip_address(listen)
    if not address.is_unspecified:
        names.append(f"[{listen}]" if address.version == 6 else listen)
    else:
        try:
            found = {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)}
        except OSError:
            found = set()
        found |= _source_addresses()
        names += sorted(f"[{name}]" if ":" in name else name for name in found)
    return list(dict.fromkeys(names))


def _source_addresses() -> set[str]:
    """The address that traffic to elsewhere would carry; connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return set()
        return {probe.getsockname()[0]}


def load(environ: Mapping[str, str], flags: Mapping[str, str | None]) -> Settings:
    """Flags (by variable name) win over the environment, which wins over the defaults.  Raises Refusal."""
    values: dict[str, str] = {}
    for option in OPTIONS:
        flag = flags.get(option.env)
        raw = flag if flag is not None else environ.get(option.env, "") or option.default
        try:
            values[option.env] = option.parse(raw)
        except ValueError:
            shown = _PASSWORD.sub("…", raw)
            said = f"{option.flag} {shown}" if flag is not None else f"{option.env}={shown}"
            raise Refusal(f"{said}: {shown!r} is not {option.expected}.", exit_code=2) from None
    _refuse_unknown(environ)
    return Settings(values)


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    """A misspelt variable would be ignored in silence, and its default used."""
    known = {option.env for option in OPTIONS} | INTERNAL | COMMAND_LINE
    for name in sorted(environ):
        if name.startswith("SLIPWAY_") and not name.startswith("SLIPWAY_TEST_") and name not in known:
            raise Refusal(f"{name} is not a setting of Slipway.", "`./slipway --help` lists them all.", exit_code=2)


def help_table() -> str:
    """For ``--help``."""
    rows = []
    for option in OPTIONS:
        names = f"{option.env} ({option.flag})" if option.flag else option.env
        default = option.shown_default or option.default
        rows.append(f"  {names}\n      {option.help}" + (f" Default: {default}." if default else ""))
    return "\n".join(rows)


def markdown() -> str:
    """The whole of docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Every setting is an environment variable; some are flags of `./slipway` too, and a flag wins. A value that",
        "cannot be right is refused by name before anything is changed. This page is what",
        "`python3 -m launcher.settings` prints.",
        "",
        "| variable | flag | default | what it is |",
        "| --- | --- | --- | --- |",
    ]
    for option in OPTIONS:
        flag = f"`{option.flag}`" if option.flag else ""
        default = option.shown_default or (f"`{option.default}`" if option.default else "")
        lines.append(f"| `{option.env}` | {flag} | {default} | {option.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
