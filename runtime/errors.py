"""Every error that the runtime raises on purpose.

::

    RuntimeFault                 anything below; carries a code, safe data, a hint, and whether a retry may help
    ├── InvalidSpec              the caller asked for something that cannot be; names the field
    ├── NotFound                 no such container, image, tag, network, command
    ├── Conflict                 the name, port or address is taken, or the state forbids the verb
    ├── ImageFault               the image cannot be had or used
    │   ├── ImageUnavailable     registry down, unreachable or answering nonsense (retry may help)
    │   ├── ImageDenied          registry refused the credentials
    │   ├── ImageCorrupt         digest or size mismatch, broken layer, path escape, unsupported entry
    │   └── ImageUnsuitable      another architecture, unknown media type, needs more memory
    ├── OutOfSpace               disk or inodes are exhausted
    ├── LimitExceeded            more than the node has
    ├── Cancelled                the caller does not want it any more; raised from its own ``progress``
    ├── DeadlineExceeded         a wait ended without what it waited for
    ├── HostUnfit                the kernel or a package lacks something; the hint is the fix
    └── EngineFault              conmon, runc or the kernel failed in a way that nothing above describes

A person reads ``message`` (what happened) and ``hint`` (what to do): both are plain English sentences without
paths of the host, secrets or tracebacks.  Programs read ``code`` and ``data``; the console translates by ``code``
with ``data`` as parameters, so every value in ``data`` must be safe to show to the tenant.
"""

from __future__ import annotations

from typing import ClassVar


class RuntimeFault(Exception):
    """The root of the tree.  ``str(error)`` is the message, followed by the hint if there is one."""

    code: ClassVar[str] = "runtime_fault"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", field: str = "", **data: str | int) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class InvalidSpec(RuntimeFault):
    """``field`` names the offending field of the spec, for example ``limits.memory_bytes`` or ``ports[0].host_port``."""

    code = "invalid_spec"


class NotFound(RuntimeFault):
    code = "not_found"


class Conflict(RuntimeFault):
    code = "conflict"


class ImageFault(RuntimeFault):
    code = "image_fault"


class ImageUnavailable(ImageFault):
    code = "image_unavailable"
    retryable = True


class ImageDenied(ImageFault):
    code = "image_denied"


class ImageCorrupt(ImageFault):
    code = "image_corrupt"


class ImageUnsuitable(ImageFault):
    code = "image_unsuitable"


class OutOfSpace(RuntimeFault):
    code = "out_of_space"


class LimitExceeded(RuntimeFault):
    code = "limit_exceeded"


class Cancelled(RuntimeFault):
    code = "cancelled"


class DeadlineExceeded(RuntimeFault):
    code = "deadline_exceeded"
    retryable = True


class HostUnfit(RuntimeFault):
    code = "host_unfit"


class EngineFault(RuntimeFault):
    code = "engine_fault"
    retryable = True
