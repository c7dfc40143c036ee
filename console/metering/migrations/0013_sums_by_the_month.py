import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_metrics_tokens'),
        ('metering', '0012_periods_know_their_creation'),
    ]

    operations = [
        migrations.CreateModel(
            name='CostMonth',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.DateTimeField()),
                ('meter', models.CharField(choices=[('cpu', 'cpu (ns)'), ('block_read', 'block read (bytes)'), ('block_write', 'block write (bytes)'), ('net_rx', 'network received by the container (bytes)'), ('net_tx', 'network sent by the container (bytes)'), ('memory_limit', 'memory limit over time (KiB-microseconds)'), ('memory_used', 'memory used over time (KiB-microseconds), integrated from samples'), ('cpu_limit', 'vCPU limit over time (milli-vCPU-microseconds)'), ('published_port', 'published ports over time (port-microseconds)'), ('volume_size', 'volume size over time (KiB-microseconds)')], max_length=16)),
                ('nanos', models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name='UsageMonth',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.DateTimeField()),
                ('meter', models.CharField(choices=[('cpu', 'cpu (ns)'), ('block_read', 'block read (bytes)'), ('block_write', 'block write (bytes)'), ('net_rx', 'network received by the container (bytes)'), ('net_tx', 'network sent by the container (bytes)'), ('memory_limit', 'memory limit over time (KiB-microseconds)'), ('memory_used', 'memory used over time (KiB-microseconds), integrated from samples'), ('cpu_limit', 'vCPU limit over time (milli-vCPU-microseconds)'), ('published_port', 'published ports over time (port-microseconds)'), ('volume_size', 'volume size over time (KiB-microseconds)')], max_length=16)),
                ('whole', models.BigIntegerField()),
                ('rest', models.BigIntegerField()),
            ],
        ),
        migrations.RemoveIndex(
            model_name='costday',
            name='metering_cost_of_tenant',
        ),
        migrations.RemoveIndex(
            model_name='costday',
            name='metering_cost_day',
        ),
        migrations.AlterField(
            model_name='costday',
            name='run',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='days', to='metering.ratingrun'),
        ),
        migrations.AddIndex(
            model_name='costday',
            index=models.Index(fields=['run', 'day'], name='metering_cost_day_of_run'),
        ),
        migrations.AddField(
            model_name='costmonth',
            name='resource',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.resource'),
        ),
        migrations.AddField(
            model_name='costmonth',
            name='run',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='months', to='metering.ratingrun'),
        ),
        migrations.AddField(
            model_name='costmonth',
            name='tenant',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='accounts.tenant'),
        ),
        migrations.AddField(
            model_name='usagemonth',
            name='resource',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.resource'),
        ),
        migrations.AddField(
            model_name='usagemonth',
            name='tenant',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='accounts.tenant'),
        ),
        migrations.AddIndex(
            model_name='costmonth',
            index=models.Index(fields=['run', 'month'], name='metering_cost_month'),
        ),
        migrations.AddIndex(
            model_name='usagemonth',
            index=models.Index(fields=['meter', 'month'], name='metering_usage_month'),
        ),
        migrations.AddConstraint(
            model_name='usagemonth',
            constraint=models.UniqueConstraint(fields=('tenant', 'meter', 'month', 'resource'), name='one_sum_a_month'),
        ),
    ]
