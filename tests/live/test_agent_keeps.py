"""The agent carries out restart policies, and stops when it is told to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from asgiref.sync import sync_to_async

from console.accounts.models import Tenant, User
from console.live.agent.sampling import Sampling
from console.live.agent.truth import Truth
from console.workloads.models import Container
from runtime.api import State
from runtime.engines.fake.engine import FakeEngine
from tests.conftest import patience
from tests.console.launching import BUSYBOX, engine, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)


async def test_what_ends_under_a_policy_runs_again(
    tenant: Tenant, member: User, engine: FakeEngine, tmp_path: Path
) -> None:
    container = await sync_to_async(launched)(tenant, member, replace(BUSYBOX, restart="always"))
    truth = Truth(engine, cast("Sampling", None), tmp_path / "exits")
    keeping = asyncio.create_task(truth.keep())
    engine.crash(container.id, 1)
    await sync_to_async(truth._settle)(container.id)
    async with asyncio.timeout(patience(20)):
        while (row := await Container.objects.aget(pk=container.id)).epoch < 2:
            await asyncio.sleep(0.05)
        assert (row.state, row.restart_at) == ("running", None)
        assert engine.inspect(container.id).state is State.RUNNING
        truth.keeper.stop()
        await keeping
