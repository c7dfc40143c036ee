"""Containers from before networks had rows are on their tenant's ``default``, where they always were."""

from __future__ import annotations

from typing import Any

from django.db import migrations


def put_on_default(apps: Any, _schema: Any) -> None:
    Container, Network, Attachment = (apps.get_model("workloads", name) for name in ("Container", "Network", "Attachment"))
    for container in Container.objects.filter(removed_at=None, attachments=None).iterator():
        network, _made = Network.objects.get_or_create(
            tenant_id=container.tenant_id, name="default", removed_at=None, defaults={"node": container.node, "state": "ready"}
        )
        Attachment.objects.create(container=container, network=network, address=container.address)


class Migration(migrations.Migration):
    dependencies = [("workloads", "0003_volumes_networks_and_options")]

    operations = [migrations.RunPython(put_on_default, migrations.RunPython.noop)]
