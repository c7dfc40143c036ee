"""The container runtime is chosen by making a container with it, not by its name."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.engines.native import choice, trial
from runtime.engines.native.oci import Runtime
from runtime.errors import HostUnfit, RuntimeFault
from runtime.home import Home
from runtime.kernel.cgroup import Cgroup, ensure_parent
from runtime.kernel.mount import MS_NODEV, MS_NOEXEC, MS_NOSUID, mount, mounts_under, unmount
from tests.conftest import Place, oci_runtime
from tests.traces import traces

pytestmark = pytest.mark.root


@pytest.fixture
def home(place: Place) -> Iterator[Home]:
    made = Home.from_environment()
    yield made
    Cgroup(f"/{made.instance}").remove()
    shutil.rmtree(made.run, ignore_errors=True)


def script(folder: Path, text: str) -> Runtime:
    path = folder / "runtime"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Runtime(str(path), folder / "state")


def test_a_runtime_that_works_passes_and_leaves_nothing(home: Home) -> None:
    before = traces(home)
    trial.run(home, Runtime(oci_runtime(), home.runc))
    left = traces(home).new_since(before)
    assert os.stat(os.devnull).st_uid == 0
    assert set(left) <= {"files"}, left
    assert all(path.endswith("/self-test") for path in left.get("files", ()))


def test_what_others_make_meanwhile_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cgroup that a start has just made is still empty; it was taken away with the first test's own, and the start failed."""
    create = trial._create

    def beside(runtime: Runtime, folder: Path) -> None:
        create(runtime, folder)
        ensure_parent(f"/{home.instance}/tenant1/c1")

    monkeypatch.setattr(trial, "_create", beside)
    trial.run(home, Runtime(oci_runtime(), home.runc))
    assert Cgroup(f"/{home.instance}/tenant1/c1").exists()
    assert not Cgroup(f"/{home.instance}/{choice.TRIAL}").exists()


def test_many_that_start_at_once_after_a_reboot_try_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def run(*_: object) -> None:
        tried.append(1)
        (home.run / choice.TRIAL).mkdir(parents=True, exist_ok=True)
        time.sleep(0.2)

    monkeypatch.setattr(trial, "run", run)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: choice.choose.__wrapped__(home).path, range(4)))
    assert (len(tried), set(found)) == (1, {oci_runtime()})


def test_a_run_folder_that_executes_nothing_is_fine(home: Home) -> None:
    """As Debian mounts /run; inside a user namespace such a flag cannot be taken off again."""
    home.run.mkdir(mode=0o755)
    mount("tmpfs", home.run, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    try:
        trial.run(home, Runtime(oci_runtime(), home.runc))
        assert mounts_under(home.run) == (home.run,)
    finally:
        unmount(home.run, lazy=True)


def test_one_that_cannot_make_a_container_is_refused(home: Home, tmp_path: Path) -> None:
    before = traces(home)
    with pytest.raises(RuntimeFault, match="It refused: broken"):
        trial.run(home, script(tmp_path, 'echo "broken" > "$4"; exit 1'))
    assert "processes" not in traces(home).new_since(before)


def test_the_next_candidate_is_taken_and_the_choice_remembered(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = script(tmp_path, "exit 1")
    monkeypatch.setattr(choice, "CANDIDATES", (broken.path, oci_runtime()))
    assert choice.choose.__wrapped__(home).path == oci_runtime()
    monkeypatch.setattr(trial, "run", lambda *_: pytest.fail("tried twice in one boot"))
    monkeypatch.setattr(choice, "CANDIDATES", (oci_runtime(),))
    assert choice.choose.__wrapped__(home).path == oci_runtime()


def test_none_that_works_is_told_with_the_reasons(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(choice, "CANDIDATES", (script(tmp_path, "exit 1").path, "no-such-runtime"))
    with pytest.raises(HostUnfit, match="no-such-runtime is not installed"):
        choice.choose.__wrapped__(home)


def test_a_node_that_suits_no_runtime_is_told_its_own_reason(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def unfit(*_: object) -> None:
        raise HostUnfit("No memory controller.", hint="Boot without cgroup_disable=.")

    monkeypatch.setattr(trial.cgroup, "ensure_parent", unfit)
    with pytest.raises(HostUnfit, match=r"^No memory controller\. Boot without"):
        choice.choose.__wrapped__(home)
