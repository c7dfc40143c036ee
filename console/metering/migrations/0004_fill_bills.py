"""Earlier records learn what they are of and which period bills them; open epochs go on from their marks."""

import datetime as dt
import hashlib
import json

from django.db import migrations

COUNTERS = ("cpu", "block_read", "block_write", "net_rx", "net_tx")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def microseconds(at):
    return (at - EPOCH) // dt.timedelta(microseconds=1)


def month_of(at):
    start = at.astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return start, (start + dt.timedelta(days=32)).replace(day=1)


def describe(apps, _editor):
    Container = apps.get_model("workloads", "Container")
    Resource = apps.get_model("metering", "Resource")
    UsageRecord = apps.get_model("metering", "UsageRecord")
    metered = UsageRecord.objects.filter(resource=None).values("epoch__container")
    for container in Container.objects.select_related("tenant").filter(pk__in=metered):
        tenant = container.tenant
        said = [tenant.pk, tenant.slug, tenant.name, "container", container.pk, container.name,
                container.image_reference, container.node]
        resource, _ = Resource.objects.get_or_create(
            id=hashlib.sha256(json.dumps(said).encode()).hexdigest(),
            defaults={
                "tenant": tenant, "tenant_slug": tenant.slug, "tenant_name": tenant.name, "kind": "container",
                "identity": container.pk, "name": container.name, "image": container.image_reference, "node": container.node,
            },
        )
        UsageRecord.objects.filter(epoch__container=container, resource=None).update(resource=resource)


def place(apps, _editor):
    Period = apps.get_model("metering", "Period")
    UsageRecord = apps.get_model("metering", "UsageRecord")
    while (record := UsageRecord.objects.filter(billed_in=None).order_by("window").first()) is not None:
        start, end = month_of(record.window)
        period, _ = Period.objects.get_or_create(tenant_id=record.tenant_id, starts_at=start, defaults={"ends_at": end})
        UsageRecord.objects.filter(tenant_id=record.tenant_id, window__gte=start, window__lt=end).update(billed_in=period)


def mark(apps, _editor):
    MeterEpoch = apps.get_model("metering", "MeterEpoch")
    for epoch in MeterEpoch.objects.filter(ended_at=None, read_at__isnull=False, read_boottime_ns__isnull=False):
        at, ns = microseconds(epoch.read_at), epoch.read_boottime_ns
        counted = epoch.counted
        epoch.marks = {meter: [counted.get(meter, 0), at, ns, epoch.sequence] for meter in (*COUNTERS, "cpu_limit", "memory_limit")
                       if meter in counted or meter.endswith("_limit")}
        gauge = counted.get("memory_used")
        if gauge is not None:
            epoch.marks["memory_used"] = [0, at, ns, epoch.sequence]
        epoch.latest = {
            "at": at, "ns": ns, "values": {meter: counted.get(meter) for meter in COUNTERS}, "gauge": gauge, "stored": True,
            "known": [gauge or 0, ns], "integral": 0,
        }
        epoch.save(update_fields=["marks", "latest"])


def back(apps, _editor):
    """Nothing to undo: the columns go with the migration before."""


class Migration(migrations.Migration):

    dependencies = [
        ('metering', '0003_bills'),
    ]

    operations = [
        migrations.RunPython(describe, back),
        migrations.RunPython(place, back),
        migrations.RunPython(mark, back),
    ]
