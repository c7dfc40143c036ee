"""AppArmor: containers run under our profile where the kernel has it, and where it has not that is said."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable

import pytest

from runtime.engines.native import apparmor
from runtime.kernel import apparmor as kernel
from tests.kernel.scene import Scene, engine, scene

__all__ = ["engine", "scene"]
pytestmark = pytest.mark.root
here = pytest.mark.skipif(not kernel.enabled(), reason="this kernel has no AppArmor; the virtual machine's has")
MARK = "--of-this--"
NOTES = "head -c 4 /sys/kernel/notes | wc -c"
"""Readable by everybody but for the profile; it tells where the kernel lies in memory."""


@here
def test_a_container_and_its_execs_run_under_the_profile(scene: Scene) -> None:
    id = scene.run()
    report = scene.engine.isolation(id)
    assert report.apparmor == f"{apparmor.name()} (enforce)"
    assert report.apparmor_missing == ""
    assert scene.inside(id, "cat /proc/self/attr/current").startswith(apparmor.name())
    assert "Permission denied" in scene.inside(id, NOTES)


@here
def test_what_a_service_needs_is_let_through(scene: Scene) -> None:
    id = scene.run()
    script = "echo x > /tmp/f && chown 5 /tmp/f && cat /proc/1/status > /dev/null && (sleep 5 & kill $!) && (nc -l -p 7000 -e echo heard & sleep 0.5; nc -w 5 127.0.0.1 7000 < /dev/null | grep heard > /dev/null) && echo well"
    assert scene.inside(id, script).splitlines()[-1] == "well"
    scene.engine.stop(id, grace_s=5)
    assert scene.engine.inspect(id).exit_code is not None


@here
def test_a_profile_that_somebody_unloaded_is_loaded_again(scene: Scene) -> None:
    scene.run()
    assert kernel.known(apparmor.name())
    remove = ["apparmor_parser", "--remove", "--skip-cache"]
    subprocess.run(remove, input=apparmor.text(), text=True, check=True)
    assert not kernel.known(apparmor.name())
    assert scene.engine.isolation(scene.run()).apparmor.startswith(apparmor.name())


@here
def test_a_node_without_the_parser_runs_containers_and_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "known", lambda name: False)
    monkeypatch.setattr(kernel, "PARSER", "no-such-parser")
    report = scene.engine.isolation(scene.run())
    assert report.apparmor == "unconfined"
    assert report.apparmor_missing == apparmor.NO_PARSER


@pytest.mark.skipif(kernel.enabled(), reason="this kernel has AppArmor")
def test_a_kernel_without_it_is_said_so(scene: Scene) -> None:
    id = scene.run()
    report = scene.engine.isolation(id)
    assert (report.apparmor, report.apparmor_missing) == ("", apparmor.ABSENT)
    assert scene.inside(id, NOTES) == "4", "nothing else keeps it from being read"


def test_what_is_masked_and_read_only_is_as_the_kernel_has_it(scene: Scene) -> None:
    id = scene.run()
    report = scene.engine.isolation(id)
    assert report.seccomp_mode == 2
    assert {"/proc/keys", "/proc/timer_list", "/sys/firmware"} <= set(report.masked)
    assert {"/proc/sys", "/proc/bus", "/proc/irq", "/sys"} <= set(report.read_only)
    look = 'if [ -d "$path" ]; then ls -A "$path"; else cat "$path"; fi'
    for path, text in of_each(scene, id, report.masked, look).items():
        assert text == "" or "Permission denied" in text, path  # AppArmor refuses some before there is anything to read
    for path, text in of_each(scene, id, report.read_only, 'mkdir "$path/made"').items():
        assert "Read-only" in text or path.startswith("/proc"), path


def of_each(scene: Scene, id: str, paths: Iterable[str], script: str) -> dict[str, str]:
    """What a shell in the container says to the script with each as its ``$path``."""
    wanted = list(paths)
    said = scene.inside(id, f"for path in {shlex.join(wanted)}; do echo {MARK}; {script}; done")
    first, *texts = said.split(MARK)
    assert (first, len(texts)) == ("", len(wanted)), said
    return dict(zip(wanted, map(str.strip, texts), strict=True))
