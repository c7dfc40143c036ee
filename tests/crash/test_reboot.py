"""After a reboot: all of RUN is gone and no process runs; what policies keep comes back, what somebody stopped does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import Attachment, ContainerSpec, EventKind, Limits, NetworkSpec, Port, RestartPolicy, State
from runtime.engines.native.engine import NativeEngine
from tests.kernel.containers import engine
from tests.marks import no_cgroup
from tests.reboot import reboot

__all__ = ["engine"]
pytestmark = pytest.mark.root


def test_what_ran_under_a_policy_comes_back(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = ContainerSpec(
        "cplain", "tenant1", "plain", engine.image("busybox").id, command=("sleep", "100000"),
        limits=Limits(32 << 20, 500, 32), ports=(Port(80),),
    )  # fmt: skip
    policies = {
        "cplain": RestartPolicy(),
        "calways": RestartPolicy("always"),
        "cunless": RestartPolicy("unless-stopped"),
        "cfailure": RestartPolicy("on-failure", 1),
        "cstopped": RestartPolicy("always"),
        "ckilled": RestartPolicy("unless-stopped"),
        "cnever": RestartPolicy("always"),
    }
    for id, policy in policies.items():
        engine.create(replace(plain, id=id, name=id, restart=policy))
        if id != "cnever":
            engine.start(id)
    engine.networks.create(NetworkSpec("tenant1", "back", ipv6=True))
    engine.networks.connect("calways", Attachment("back", aliases=("db",)))
    engine.stop("cstopped", grace_s=0)
    engine.kill("ckilled")
    middle = engine.events.last()
    reboot(engine.home, monkeypatch, tmp_path / "boot_id")

    again = NativeEngine(engine.home)
    found = again.reconcile()
    assert set(found.restarted) == {"calways", "cunless", "cfailure"}
    assert set(found.settled) >= {"cplain", *found.restarted}
    assert not found.failed
    states = {status.id: status.state for status in again.list()}
    assert {id for id, state in states.items() if state is State.RUNNING} == set(found.restarted)
    assert states["cnever"] is State.CREATED
    plain_status = again.inspect("cplain")
    assert (plain_status.exit_code, plain_status.reason) == (None, "the node was restarted")
    back = again.inspect("calways")
    assert (back.epoch, back.restarts) == (2, 1)
    assert back.address
    assert back.ports[0].host_port
    assert [one.network for one in back.networks] == ["default", "back"]
    assert again.counters(["calways"])["calways"].net_tx_bytes is not None
    assert again.counters(["calways"])["calways"].cpu_ns is not None
    told = [event.kind for event in again.events.read(after=middle, subject="calways")]
    assert told == [EventKind.DIED, EventKind.RESTARTING, EventKind.STARTED]
    assert again.reconcile().adopted == ("calways", "cfailure", "cunless")
    again.remove("calways", force=True)
    assert again.final_readings("calways")[-1].epoch == 2


@no_cgroup
def test_a_fixed_address_outlives_it(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also before anybody has reconciled: who is launched first gets another."""
    back = engine.networks.create(NetworkSpec("tenant1", "back"))
    plain = ContainerSpec("cfixed", "tenant1", "fixed", engine.image("busybox").id, command=("sleep", "100000"))
    lowest = back.gateway.rpartition(".")[0] + ".2"
    engine.create(replace(plain, networks=(Attachment("back", lowest),)))
    assert engine.start("cfixed").address == lowest
    reboot(engine.home, monkeypatch, tmp_path / "boot_id")

    again = NativeEngine(engine.home)
    again.create(replace(plain, id="cother", name="other", networks=(Attachment("back"),)))
    assert again.start("cother").address not in {None, lowest}
    assert again.reconcile().settled == ("cfixed",)
    assert again.start("cfixed").address == lowest
