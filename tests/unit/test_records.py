"""What the engine keeps of containers in memory goes with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from runtime.api import ContainerSpec, State
from runtime.engines.native.records import Record, Records
from runtime.home import Home


@pytest.mark.parametrize("look", [Records.all, Records.readable])
def test_a_removed_container_is_forgotten_by_whoever_looks_at_all(
    tmp_path: Path, look: Callable[[Records], Iterable[tuple[ContainerSpec, Record]]]
) -> None:
    home = Home(tmp_path)
    records = Records(home)
    for number in range(5):
        spec = ContainerSpec(f"c{number}aa", "tenant1", f"c{number}aa", "sha256:0")
        home.container(spec.id).mkdir(parents=True)
        records.save_spec(spec)
        records.save(spec.id, Record(State.CREATED, 1.0))
    assert len(list(look(records))) == 5
    for number in range(4):
        shutil.rmtree(home.container(f"c{number}aa"))
    assert [spec.id for spec, _ in look(records)] == ["c4aa"]
    assert set(records._known) == {"c4aa"}, "it would grow with every container that ever was"
