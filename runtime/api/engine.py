"""The verbs: the Engine protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, runtime_checkable

from runtime.api.attach import Attachments
from runtime.api.capability import Capability
from runtime.api.controls import Controls
from runtime.api.events import Events
from runtime.api.files import Files
from runtime.api.health import Health
from runtime.api.image import Image
from runtime.api.images import ImageService
from runtime.api.isolation import IsolationReport
from runtime.api.logs import LogLine
from runtime.api.networks import Networks
from runtime.api.progress import Progress, no_progress
from runtime.api.reconciliation import Reconciliation
from runtime.api.restart import Restarts
from runtime.api.spec import ContainerSpec, Credentials, ExecSpec
from runtime.api.status import ContainerStatus, Counters, FinalReading
from runtime.api.totals import Totals
from runtime.api.volumes import Volumes


class ExecSession(Protocol):
    """A running exec.  With a terminal ``stdin`` and ``stdout`` are the same pseudo-terminal and ``stderr`` is None.

    The file objects are raw (unbuffered) and blocking; ``fileno()`` may be handed to an event loop.
    """

    stdin: BinaryIO
    stdout: BinaryIO
    stderr: BinaryIO | None

    def resize(self, columns: int, rows: int) -> None: ...

    def poll(self) -> int | None:
        """Exit code once ended, else None."""

    def wait(self, timeout_s: float) -> int:
        """Raises DeadlineExceeded."""

    def close(self) -> None:
        """Hang up: the process gets SIGHUP and, two seconds later, SIGKILL.  Returns when nothing of it is left."""


@runtime_checkable
class Engine(Protocol):
    """Runs containers.  Implementations: ``runtime.engines.native`` and ``runtime.engines.fake``."""

    name: str
    capabilities: frozenset[Capability]

    @property
    def totals(self) -> Totals:
        """What each tenant's containers together have used."""

    @property
    def events(self) -> Events:
        """What happened on the node."""

    @property
    def restarts(self) -> Restarts:
        """What restart policies have decided."""

    @property
    def controls(self) -> Controls:
        """With :attr:`Capability.CONTROLS`."""

    @property
    def health(self) -> Health:
        """Whether what runs does its work."""

    @property
    def volumes(self) -> Volumes:
        """Folders that outlive containers."""

    @property
    def files(self) -> Files:
        """What lies in containers: copies, changes, exports, commits."""

    @property
    def attachments(self) -> Attachments:
        """A container's own output and input."""

    @property
    def networks(self) -> Networks:
        """Networks with names, beside each tenant's own."""

    @property
    def image_service(self) -> ImageService:
        """What is done with images beyond getting and removing them."""

    # images ------------------------------------------------------------------------------------------

    def pull(
        self,
        reference: str,
        *,
        credentials: Credentials | None = None,
        insecure: bool = False,
        confined: bool = False,
        progress: Progress = no_progress,
    ) -> Image:
        """Fetch ``[registry/]name[:tag|@digest]`` and unpack it.

        Resumes what an earlier try left; verifies every digest; ``insecure`` allows plain HTTP to that registry; ``confined``:
        a tenant asks, so a registry on the node itself is not spoken to (:mod:`runtime.image.reach`).
        Raises NotFound, ImageDenied, ImageUnavailable, ImageCorrupt, ImageUnsuitable, OutOfSpace, InvalidSpec.
        """

    def load(
        self, archive: Path, *, reference: str | None = None, progress: Progress = no_progress
    ) -> tuple[Image, ...]:
        """Import an OCI or docker archive (tar, gzip or zstd).  Raises as pull does."""

    def build(self, recipe: str, *, progress: Progress = no_progress) -> Image:
        """The image of a built-in recipe (:mod:`runtime.image.recipe`), made of the node's packages unless it is here already.

        Raises NotFound, HostUnfit, ImageUnavailable (packages cannot be had), OutOfSpace, EngineFault.
        """

    def image(self, reference: str) -> Image:
        """By id or reference.  Raises NotFound."""

    def images(self) -> tuple[Image, ...]: ...

    def remove_image(self, reference: str) -> None:
        """Drop a reference, or an id with all its references, and what only it held.

        Raises NotFound, Conflict (a container uses it; ``data['container']`` names one).
        """

    # containers --------------------------------------------------------------------------------------

    def create(self, spec: ContainerSpec, *, progress: Progress = no_progress) -> ContainerStatus:
        """Validate the spec and make the container's writable layer.

        Created already with an equal spec: returns its status.  Raises InvalidSpec, NotFound (image),
        Conflict (id exists with another spec, name is taken, a fixed address is another's: ``data['container']``), LimitExceeded,
        ImageUnsuitable, OutOfSpace.
        """

    def start(self, id: str, *, progress: Progress = no_progress) -> ContainerStatus:
        """Bring it to running.  Running already: returns its status.

        On any failure nothing of the attempt is left and the state is what it was before.  Raises NotFound, Conflict (port taken,
        ``data['port']``), InvalidSpec (command does not exist in the image), OutOfSpace, LimitExceeded, EngineFault.
        """

    def stop(self, id: str, *, grace_s: float | None = None, progress: Progress = no_progress) -> ContainerStatus:
        """Stop signal, up to ``grace_s`` (0 to 3600; default: the spec's) for it to end, then SIGKILL.  Not running: returns its status.

        Raises NotFound, InvalidSpec (the grace).
        """

    def kill(self, id: str, signal: str = "SIGKILL") -> None:
        """Send any signal (``SIGTERM``, ``term``, ``15``, ``RTMIN+1``) to the container's first process; its init passes it on.

        Raises Conflict when it is not running, InvalidSpec.
        """

    def restart(
        self, id: str, *, grace_s: float | None = None, progress: Progress = no_progress
    ) -> ContainerStatus: ...

    def remove(self, id: str, *, force: bool = False, progress: Progress = no_progress) -> None:
        """Take every trace away.  Unknown id: does nothing.  Not ``force``: Raises Conflict (running), EngineFault (damaged)."""

    def inspect(self, id: str) -> ContainerStatus:
        """Never waits on a lock for more than a moment.  Raises NotFound.  One that is damaged is told as such, also by ``list``."""

    def list(self, *, tenant: str | None = None) -> tuple[ContainerStatus, ...]:
        """All, however it is with one of them.  One that is so damaged that nobody knows whose it is, is no tenant's."""

    def spec(self, id: str) -> ContainerSpec:
        """Raises NotFound."""

    def settle(self, id: str) -> ContainerStatus:
        """Called when a container's process may have ended: store its final counters durably, then free what it held.

        Does nothing while it runs.  The agent calls it on every exit it sees; stop, remove and reconcile call it too.
        """

    def exec(self, id: str, spec: ExecSpec) -> ExecSession:
        """Raises NotFound, Conflict (not running), InvalidSpec (no such command)."""

    def logs(
        self,
        id: str,
        *,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        stream: Literal["stdout", "stderr"] | None = None,
        follow: bool = False,
    ) -> Iterator[LogLine]:
        """Oldest first: of those from ``since`` to ``until`` (seconds since the epoch, both within) and of ``stream``, the last ``tail``.

        ``follow`` goes on until the container has exited and the log is drained, or ``until`` has passed.  A reader slower than the container may miss
        what is replaced meanwhile, which :attr:`LogLine.lost_before` tells.  Raises NotFound.
        """

    def log_file(self, id: str) -> Path:
        """Where the log is, or will be, for programs that follow it by themselves with :class:`runtime.telemetry.log.Reader`."""

    def isolation(self, id: str) -> IsolationReport:
        """Raises NotFound, Conflict (not running)."""

    # counters ----------------------------------------------------------------------------------------

    def counters(self, ids: Iterable[str] | None = None, *, live: bool = False) -> Mapping[str, Counters]:
        """One reading of each running container (of ``ids``).  Keeps descriptors open between calls.

        ``live`` is for pictures at 1 Hz of 1,000: what no picture shows (``throttled_ns``, ``oom_kills``) may be None, and the working set
        may follow the page cache with a delay of up to 5 s.
        """

    def final_readings(self, id: str | None = None) -> tuple[FinalReading, ...]:
        """Readings stored by settle and not yet acknowledged.  They outlive the container's removal."""

    def acknowledge(self, reading: FinalReading) -> None:
        """The reading is safe elsewhere; forget it."""

    # the node ----------------------------------------------------------------------------------------

    def reconcile(self) -> Reconciliation:
        """Compare what should be with what is, after a crash, an upgrade or a reboot.

        Adopts what runs, settles what ended, finishes removals, starts what restart policies want started by now, sweeps
        leftovers that carry this engine's instance name.
        Never kills on ambiguous evidence.
        """

    def teardown(self) -> None:
        """Remove every container, network and kernel object of this instance; images stay."""
