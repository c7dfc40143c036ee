"""Slipway's container runtime: OCI images, overlay snapshots, namespaces, cgroups and networks on conmon and runc or crun.

It imports no Django and is usable alone: ``python -m runtime --help``.  The way in is :mod:`runtime.api`; an
implementation of its :class:`~runtime.api.Engine` protocol comes from :mod:`runtime.engines`.
"""
