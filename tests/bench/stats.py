"""One look at the counters of every running container: of 1,000 of ours, and of as many as docker and podman can be given in minutes.

docker is asked for each container, all at once as ``docker stats`` does, and without the second that a rate of CPU needs (``one-shot``);
this version of it answers at its own next look all the same, of which it has one a second.  podman answers for all in one.  A thousand
of theirs would take ten minutes to start and 4 GiB, so the comparison is of 100 on all sides, in turn; our thousand is beside it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from runtime.api import Engine
from tests.bench import _ours
from tests.bench._api import Api
from tests.bench._report import Row, beside, main, note
from tests.bench._sides import COMMAND, Sides, sides

STARTERS = 4
MANY, TOGETHER, LOOKS = 1000, 100, 20
QUICK_MANY, QUICK_TOGETHER, QUICK_LOOKS = 50, 8, 5
GOALS = (1.0, 1.0)
LIBPOD = "/v4.0.0/libpod/containers/stats?stream=false"

Look = Callable[[Sequence[str]], int]
"""Reads the counters of these containers; returns of how many it got memory in use."""


def measure(quick: bool) -> list[Row]:
    many, together, looks = (QUICK_MANY, QUICK_TOGETHER, QUICK_LOOKS) if quick else (MANY, TOGETHER, LOOKS)
    with sides() as all_of:
        ids = [f"s{number:05d}" for number in range(together)]
        for side in all_of.programs:
            note(f"{together} containers, {side.name}")
            _every(ids, side.launch)
        rows = _compared(all_of, ids, looks)
        note("removing theirs, and starting more of ours")
        for side in all_of.programs[1:]:
            _every(ids, side.remove)
        return rows + _of_many(all_of, ids, many, looks)


def _compared(all_of: Sides, ids: Sequence[str], looks: int) -> list[Row]:
    ours, docker, podman = all_of.programs
    ways: dict[str, Look] = {
        ours.name: lambda wanted: _ours_look(all_of.engine, wanted),
        docker.name: lambda wanted: _docker_look(all_of.docker.api, wanted),
        podman.name: lambda _: _podman_look(all_of.podman.api),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(looks + 1):
        for name, look in ways.items():
            took = _timed(look, ids)
            if number:
                times[name].append(took / len(ids))
    (_, mine), *others = times.items()
    return beside(f"a look at {len(ids)}, for each", "ms", mine, dict(others), GOALS)


def _of_many(all_of: Sides, ids: Sequence[str], many: int, looks: int) -> list[Row]:
    more = [f"s{number:05d}" for number in range(len(ids), many)]
    _every(more, lambda id: _launch(all_of, id))
    wanted = [*ids, *more]
    times = [_timed(lambda known: _ours_look(all_of.engine, known), wanted) for _ in range(looks + 1)][1:]
    note("removing them")
    _every(wanted, lambda id: all_of.engine.remove(id, force=True))
    return [Row(f"a look at {many} of ours, p50 of {len(times)}", "ms", statistics.median(times)),
            Row(f"a look at {many} of ours, for each", "ms", statistics.median(times) / many)]  # fmt: skip


def _timed(look: Look, ids: Sequence[str]) -> float:
    began = time.perf_counter()
    seen = look(ids)
    took = (time.perf_counter() - began) * 1000
    if seen != len(ids):
        raise RuntimeError(f"{seen} of {len(ids)} were seen")
    return took


def _ours_look(engine: Engine, ids: Sequence[str]) -> int:
    return sum(bool(one.memory_bytes) for one in engine.counters(ids).values())


def _docker_look(api: Api, ids: Sequence[str]) -> int:
    with ThreadPoolExecutor(len(ids)) as threads:
        return sum(bool(found["memory_stats"].get("usage")) for found in threads.map(api.stats, ids))


def _podman_look(api: Api) -> int:
    answer = json.loads(api.call("GET", LIBPOD, versioned=False))
    return sum(bool(one["MemUsage"]) for one in answer["Stats"])


def _launch(all_of: Sides, id: str) -> None:
    all_of.engine.create(_ours.spec(id, all_of.image, *COMMAND, number=int(id[1:])))
    all_of.engine.start(id)


def _every(ids: Sequence[str], do: Callable[[str], object]) -> None:
    with ThreadPoolExecutor(STARTERS) as starters:
        waiting = [starters.submit(do, id) for id in ids]
        try:
            for one in waiting:
                one.result()
        except BaseException:
            starters.shutdown(cancel_futures=True)
            raise


if __name__ == "__main__":
    sys.exit(main("stats", measure))
