"""Days that have a sum get one of their month with it, by the schedule."""

from django.db import migrations


def mark(apps, schema_editor):
    summed, stale = apps.get_model('metering', 'UsageDay'), apps.get_model('metering', 'StaleDay')
    days = summed.objects.values_list('tenant_id', 'day').distinct().order_by()
    stale.objects.bulk_create([stale(tenant_id=tenant, day=day) for tenant, day in days], ignore_conflicts=True)


class Migration(migrations.Migration):

    dependencies = [
        ('metering', '0013_sums_by_the_month'),
    ]

    operations = [migrations.RunPython(mark, migrations.RunPython.noop)]
