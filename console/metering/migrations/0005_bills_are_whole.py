from django.db import migrations, models
import django.db.models.deletion


class Migration(migrations.Migration):

    dependencies = [
        ('metering', '0004_fill_bills'),
    ]

    operations = [
        migrations.RemoveField(model_name='meterepoch', name='counted'),
        migrations.AlterField(
            model_name='meterepoch',
            name='generation',
            field=models.PositiveSmallIntegerField(default=2),
        ),
        migrations.AlterField(
            model_name='usagerecord',
            name='resource',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='records', to='metering.resource'),
        ),
        migrations.AlterField(
            model_name='usagerecord',
            name='billed_in',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='records', to='metering.period'),
        ),
        migrations.AlterField(
            model_name='usagerecord',
            name='tenant',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='accounts.tenant'),
        ),
        migrations.AlterField(
            model_name='reading',
            name='epoch',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='readings', to='metering.meterepoch'),
        ),
        migrations.AlterField(
            model_name='ratedline',
            name='run',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='lines', to='metering.ratingrun'),
        ),
    ]
