"""What engines may offer beyond the core of their protocol."""

from __future__ import annotations

import enum


class Capability(enum.StrEnum):
    """What an engine can do beyond the protocol's core; callers ask before they offer it to a person."""

    USER_NAMESPACES = "user_namespaces"
    PUBLISHED_PORTS = "published_ports"
    EXEC = "exec"
    ISOLATION_REPORT = "isolation_report"
    TENANT_TOTALS = "tenant_totals"
    EVENTS = "events"
    RESTART_POLICIES = "restart_policies"
    CONTROLS = "controls"
    HEALTH_CHECKS = "health_checks"
    VOLUMES = "volumes"
    FILES = "files"
    ATTACH = "attach"
    NETWORKS = "networks"
    IMAGE_SERVICE = "image_service"
