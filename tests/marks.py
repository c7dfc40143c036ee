"""Why a test is not run again in the virtual machine, on another kernel with cgroup version 2 (``tests/vm/selection.py``)."""

from __future__ import annotations

import pytest

refused_early = pytest.mark.not_in_vm("input that is refused before the kernel is asked")
files_only = pytest.mark.not_in_vm("images, registries and files: no container runs")
said_only = pytest.mark.not_in_vm("the command line over verbs that have tests of their own")
of_the_console = pytest.mark.not_in_vm("the console over the runtime: its rows, its processes")
crashed_elsewhere = pytest.mark.not_in_vm("points of a container's life, crashed at in test_engine_failpoints")
a_step_like_others = pytest.mark.not_in_vm("a step of a verb on networks that is killed there at another")
records_only = pytest.mark.not_in_vm("what the runtime writes down and reads again, of no container that runs")
too_much = pytest.mark.not_in_vm(
    "many processes at once for a time: an emulated processor is too slow for it to mean anything"
)
no_cgroup = pytest.mark.thorough_in_vm("packets, rules, files and words, which no cgroup counts: with --thorough")
like_another = pytest.mark.thorough_in_vm("what differs from another in its input alone: with --thorough")
"""A whole run takes an emulated processor longer than one has each time."""
