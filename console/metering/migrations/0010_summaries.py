from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('metering', '0009_where_the_tiers_are'),
    ]

    operations = [
        migrations.AddField(
            model_name='ratingrun',
            name='summary',
            field=models.JSONField(default=list),
        ),
    ]
