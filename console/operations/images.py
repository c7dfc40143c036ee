"""Getting the image that a launch needs, and the right to use it.

The node's store shares content between tenants; the right is a row.  Built-in images are everybody's; an image of a registry is a
tenant's once the registry has given it to this tenant's own request.
"""

from __future__ import annotations

from dataclasses import asdict

from django.conf import settings

from console.accounts.models import Tenant
from console.catalog.models import Registry
from console.core import secrets
from console.workloads.models import Image as ImageRow
from runtime.api import Credentials, Engine, Image, Progress
from runtime.image.recipe import find
from runtime.image.reference import Reference


def built_in(engine: Engine, slug: str, progress: Progress) -> Image:
    """Built when it is not there yet.  Raises what building raises."""
    image = engine.build(slug, progress=progress)
    record(None, str(find(slug).reference), image)
    return image


def pulled(
    engine: Engine, tenant: Tenant | None, reference: str, registry: Registry | None, progress: Progress
) -> Image:
    """Asks the registry each time: its yes to this tenant is what makes the image the tenant's.

    Only a registry that the node's admin chose (the default one, everybody's, one that an admin added) may lie on the node.
    """
    credentials = None
    if registry is not None and registry.username:
        credentials = Credentials(registry.username, secrets.decrypt(bytes(registry.password_encrypted)))
    if registry is None:
        trusted = Reference.parse(reference).registry == settings.DEFAULT_REGISTRY
    else:
        trusted = registry.trusted or registry.tenant_id is None
    image = engine.pull(
        reference,
        credentials=credentials,
        insecure=bool(registry and registry.insecure),
        confined=not trusted,
        progress=progress,
    )
    record(tenant, reference, image)
    return image


def record(tenant: Tenant | None, reference: str, image: Image) -> ImageRow:
    known = ImageRow.objects.filter(tenant=tenant, node=settings.NODE, reference=reference, digest=image.id).first()
    if known is not None:
        return known
    row, _ = ImageRow.objects.update_or_create(
        tenant=tenant,
        node=settings.NODE,
        reference=reference,
        defaults={
            "digest": image.id,
            "architecture": image.architecture,
            "size": image.size,
            "layers": [asdict(layer) for layer in image.layers],
            "config": dict(image.config),
        },
    )
    return row
