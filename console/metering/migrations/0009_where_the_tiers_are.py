from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_metrics_tokens'),
        ('metering', '0008_earlier_days_are_stale'),
    ]

    operations = [
        migrations.AddField(
            model_name='ratingrun',
            name='reached',
            field=models.JSONField(default=dict),
        ),
        migrations.AddIndex(
            model_name='costday',
            index=models.Index(fields=['resource', 'day'], name='metering_cost_of_resource'),
        ),
    ]
