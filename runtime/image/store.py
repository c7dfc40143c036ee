"""The images of a node: manifests and layers by digest, references, unpacked layers shared by diff_id.

An image is there when its reference is in ``references.json``, which is written last; everything before that is
content by digest that the next try finds or :meth:`ImageStore.gc` removes.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from runtime.api import Credentials, Image, Layer, Progress, Step, no_progress
from runtime.errors import (
    Conflict,
    DeadlineExceeded,
    ImageCorrupt,
    ImageUnavailable,
    ImageUnsuitable,
    NotFound,
    RuntimeFault,
)
from runtime.home import Home, atomic_write
from runtime.image.blobs import Blobs
from runtime.image.reference import BUILT_IN, Reference
from runtime.image.room import disk_full, out_of_space
from runtime.image.unpack import unpack

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}
CONTENT_LOCK = "image-content"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def architecture() -> str:
    """Of this node, as OCI names it."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


class ImageStore:
    def __init__(self, home: Home, in_use: Callable[[], AbstractSet[str]] = frozenset) -> None:
        """``in_use``: ids of the images that containers are made of.  They stay, also when no reference names them any more."""
        self._home = home
        self._in_use = in_use
        self.blobs = Blobs(home)
        self.blobs.prepare()
        self._layers = home.images / "layers"
        self._layers.mkdir(mode=0o700, exist_ok=True)
        self._cache: dict[str, Image] = {}

    # references ------------------------------------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return self._home.images / "references.json"

    def references(self) -> Mapping[str, str]:
        """Full reference -> image id."""
        try:
            return dict(json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return {}

    def _change(self, change: Callable[[dict[str, str]], None]) -> None:
        with self._home.lock("images"):
            table = dict(self.references())
            change(table)
            atomic_write(self._file, json.dumps(table, sort_keys=True).encode())

    def tag(self, reference: Reference, image: str) -> None:
        self._change(lambda table: table.update({str(reference): image}))

    # images ----------------------------------------------------------------------------------------------

    def resolve(self, text: str) -> str:
        """Id of an image that is here.  A name without a registry means a built-in image first.  Raises NotFound, InvalidSpec."""
        table = self.references()
        if text in table.values() or (text.startswith("sha256:") and text in self._in_use()):
            return text
        if text.startswith("sha256:"):
            raise NotFound("The image is not on this node.", hint="Pull it first.", field="image")
        for reference in (Reference.parse(text, registry=BUILT_IN), Reference.parse(text)):
            if str(reference) in table:
                return table[str(reference)]
        raise NotFound(f"The image {text[:80]!r} is not on this node.", hint="Pull it first.", field="image")

    def image(self, text: str) -> Image:
        id = self.resolve(text)
        known = self._cache.get(id)
        if known is None:
            known = self._cache[id] = self._read(id)
        return known

    def images(self) -> tuple[Image, ...]:
        return tuple(self._read(id) for id in sorted(set(self.references().values())))

    def _read(self, id: str) -> Image:
        manifest = self.blobs.json(id)
        config = self.blobs.json(manifest["config"]["digest"])
        history = [row for row in config.get("history") or [] if not row.get("empty_layer")]
        diff_ids = config["rootfs"]["diff_ids"]
        layers = tuple(
            Layer(
                digest=str(layer["digest"]),
                diff_id=str(diff_id),
                size=int(layer["size"]),
                created_by=str(history[index].get("created_by", ""))[:300] if index < len(history) else "",
            )
            for index, (layer, diff_id) in enumerate(zip(manifest["layers"], diff_ids, strict=True))
        )
        return Image(
            id=id,
            references=tuple(sorted(name for name, target in self.references().items() if target == id)),
            architecture=str(config.get("architecture", "")),
            os=str(config.get("os", "")),
            size=sum(layer.size for layer in layers),
            layers=layers,
            created=str(config.get("created", "")),
            config=config.get("config") or {},
        )

    def layer_folders(self, image: Image) -> tuple[Path, ...]:
        """Unpacked, bottom first."""
        return tuple(self._layer(layer.diff_id) for layer in image.layers)

    def _layer(self, diff_id: str) -> Path:
        return self._layers / self.blobs.path(diff_id).name / "fs"

    # adding ----------------------------------------------------------------------------------------------

    def check_config(self, config: Mapping[str, Any], layers: int) -> list[str]:
        """Returns the diff_ids.  Raises ImageUnsuitable (another platform), ImageCorrupt."""
        diff_ids = (config.get("rootfs") or {}).get("diff_ids")
        if (
            not isinstance(diff_ids, list)
            or len(diff_ids) != layers
            or not all(isinstance(row, str) for row in diff_ids)
        ):
            raise ImageCorrupt(
                "The image's configuration does not fit its layers.", hint="The image must be pushed anew."
            )
        wanted = architecture()
        if config.get("architecture") != wanted or config.get("os") != "linux":
            raise ImageUnsuitable(
                f"The image is for {config.get('os')}/{config.get('architecture')}; this node is linux/{wanted}.",
                hint="Use an image for this architecture.",
                field="image",
            )
        return diff_ids

    def ensure_layer(self, digest: str, diff_id: str) -> None:
        """Unpack a layer whose blob is here.  Processes that want the same layer wait for one.  Raises as unpack does."""
        target = self._layer(diff_id).parent
        if target.exists():
            return
        with self._home.lock(f"layer-{target.name[:32]}", timeout_s=1800):
            if target.exists():
                return
            temporary = self.blobs.ingest / f"{target.name}.fs"
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                (temporary / "fs").mkdir(parents=True)
                (temporary / "fs").chmod(0o755)  # whatever the umask: it is the root folder of containers
                with self.blobs.path(digest).open("rb") as source:
                    actual, _ = unpack(source, temporary / "fs")
                if actual != diff_id:
                    raise ImageCorrupt(
                        "A layer of the image is not what its configuration says.",
                        hint="The image must be pushed anew.",
                    )
                os.sync()
                os.rename(temporary, target)
            except OSError as error:
                raise (out_of_space() if disk_full(error) else error) from None
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
                self._home.forget_lock(f"layer-{target.name[:32]}")

    def adopt(self, manifest: bytes, reference: Reference, progress: Progress = no_progress) -> Image:
        """Unpack the layers of a manifest whose blobs are all here, then give it its reference."""
        parsed = json.loads(manifest)
        config = self.blobs.json(parsed["config"]["digest"])
        diff_ids = self.check_config(config, len(parsed["layers"]))
        for number, (layer, diff_id) in enumerate(zip(parsed["layers"], diff_ids, strict=True)):
            progress(Step("unpack", number, len(diff_ids)))
            self.ensure_layer(layer["digest"], diff_id)
        progress(Step("unpack", len(diff_ids), len(diff_ids)))
        id = self.blobs.put(manifest)
        self.tag(reference, id)
        self._cache.pop(id, None)
        return self.image(id)

    def pull(
        self,
        reference: str,
        *,
        credentials: Credentials | None = None,
        insecure: bool = False,
        progress: Progress = no_progress,
    ) -> Image:
        """See :meth:`runtime.api.Engine.pull`."""
        from runtime.image.pull import pull

        try:
            return pull(self, Reference.parse(reference), credentials=credentials, insecure=insecure, progress=progress)
        except ImageUnavailable:
            raise  # what has come so far is what the next try goes on from
        except RuntimeFault:
            self.gc()
            raise

    def load(
        self, archive: Path, *, reference: str | None = None, progress: Progress = no_progress
    ) -> tuple[Image, ...]:
        """See :meth:`runtime.api.Engine.load`."""
        from runtime.image.archive import load

        try:
            return load(self, archive, reference=reference, progress=progress)
        except RuntimeFault:
            self.gc()
            raise

    def commit(
        self, reference: Reference, layers: list[tuple[BinaryIO | str, str]], config: Mapping[str, Any], created: str
    ) -> Image:
        """Make an image: each layer is a plain tar stream, or the digest of a plain tar that is here, with what made it."""
        with self.adding():
            return self._commit(reference, layers, config, created)

    def _commit(
        self, reference: Reference, layers: list[tuple[BinaryIO | str, str]], config: Mapping[str, Any], created: str
    ) -> Image:
        rows, diff_ids, history = [], [], []
        for source, created_by in layers:
            if isinstance(source, str):
                digest, size = source, self.blobs.path(source).stat().st_size
            else:
                digest, size = self.blobs.copy_in(source)
            rows.append({"mediaType": LAYER, "digest": digest, "size": size})
            diff_ids.append(digest)
            history.append({"created": created, "created_by": created_by})
        body = {
            "created": created,
            "architecture": architecture(),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        }
        content = json.dumps(body, sort_keys=True).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": self.blobs.put(content), "size": len(content)},
            "layers": rows,
        }
        return self.adopt(json.dumps(manifest, sort_keys=True).encode(), reference)

    # removing --------------------------------------------------------------------------------------------

    def remove(self, text: str, *, in_use: Callable[[str], str | None]) -> None:
        """Drop a reference, or an id with all its references; then what only it held.  Raises NotFound, Conflict."""
        id = self.resolve(text)
        names = [name for name, target in self.references().items() if target == id]
        dropped = names if text == id else [name for name in names if name in _spellings(text)]
        if len(dropped) == len(names):
            user = in_use(id)
            if user is not None:
                raise Conflict("A container uses the image.", hint="Remove the container first.", container=user)

        def drop(table: dict[str, str]) -> None:
            for name in dropped:
                table.pop(name, None)

        self._change(drop)
        self._cache.clear()
        self.gc()

    def gc(self) -> tuple[str, ...]:
        """Remove content that no referenced image has; returns what went.

        Whoever adds an image holds :meth:`adding`; while somebody does, nothing is removed and the next call does it.
        """
        try:
            with self._home.lock(CONTENT_LOCK, timeout_s=1):
                return self._gc()
        except DeadlineExceeded:
            return ()

    def blob_lock(self, digest: str) -> AbstractContextManager[None]:
        """Two pulls of the same blob download it once."""
        return self._home.lock(f"blob-{self.blobs.path(digest).name[:32]}", timeout_s=1800)

    def adding(self) -> AbstractContextManager[None]:
        """Held while content is here that no reference names yet."""
        return self._home.lock(CONTENT_LOCK, timeout_s=60, shared=True)

    def _gc(self) -> tuple[str, ...]:
        keep: set[str] = set()
        for id in set(self.references().values()) | self._in_use():
            manifest = self.blobs.json(id)
            config = self.blobs.json(manifest["config"]["digest"])
            keep |= {id, manifest["config"]["digest"], *(row["digest"] for row in manifest["layers"])}
            keep |= set(config["rootfs"]["diff_ids"])
        gone = [digest for digest in self.blobs.digests() if digest not in keep]
        for part in self.blobs.ingest.glob("*.part"):
            part.unlink()
        for digest in gone:
            self.blobs.path(digest).unlink(missing_ok=True)
        for folder in list(self._layers.iterdir()):
            if f"sha256:{folder.name}" not in keep:
                shutil.rmtree(folder)
                gone.append(f"layer {folder.name}")
        return tuple(gone)


def _spellings(text: str) -> set[str]:
    return {str(Reference.parse(text, registry=BUILT_IN)), str(Reference.parse(text))}
