from django.apps import AppConfig


class MeteringConfig(AppConfig):
    name = "console.metering"
    label = "metering"
