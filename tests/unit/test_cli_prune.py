"""``prune`` of containers: what cannot be removed is told, and keeps no other."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from runtime.api import ContainerSpec
from runtime.cli import containers
from runtime.cli.finding import TENANT
from runtime.engines.fake.engine import FakeEngine
from runtime.errors import DeadlineExceeded, NotFound
from runtime.home import Home


def test_one_that_cannot_be_removed_is_told_and_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine(Home(tmp_path, "tfake"))
    image = engine.build("busybox").id
    for id in ("gone", "held", "last"):
        engine.create(ContainerSpec(id=id, tenant=TENANT, name=id, image=image, command=("sleep", "100")))
        engine.start(id)
        engine.stop(id, grace_s=0)
    remove = engine.remove

    def hindered(id: str, *, force: bool = False) -> None:
        if id == "gone":
            raise NotFound("There is no such container.")
        if id == "held":
            raise DeadlineExceeded("Its cgroup does not become empty.")
        remove(id, force=force)

    monkeypatch.setattr(engine, "remove", hindered)
    assert containers.prune(engine, argparse.Namespace()) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("last\n", "held: Its cgroup does not become empty.\n")
    assert [one.name for one in engine.list()] == ["gone", "held"]
