"""The account of a person: a Django user model whose rows are in the store.

It promises: a user name is given to one account, ever; saving writes only the columns that changed; a password is
replaced only if it is still the one that was read. It relies on `names` for keys that cannot collide. It is not a
Django table: there are no migrations, no queries and no permissions.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth import hashers
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models

from kvstore.client import Batch, Cell
from kvstore.errors import RequirementFailed
from penncloud_site.accounts import names, schema
from penncloud_site.storage import store

LONGEST_DISPLAY_NAME = 80  # characters


class UsernameTaken(Exception):
    """Another account has this user name; nothing was written."""


class PasswordChanged(Exception):
    """The password was changed by somebody else since the account was read; nothing was written."""


class UserManager(BaseUserManager["User"]):
    """Finds and makes accounts. Its methods raise the store's errors; none returns less because the store failed."""

    def get(self, username: str | None = None, pk: str | None = None) -> User:
        """The account of that name, or `User.DoesNotExist`."""
        name = names.normalized(username if username is not None else pk or "")
        if not names.is_well_formed(name):
            raise User.DoesNotExist(f"no account {name!r}")
        # The columns from `session:` on list the sessions; they sort behind all others and are not needed here.
        cells = store().get_row(schema.user_row(name), end=schema.SESSION_COLUMNS)
        if schema.PASSWORD not in cells:
            raise User.DoesNotExist(f"no account {name!r}")
        return _from_cells(name, cells)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(username=username or "")

    def exists(self, username: str) -> bool:
        """Whether there is an account of that name: one small read, for checking a mail's recipients."""
        name = names.normalized(username)
        return names.is_well_formed(name) and store().get(schema.user_row(name), schema.PASSWORD) is not None

    def create_user(self, username: str, password: str, display_name: str = "") -> User:
        """A new account. `ValidationError` for a bad name, `UsernameTaken` if there is one already."""
        user = User(username=names.checked(username), display_name=display_name.strip() or names.normalized(username))
        user.set_password(password)
        user.save(force_insert=True)
        return user

    def create_operator(self, username: str, password: str) -> bool:
        """Make sure that the account exists and is an operator's.

        True: made just now with this password. False: it existed, and keeps its password.
        """
        name = names.checked(username, role=True)
        user = User(username=name, display_name=name, is_operator=True)
        user.set_password(password)
        try:
            user.save(force_insert=True)
        except UsernameTaken:
            store().put(schema.user_row(name), schema.OPERATOR, b"1")
            return False
        return True


class User(AbstractBaseUser):
    """One account. `save()` writes the named columns, and all of them if none are named."""

    username = models.CharField(max_length=names.LONGEST, primary_key=True)
    display_name = models.CharField(max_length=LONGEST_DISPLAY_NAME)
    created = models.FloatField(default=time.time)
    is_active = models.BooleanField(default=True)
    is_operator = models.BooleanField(default=False)

    objects = UserManager()

    USERNAME_FIELD = "username"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["display_name"]

    stored_password: bytes | None = None  # the hash as it was read: what `save` requires to be there still

    class Meta:
        managed = False
        default_permissions = ()

    def __str__(self) -> str:
        return self.username

    @property
    def address(self) -> str:
        """This user's mail address."""
        return f"{self.username}@{settings.PENNCLOUD['DOMAIN']}"

    @property
    def joined(self) -> datetime:
        """When the account was made."""
        return datetime.fromtimestamp(self.created, UTC)

    def get_full_name(self) -> str:
        return self.display_name or self.username

    def get_short_name(self) -> str:
        return self.get_full_name().split()[0]

    def check_password(self, raw_password: str | None) -> bool:
        """Whether this is the password; re-hashes it when the hasher's settings have changed."""

        def upgrade(password: str) -> None:
            self.set_password(password)
            self._password = None
            # Changed since we read the account: that newer password stays. Writing ours would bring the old back.
            with contextlib.suppress(PasswordChanged):
                self.save(update_fields=[schema.PASSWORD])

        return hashers.check_password(raw_password, self.password, upgrade)

    def save(
        self,
        force_insert: bool | tuple[Any, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Write the account, or only `update_fields` of it.

        `force_insert`: the account must not exist (`UsernameTaken`). Otherwise a password that is written must
        replace the one this object was read with (`PasswordChanged`): an old object never brings an old one back.
        """
        row = schema.user_row(self.username)
        batch = Batch()
        columns = _columns_of(update_fields)
        if force_insert:
            batch.require(row, schema.PASSWORD, None)
        elif schema.PASSWORD in columns:
            batch.require(row, schema.PASSWORD, self.stored_password)
        for column in columns:
            value = self._cell(column)
            if value is not None:
                batch.put(row, column, value)
            elif not force_insert:
                batch.delete(row, column)
        try:
            store().apply(batch)
        except RequirementFailed as error:
            if force_insert:
                raise UsernameTaken(self.username) from error
            raise PasswordChanged(self.username) from error
        if schema.PASSWORD in columns:
            self.stored_password = self.password.encode()
        self._state.adding = False

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Remove the account's row. What the user's mail and files are is not this module's business."""
        store().delete_row(schema.user_row(self.username))
        return 1, {self._meta.label: 1}

    def _cell(self, column: str) -> bytes | None:
        """The value to store in `column`; None: there is to be no such cell."""
        if column == schema.PASSWORD:
            return self.password.encode()
        if column == schema.OPERATOR:
            return b"1" if self.is_operator else None
        if column == schema.LAST_LOGIN:
            return self.last_login.isoformat().encode() if self.last_login else None
        profile = {"display_name": self.display_name, "created": self.created, "active": self.is_active}
        return json.dumps(profile, ensure_ascii=False).encode()


def _columns_of(fields: Iterable[str] | None) -> list[str]:
    """The columns that hold these fields; None means all fields."""
    if fields is None:
        return [schema.PASSWORD, schema.PROFILE, schema.OPERATOR, schema.LAST_LOGIN]
    column_of = {"password": schema.PASSWORD, "is_operator": schema.OPERATOR, "last_login": schema.LAST_LOGIN}
    return list(dict.fromkeys(column_of.get(field, schema.PROFILE) for field in fields))


def _from_cells(username: str, cells: dict[str, Cell]) -> User:
    """The account that these cells of its row describe."""
    profile = json.loads(cells[schema.PROFILE].value) if schema.PROFILE in cells else {}
    last_login = cells.get(schema.LAST_LOGIN)
    user = User(
        username=username,
        password=cells[schema.PASSWORD].value.decode(),
        display_name=profile.get("display_name", username),
        created=profile.get("created", 0.0),
        is_active=profile.get("active", True),
        is_operator=schema.OPERATOR in cells,
        last_login=datetime.fromisoformat(last_login.value.decode()) if last_login else None,
    )
    user.stored_password = cells[schema.PASSWORD].value
    user._state.adding = False
    return user
