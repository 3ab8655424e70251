"""Django's description of the app."""

from django.apps import AppConfig


class MailConfig(AppConfig):
    """Webmail; it has no models: its rows are described in `mail.schema`."""

    name = "mail"
