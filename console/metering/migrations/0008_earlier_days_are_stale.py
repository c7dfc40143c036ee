"""The records that are there already get their sums by the schedule, as new ones do."""

from django.db import migrations
from django.db.models.functions import TruncDay
import datetime as dt


def mark(apps, schema_editor):
    record, stale = apps.get_model('metering', 'UsageRecord'), apps.get_model('metering', 'StaleDay')
    days = record.objects.annotate(day=TruncDay('window', tzinfo=dt.UTC)).values_list('tenant_id', 'day').distinct().order_by()
    stale.objects.bulk_create([stale(tenant_id=tenant, day=day) for tenant, day in days], ignore_conflicts=True)


class Migration(migrations.Migration):

    dependencies = [
        ('metering', '0007_sums_by_the_day'),
    ]

    operations = [migrations.RunPython(mark, migrations.RunPython.noop)]
