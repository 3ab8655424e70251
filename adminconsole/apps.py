"""Django's registration of the console."""

from django.apps import AppConfig


class AdminConsoleConfig(AppConfig):
    """The console has no models: everything it shows lives in the store or in the coordinator."""

    name = "adminconsole"
    verbose_name = "Console"
