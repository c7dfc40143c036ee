"""A node whose runc is gone or broken: a start is refused before anything is prepared for it, and whatever there is can be removed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime.api import State
from runtime.engines.native import choice
from runtime.engines.native.engine import NativeEngine
from runtime.errors import HostUnfit, NotFound
from tests.kernel.containers import engine, run, spec
from tests.traces import traces

__all__ = ["engine"]
pytestmark = pytest.mark.root


@pytest.fixture
def broken(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[NativeEngine]:
    """An engine that finds no runtime: what was found before is forgotten, as in another process."""
    choice.choose.cache_clear()
    monkeypatch.setattr(choice, "CANDIDATES", ("no-such-runtime",))
    yield NativeEngine(engine.home)
    choice.choose.cache_clear()


def test_a_start_is_refused_with_nothing_prepared(engine: NativeEngine, broken: NativeEngine) -> None:
    made = spec(engine)
    broken.create(made)
    before = traces(engine.home)
    with pytest.raises(HostUnfit, match="no-such-runtime is not installed"):
        broken.start(made.id)
    assert not traces(engine.home).new_since(before)
    assert broken.inspect(made.id).state is State.CREATED


def test_what_ran_is_removed(engine: NativeEngine, request: pytest.FixtureRequest) -> None:
    id = run(engine, spec(engine))
    broken: NativeEngine = request.getfixturevalue("broken")
    broken.remove(id, force=True)
    assert broken.final_readings(id)
    left = traces(engine.home)
    assert not {name for name in left.mounts | left.cgroups | left.processes if id in name}
    with pytest.raises(NotFound):
        broken.inspect(id)


def test_a_start_that_a_crash_cut_short_is_undone(engine: NativeEngine, request: pytest.FixtureRequest) -> None:
    made = spec(engine)
    engine.create(made)
    records = engine._records  # what a crash just after the mark leaves
    records.save(made.id, records.record(made.id).moved(State.CREATED, starting=True))
    broken: NativeEngine = request.getfixturevalue("broken")
    assert not broken.reconcile().failed
    assert broken.inspect(made.id).state is State.CREATED
    assert not records.record(made.id).starting


def test_its_folder_is_no_other_s(engine: NativeEngine) -> None:
    """What is taken away without the program is this container's alone."""
    first, second = run(engine, spec(engine)), run(engine, spec(engine))
    engine.remove(first, force=True)
    assert not (engine.home.runc / first).exists()
    assert (engine.home.runc / second).exists()
