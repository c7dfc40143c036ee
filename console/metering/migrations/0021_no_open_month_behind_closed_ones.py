"""A month that was opened when later ones were closed already: what is in it goes on into the month that is open, as it does since."""

from django.db import migrations
from django.db.models import Exists, OuterRef

from console.metering.months import month_of


def move(apps, schema_editor):
    periods = apps.get_model('metering', 'Period')
    closed = periods.objects.filter(tenant=OuterRef('tenant'), starts_at__gt=OuterRef('starts_at'), state='closed')
    for behind in periods.objects.exclude(state='closed').filter(Exists(closed)).order_by('tenant', 'starts_at'):
        into = next_open(periods, behind.tenant_id)
        apps.get_model('metering', 'UsageRecord').objects.filter(billed_in=behind).update(billed_in=into)
        apps.get_model('metering', 'Credit').objects.filter(period=behind).update(period=into)
        behind.run = None
        behind.save(update_fields=['run'])
        behind.delete()


def next_open(periods, tenant):
    """Behind all that are closed, and one that is being closed."""
    end = periods.objects.filter(tenant=tenant, state='closed').latest('starts_at').ends_at
    while True:
        start, end = month_of(end)
        found, _ = periods.objects.get_or_create(tenant_id=tenant, starts_at=start, defaults={'ends_at': end})
        if found.state == 'open':
            return found


class Migration(migrations.Migration):

    dependencies = [
        ('metering', '0020_budgets_told_by_amount'),
    ]

    operations = [migrations.RunPython(move, migrations.RunPython.noop)]
