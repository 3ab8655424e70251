"""`manage.py createoperator <username>`: makes sure that there is an account that may use the console."""

from __future__ import annotations

import json
import secrets
import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from kvstore.errors import StoreError
from penncloud_site.accounts.models import User

RANDOM_BYTES = 12  # 16 characters, 96 bits


class Command(BaseCommand):
    """Idempotent: an account that exists becomes an operator's and keeps its password."""

    help = (
        "Make an operator's account. The password is the first line of standard input, or made at random. "
        "If the account exists already, it becomes an operator's and keeps its password."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012  (declared so by Django)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--random", action="store_true", help="make a password at random and print it")
        parser.add_argument(
            "--json", action="store_true", help='print {"username", "created", "password"}; the last only if random'
        )

    def handle(self, *args: Any, **options: Any) -> None:
        made = secrets.token_urlsafe(RANDOM_BYTES) if options["random"] else None
        password = made or self._given()
        username = options["username"]
        try:
            created = User.objects.create_operator(username, password)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        except StoreError as error:
            raise CommandError(f"The store did not answer: {error}") from error
        shown = made if created else None
        if options["json"]:
            self.stdout.write(json.dumps({"username": username, "created": created, "password": shown}))
        elif created:
            self.stdout.write(f"Operator {username} is made." + (f" Password: {shown}" if shown else ""))
        else:
            self.stdout.write(f"The account {username} exists already; it is an operator's, its password is as before.")

    def _given(self) -> str:
        password = sys.stdin.readline().rstrip("\n")
        try:
            validate_password(password)
        except ValidationError as error:
            raise CommandError("The password on standard input is refused. " + " ".join(error.messages)) from error
        return password
