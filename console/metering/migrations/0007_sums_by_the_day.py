import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_sign_in_attempts'),
        ('metering', '0006_totals_of_tenants'),
    ]

    operations = [
        migrations.AddField(
            model_name='ratingrun',
            name='numbers',
            field=models.JSONField(default=dict),
        ),
        migrations.CreateModel(
            name='CostDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateTimeField()),
                ('meter', models.CharField(choices=[('cpu', 'cpu (ns)'), ('block_read', 'block read (bytes)'), ('block_write', 'block write (bytes)'), ('net_rx', 'network received by the container (bytes)'), ('net_tx', 'network sent by the container (bytes)'), ('memory_limit', 'memory limit over time (KiB-microseconds)'), ('memory_used', 'memory used over time (KiB-microseconds), integrated from samples'), ('cpu_limit', 'vCPU limit over time (milli-vCPU-microseconds)'), ('published_port', 'published ports over time (port-microseconds)'), ('volume_size', 'volume size over time (KiB-microseconds)')], max_length=16)),
                ('whole', models.BigIntegerField()),
                ('rest', models.BigIntegerField()),
                ('nanos', models.BigIntegerField()),
                ('resource', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.resource')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='days', to='metering.ratingrun')),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='accounts.tenant')),
            ],
            options={
                'indexes': [models.Index(fields=['tenant', 'day'], name='metering_cost_of_tenant'), models.Index(fields=['day'], name='metering_cost_day')],
            },
        ),
        migrations.CreateModel(
            name='StaleDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateTimeField()),
                ('marks', models.PositiveIntegerField(default=1)),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='accounts.tenant')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('tenant', 'day'), name='one_mark_a_day')],
            },
        ),
        migrations.CreateModel(
            name='UsageDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateTimeField()),
                ('meter', models.CharField(choices=[('cpu', 'cpu (ns)'), ('block_read', 'block read (bytes)'), ('block_write', 'block write (bytes)'), ('net_rx', 'network received by the container (bytes)'), ('net_tx', 'network sent by the container (bytes)'), ('memory_limit', 'memory limit over time (KiB-microseconds)'), ('memory_used', 'memory used over time (KiB-microseconds), integrated from samples'), ('cpu_limit', 'vCPU limit over time (milli-vCPU-microseconds)'), ('published_port', 'published ports over time (port-microseconds)'), ('volume_size', 'volume size over time (KiB-microseconds)')], max_length=16)),
                ('whole', models.BigIntegerField()),
                ('rest', models.BigIntegerField()),
                ('resource', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='metering.resource')),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='accounts.tenant')),
            ],
            options={
                'indexes': [models.Index(fields=['meter', 'day'], name='metering_usage_day')],
                'constraints': [models.UniqueConstraint(fields=('tenant', 'meter', 'day', 'resource'), name='one_sum_a_day')],
            },
        ),
    ]
