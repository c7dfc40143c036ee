"""Restart policies: whether a container that has ended is started again, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from runtime.api.status import ContainerStatus

RestartMode = Literal["no", "on-failure", "always", "unless-stopped"]
RESTART_MODES: tuple[RestartMode, ...] = ("no", "on-failure", "always", "unless-stopped")


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """``always`` and ``unless-stopped`` are the same here: what somebody stopped stays stopped, also after a reboot of the node.

    The wait doubles from a tenth of a second to a minute, and begins anew once a start has lasted ten seconds.  A reboot
    of the node is no container's own end: every policy but ``no`` starts again what ran then.
    """

    mode: RestartMode = "no"
    retries: int | None = None
    """With ``on-failure`` only: at most so many restarts since somebody started it.  None: without end."""


class Restarts(Protocol):
    """What the policies have decided and somebody has to carry out: the agent, :class:`runtime.keeper.Keeper`, or reconcile."""

    def waiting(self) -> Mapping[str, float]:
        """Container -> when its policy starts it, seconds since the epoch."""

    def carry_out(self, id: str) -> ContainerStatus | None:
        """Start it when it is due; None when it is not, or when it is gone.

        A start that fails is not raised: the status says why, and when the next try is due, if there is one.
        """
