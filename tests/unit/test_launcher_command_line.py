"""``./slipway`` as a person types it: help, refusals, exit codes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launcher import __main__ as command_line
from launcher.__main__ import main

ROOT = Path(__file__).parents[2]


def slipway(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    return subprocess.run(
        [ROOT / "slipway", *arguments],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SLIPWAY_"):
            monkeypatch.delenv(name)


def test_help_names_every_command_and_setting() -> None:
    said = slipway("--help")
    assert said.returncode == 0
    for word in ("up", "down", "doctor", "manage", "bench", "test", "SLIPWAY_DATABASE_URL", "--port"):
        assert word in said.stdout


def test_it_runs_from_any_folder_and_through_a_link(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(ROOT / "slipway")
    (tmp_path / "launcher.py").write_text("raise SystemExit('the wrong launcher')", encoding="ascii")
    said = subprocess.run([link, "--help"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert said.returncode == 0, said.stderr


def test_a_bad_port_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    said = slipway("up", "--port", "seventy", "--home", str(tmp_path / "home"))
    assert said.returncode == 2
    assert said.stderr == "slipway: --port seventy: 'seventy' is not a port from 1 to 65535.\n"
    assert not (tmp_path / "home").exists()


@pytest.mark.root
def test_a_home_that_is_a_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = slipway("up", "--home", str(tmp_path / "file"), SLIPWAY_INSTANCE="tfile")
    assert said.returncode == 1
    assert f"{tmp_path}/file is not a folder. Choose another folder with --home." in said.stderr
    assert "Traceback" not in said.stderr


def test_no_command_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_up_refuses_anyone_but_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command_line.up.os, "geteuid", lambda: 1000)
    assert main(["up"]) == 1
    assert "needs root. Run it as root: sudo ./slipway up." in capsys.readouterr().err


def test_down_without_anybody_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line.down.os, "geteuid", lambda: 0)
    monkeypatch.setattr(command_line.down, "needs_set_up", lambda settings: None)
    monkeypatch.setattr("sys.stdin", open(os.devnull, encoding="ascii"))  # noqa: SIM115 -- the process's own
    assert main(["down", "--home", str(tmp_path)]) == 1
    assert "Give --yes." in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["down", "manage"])
def test_before_the_first_up(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line.down.os, "geteuid", lambda: 0)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    assert main([verb]) == 1
    assert f"Nothing is set up in {tmp_path} yet. Run ./slipway up first" in capsys.readouterr().err


def test_an_unknown_part_or_bench(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "units"]) == 2
    assert main(["bench", "nothing"]) == 2
    said = capsys.readouterr().err
    assert "There is no part called units. The parts are lint, types, unit" in said
    assert "There is no bench called nothing." in said


def test_everything_after_manage_is_manage_pys() -> None:
    assert command_line._split(["manage", "shell", "--home", "x", "--", "y"]) == (
        ["manage"],
        ["shell", "--home", "x", "--", "y"],
    )
    assert command_line._split(["manage", "--home", "/x", "--port=1", "check", "--port", "2"]) == (
        ["manage", "--home", "/x", "--port=1"],
        ["check", "--port", "2"],
    )
    assert command_line._split(["test", "unit", "--", "-k", "x"]) == (["test", "unit"], ["-k", "x"])


def test_the_bootstrap_is_plain_sh() -> None:
    assert subprocess.run(["sh", "-n", ROOT / "slipway"], check=False).returncode == 0
    assert (ROOT / "slipway").read_text(encoding="ascii").startswith("#!/bin/sh\n")
