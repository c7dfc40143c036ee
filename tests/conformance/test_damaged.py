"""A container whose files somebody or something has damaged: told as that, with what to do, and it hides no other."""

from __future__ import annotations

import json

import pytest

from runtime.api import State
from runtime.engines.fake.engine import FakeEngine
from runtime.engines.native.engine import NativeEngine
from runtime.errors import EngineFault
from tests.conformance.test_engine import Make, engine, make, run
from tests.marks import like_another

__all__ = ["engine", "make"]


@pytest.mark.parametrize("name", ["status.json", pytest.param("spec.json", marks=like_another)])
@pytest.mark.parametrize(
    "content",
    ['{"half', *(pytest.param(one, marks=like_another) for one in ("[]", "{}", '{"state": "unheard of"}', None))],
)
def test_it_is_told_beside_the_others_and_goes_by_force(
    engine: FakeEngine | NativeEngine, make: Make, name: str, content: str | None
) -> None:
    whole, broken = run(engine, make()), run(engine, make())
    before = engine.inspect(whole)
    file = engine.home.container(broken) / name
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    found = {one.id: one for one in engine.list()}
    assert found[whole] == before
    assert (found[broken].state, engine.inspect(broken).state) == (State.DAMAGED, State.DAMAGED)
    assert "Remove it by force" in found[broken].reason
    of_tenant = {one.id for one in engine.list(tenant="tenant1")}
    assert of_tenant == ({whole, broken} if name == "status.json" else {whole}), "whose it is stands in its spec"
    assert set(engine.counters()) == set(engine.counters([whole, broken])) == {whole}
    assert engine.final_readings() == ()
    assert [row.partition(":")[0] for row in engine.reconcile().failed] == [broken]
    for refused in (engine.start, engine.remove):
        with pytest.raises(EngineFault, match="damaged"):
            refused(broken)
    engine.remove(broken, force=True)
    assert engine.list() == (before,)
    assert engine.reconcile().failed == ()


def test_an_address_that_is_none_is_damage_and_holds_nobody_up(engine: FakeEngine | NativeEngine, make: Make) -> None:
    whole, broken = run(engine, make()), run(engine, make())
    before, file = engine.inspect(whole), engine.home.container(broken) / "spec.json"
    place = {"network": "default", "address": "10.0.0.2x", "address6": None, "aliases": []}
    file.write_text(json.dumps({**json.loads(file.read_text()), "networks": [place]}))
    assert engine.inspect(broken).state is State.DAMAGED
    assert [row.partition(":")[0] for row in engine.reconcile().failed] == [broken]
    engine.remove(broken, force=True)
    assert engine.list() == (before,)
    assert engine.reconcile().failed == ()
