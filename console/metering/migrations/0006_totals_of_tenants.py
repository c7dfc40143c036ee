import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_sign_in_attempts'),
        ('metering', '0005_bills_are_whole'),
    ]

    operations = [
        migrations.CreateModel(
            name='TenantCgroup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('node', models.CharField(max_length=64)),
                ('boot_id', models.CharField(max_length=40)),
                ('inode', models.BigIntegerField()),
                ('version', models.PositiveSmallIntegerField()),
                ('read_at', models.DateTimeField()),
                ('boottime_ns', models.BigIntegerField()),
                ('value', models.BigIntegerField()),
                ('skew', models.BigIntegerField(default=0)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='accounts.tenant')),
            ],
        ),
        migrations.CreateModel(
            name='TenantHour',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('window', models.DateTimeField()),
                ('quantity', models.BigIntegerField(default=0)),
                ('uncertain', models.BigIntegerField(default=0)),
                ('watched', models.BooleanField(default=True)),
                ('read_at', models.DateTimeField()),
                ('cgroup', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='hours', to='metering.tenantcgroup')),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='accounts.tenant')),
            ],
        ),
        migrations.AddConstraint(
            model_name='tenantcgroup',
            constraint=models.UniqueConstraint(fields=('tenant', 'node', 'boot_id', 'inode'), name='one_life_a_cgroup'),
        ),
        migrations.AddIndex(
            model_name='tenanthour',
            index=models.Index(fields=['tenant', 'window'], name='metering_tenant_hour'),
        ),
        migrations.AddConstraint(
            model_name='tenanthour',
            constraint=models.UniqueConstraint(fields=('cgroup', 'window'), name='one_total_an_hour'),
        ),
    ]
