"""The settings table: what is accepted, what is refused and in which words, and what the children get."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import settings as module
from launcher.refusal import Refusal
from launcher.settings import OPTIONS, load, markdown

ROOT = Path(__file__).parents[2]


def test_defaults() -> None:
    chosen = load({}, {})
    assert (chosen.port, chosen.listen, chosen.home) == (8000, "127.0.0.1", Path("/var/lib/slipway"))
    assert chosen.url == "http://127.0.0.1:8000/"
    assert chosen.node, "falls back to the host's name"


def test_a_flag_wins_over_the_environment() -> None:
    chosen = load({"SLIPWAY_PORT": "8001", "SLIPWAY_LISTEN": "::1"}, {"SLIPWAY_PORT": "8002"})
    assert chosen.port == 8002
    assert chosen.url == "http://[::1]:8002/"


def test_an_empty_variable_means_the_default() -> None:
    assert load({"SLIPWAY_PORT": ""}, {}).port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLIPWAY_PORT", "0"),
        ("SLIPWAY_PORT", "65536"),
        ("SLIPWAY_PORT", "http"),
        ("SLIPWAY_LISTEN", "example.org"),
        ("SLIPWAY_HOME", "/"),
        ("SLIPWAY_HOME", "/srv/a,b"),
        ("SLIPWAY_HOME", "/srv/a:b"),
        ("SLIPWAY_HOME", "/srv/a#b"),
        ("SLIPWAY_HOME", "/srv/a%41b"),
        ("SLIPWAY_HOME", "/srv/" + "long/" * 20),
        ("SLIPWAY_INSTANCE", "No Good"),
        ("SLIPWAY_INSTANCE", "../x"),
        ("SLIPWAY_NODE", "a b"),
        ("SLIPWAY_SUBNETS", "10.89.0.0/25"),
        ("SLIPWAY_SUBNETS", "10.89.0.1/16"),
        ("SLIPWAY_UID_BASE", "0"),
        ("SLIPWAY_UID_BASE", "70000"),
        ("SLIPWAY_UID_BASE", "0xffff0000"),
        ("SLIPWAY_ENGINE", "docker"),
        ("SLIPWAY_DEFAULT_REGISTRY", "https://example.org"),
        ("SLIPWAY_DATABASE_URL", "mysql://x"),
        ("SLIPWAY_DATABASE_URL", "postgresql://host"),
        ("SLIPWAY_REDIS_URL", "redis://host:6379/2"),
        ("SLIPWAY_REDIS_URL", "localhost:6379"),
        ("SLIPWAY_TLS", "perhaps"),
        ("SLIPWAY_LOG", "loud"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(Refusal) as refused:
        load({name: value}, {})
    assert name in str(refused.value)
    assert value in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_home_may_be_relative_and_have_spaces_and_letters_of_any_script(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load({}, {"SLIPWAY_HOME": "my home/家"}).home == tmp_path / "my home/家"
    with pytest.raises(Refusal, match="is not a folder that can be a home"):
        load({}, {"SLIPWAY_HOME": "not\udcffutf8"})


def test_a_bad_flag_is_named_as_the_person_wrote_it() -> None:
    with pytest.raises(Refusal, match=r"^--port 99999: '99999' is not a port from 1 to 65535\.$"):
        load({}, {"SLIPWAY_PORT": "99999"})


def test_a_misspelt_variable_is_refused() -> None:
    with pytest.raises(Refusal, match="SLIPWAY_PROT is not a setting"):
        load({"SLIPWAY_PROT": "9000"}, {})


def test_the_children_get_every_setting_and_nothing_of_the_callers_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("CLOUD_SECRET", "root's own")
    environment = load({"SLIPWAY_HOME": "/srv/x", "SLIPWAY_NODE": "n1"}, {}).environment()
    assert environment["SLIPWAY_HOME"] == "/srv/x"
    assert environment["SLIPWAY_NODE"] == "n1"
    assert environment["SLIPWAY_NODE_MODULES"] == "/srv/x/node_modules"
    assert environment["DJANGO_SETTINGS_MODULE"] == "console.settings"
    assert environment["HTTPS_PROXY"] == "http://proxy:3128"
    assert environment["PATH"].startswith("/srv/x/venv/bin:")
    assert "PYTHONPATH" not in environment
    assert "CLOUD_SECRET" not in environment, "the web's user must not read what is root's"


def test_listening_to_others_allows_this_machines_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.socket, "gethostname", lambda: "boat")
    hosts = load({}, {"SLIPWAY_LISTEN": "0.0.0.0"}).environment()["SLIPWAY_ALLOWED_HOSTS"].split(",")
    assert {"localhost", "127.0.0.1", "boat"} <= set(hosts)
    assert "*" not in hosts
    loopback = load({}, {}).environment()["SLIPWAY_ALLOWED_HOSTS"].split(",")
    assert loopback == ["localhost", "127.0.0.1", "[::1]"]
    given = load({"SLIPWAY_ALLOWED_HOSTS": "a.example"}, {"SLIPWAY_LISTEN": "0.0.0.0"}).environment()
    assert given["SLIPWAY_ALLOWED_HOSTS"].split(",") == [*loopback, "a.example"]


def test_the_page_on_configuration_is_the_table() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python3 -m launcher.settings > docs/configuration.md"


def test_every_variable_that_the_code_reads_is_in_the_table() -> None:
    import re

    known = {option.env for option in OPTIONS} | module.INTERNAL | module.COMMAND_LINE
    read = set()
    for folder in ("console", "runtime"):
        for path in (ROOT / folder).rglob("*.py"):
            read |= set(re.findall(r"""["'](SLIPWAY_[A-Z_]+)["']""", path.read_text(encoding="utf-8")))
    assert read, "the console reads some"
    assert read - known == set()
