"""A few of the runtime's tests once more, with crun alone, on this machine: those of what the container runtime itself does, and of how it is spoken to.

``python -m tests.crun [what pytest selects by]``; arguments that name files (``tests/…``) stand in place of :data:`SELECTION`.

They run in a mount namespace of their own, where runc is not to be had and cgroup version 1 has no version 2 beside it, which crun before 1.9
refuses.  Containers have user namespaces that the engine makes and the runtime joins (``tests.crun.joined``), also where root is not
offered them.  On cgroup version 2 the virtual machine has a run with crun of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from runtime.kernel.hierarchy import ROOT
from runtime.kernel.mount import bind, mount

SELECTION = (
    "tests/kernel/test_self_test.py",
    "tests/kernel/test_exec_terminals.py",
    "tests/kernel/test_native_engine.py::test_closing_an_exec_ends_what_it_left_in_the_background",
    "tests/kernel/test_native_engine.py::test_what_a_command_that_ended_at_once_left_behind_is_ended",
    "tests/kernel/test_native_engine.py::test_closing_an_exec_leaves_those_of_others_alone",
    "tests/kernel/test_native_engine.py::test_an_exec_has_the_capabilities_of_its_user",
    "tests/kernel/test_health_probes.py::test_a_command_that_is_not_there_is_a_failure_that_says_so",
    "tests/kernel/test_hostile_exhaustion.py::test_what_the_kernel_counts_by_user_is_not_one_tenants_to_use_up",
    "tests/kernel/test_bad_input.py::test_a_wrong_exec_names_its_field",
    "tests/kernel/test_volumes.py::test_a_new_one_has_what_the_image_has_at_its_path",
    "tests/conformance/test_engine.py",
    "tests/crash/test_engine_failpoints.py::test_a_kill_at_any_point_is_made_whole[start.created]",
    "tests/crash/test_controls.py",
    "tests/crash/test_connect_failpoints.py::test_a_kill_in_connect_leaves_it_wholly_on_or_off[connect.opened]",
    "tests/crash/test_connect_failpoints.py::test_a_kill_in_disconnect_finishes_it_and_loses_no_byte[disconnect.counted]",
    "tests/crash/test_connect_failpoints.py::test_a_container_that_ends_after_the_crash_has_all_counted",
    *(
        f"tests/crash/test_storage_failpoints.py::test_a_kill_at_any_point_of_storage_is_made_whole[{point}]"
        for point in ("start.creating", "start.created", "settle.stored", "release.deleted", "view.mounted")
    ),
)
"""Of the crash tests those points that lie next to what the runtime does; with crun, too, all of the three files passed."""
WITHIN = "SLIPWAY_TEST_CRUN_WITHIN"
VERSION_2 = "unified"


def main() -> int:
    arguments = sys.argv[1:]
    if WITHIN not in os.environ:
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.crun", *arguments]
        return subprocess.run(command, check=False, env={**os.environ, WITHIN: "1"}).returncode
    prepare()
    named = any(word.startswith("tests/") for word in arguments)
    plugins = ("-p", "tests.crun.joined")
    words = ["-m", "pytest", *plugins, "-k", "not fake", *(() if named else SELECTION), *arguments]
    return subprocess.run([sys.executable, *words], check=False).returncode


def prepare() -> None:
    """This process' mount namespace, which is its own."""
    assert shutil.which("crun"), "crun is not installed"
    if (ROOT / VERSION_2).is_mount():
        _without_version_2()
    while other := shutil.which("runc"):
        bind(Path(os.devnull), Path(other))


def _without_version_2() -> None:
    with tempfile.TemporaryDirectory() as made:
        other = Path(made)
        mount("tmpfs", other, "tmpfs", 0, "mode=755")
        for hierarchy in ROOT.iterdir():
            if hierarchy.is_symlink():
                (other / hierarchy.name).symlink_to(hierarchy.readlink())
            elif hierarchy.name != VERSION_2:
                (other / hierarchy.name).mkdir()
                bind(hierarchy, other / hierarchy.name)
        subprocess.run(["mount", "--rbind", str(other), str(ROOT)], check=True)
        subprocess.run(["umount", "--recursive", "--lazy", str(other)], check=True)


if __name__ == "__main__":
    sys.exit(main())
