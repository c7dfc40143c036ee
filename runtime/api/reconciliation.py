"""What a comparison of what should be with what is has found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What :meth:`Engine.reconcile` found and did."""

    adopted: tuple[str, ...] = ()
    """Running containers found alive and left undisturbed."""
    settled: tuple[str, ...] = ()
    """Containers whose process was gone; final counters stored, kernel objects removed."""
    removed: tuple[str, ...] = ()
    """Removals that had been begun and are finished now."""
    failed: tuple[str, ...] = ()
    """Containers that could not be put right, each as ``id: why``, and what is nobody's alone (``images: why``); the others were, and the next
    call tries these again."""
    restarted: tuple[str, ...] = ()
    """Containers that their restart policies have started again."""
    swept: tuple[str, ...] = ()
    """Leftovers without a container, each as ``kind:name`` (mount, cgroup, interface, address, port, folder)."""
