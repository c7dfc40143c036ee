import console.metering.models.decimals
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_metrics_tokens'),
        ('metering', '0010_summaries'),
    ]

    operations = [
        migrations.CreateModel(
            name='Budget',
            fields=[
                ('tenant', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, serialize=False, to='accounts.tenant')),
                ('amount', console.metering.models.decimals.ExactDecimalField(max_length=96)),
                ('actual', models.JSONField(default=list)),
                ('forecast', models.JSONField(default=list)),
                ('stop_launches', models.BooleanField(default=False)),
                ('webhook_url', models.CharField(blank=True, max_length=500)),
                ('webhook_inside', models.BooleanField(default=False)),
                ('secret_encrypted', models.BinaryField(default=b'')),
                ('spent', console.metering.models.decimals.ExactDecimalField(default='0', max_length=96)),
                ('expected', console.metering.models.decimals.ExactDecimalField(default='0', max_length=96)),
                ('checked_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='BudgetAlert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.DateTimeField()),
                ('basis', models.CharField(choices=[('actual', 'actual'), ('forecast', 'forecast')], max_length=8)),
                ('percent', models.PositiveIntegerField()),
                ('budget', console.metering.models.decimals.ExactDecimalField(max_length=96)),
                ('amount', console.metering.models.decimals.ExactDecimalField(max_length=96)),
                ('currency', models.CharField(max_length=3)),
                ('at', models.DateTimeField()),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='accounts.tenant')),
            ],
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('body', models.TextField()),
                ('state', models.CharField(choices=[('waiting', 'waiting'), ('delivered', 'delivered'), ('given_up', 'given up')], default='waiting', max_length=10)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('due_at', models.DateTimeField()),
                ('error', models.CharField(blank=True, max_length=200)),
                ('delivered_at', models.DateTimeField(null=True)),
                ('alert', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='delivery', to='metering.budgetalert')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='accounts.tenant')),
            ],
        ),
        migrations.AddConstraint(
            model_name='budgetalert',
            constraint=models.UniqueConstraint(fields=('tenant', 'month', 'basis', 'percent'), name='one_alert_a_threshold'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(fields=['state', 'due_at'], name='metering_delivery_due'),
        ),
    ]
