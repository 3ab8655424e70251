"""The forms of accounts. Django's auth forms do what they can; the names and the store are ours."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, SetPasswordMixin

from penncloud_site.accounts import names
from penncloud_site.accounts.models import LONGEST_DISPLAY_NAME, PasswordChanged, User, UsernameTaken

TAKEN = "This user name is taken. Please choose another."


def _dress(form: forms.BaseForm) -> None:
    """Tabler's classes on the fields, and what a screen reader needs to find an error."""
    for name, field in form.fields.items():
        widget = field.widget
        widget.attrs["class"] = "form-control"
        if form.is_bound and name in form.errors:
            widget.attrs["class"] += " is-invalid"


class LogInForm(AuthenticationForm):
    """User name and password."""

    error_messages = AuthenticationForm.error_messages | {
        "invalid_login": "There is no account with this user name and password. Capitals count in the password."
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "User name"
        self.fields["username"].widget.attrs.update({"autocapitalize": "none", "spellcheck": "false"})
        _dress(self)

    def clean_username(self) -> str:
        return names.normalized(self.cleaned_data["username"])


class SignUpForm(SetPasswordMixin, forms.Form):
    """A new account. `save` returns it, or None after it put the error "taken" on the form."""

    username = forms.CharField(
        label="User name",
        max_length=names.LONGEST,
        help_text="Lower-case letters, digits, dots, hyphens and underscores. It is also your mail address.",
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false", "autofocus": True}
        ),
    )
    display_name = forms.CharField(
        label="Your name",
        max_length=LONGEST_DISPLAY_NAME,
        help_text="As others see it on your messages.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    password1, password2 = SetPasswordMixin.create_password_fields(label1="Password", label2="Password again")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].help_text = "At least 10 characters. A few words you will remember do well."
        self.fields["password2"].help_text = ""
        _dress(self)

    def clean_username(self) -> str:
        """The name as it will be stored. Whether it is taken is only decided by the store, in `save`."""
        name = names.checked(self.cleaned_data["username"])
        if User.objects.exists(name):
            raise forms.ValidationError(TAKEN, code="taken")
        return name

    def clean_display_name(self) -> str:
        return names.checked_display_name(self.cleaned_data["display_name"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        self.validate_passwords()
        user = User(username=cleaned.get("username", ""), display_name=cleaned.get("display_name", ""))
        self.validate_password_for_user(user, "password1")
        return cleaned

    def save(self) -> User | None:
        data = self.cleaned_data
        try:
            return User.objects.create_user(data["username"], data["password1"], data["display_name"])
        except UsernameTaken:
            # Somebody else signed up under this name while the form was checked.
            self.add_error("username", forms.ValidationError(TAKEN, code="taken"))
            _dress(self)
            return None


class ChangePasswordForm(PasswordChangeForm):
    """The old password and a new one, twice. `save` returns None after it put an error on the form."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].help_text = "At least 10 characters. A few words you will remember do well."
        self.fields["new_password2"].label = "New password again"
        self.fields["new_password2"].help_text = ""
        _dress(self)

    def save(self, commit: bool = True) -> User | None:
        self.user.set_password(self.cleaned_data["new_password1"])
        try:
            self.user.save(update_fields=["password"])
        except PasswordChanged:
            self.add_error(
                None, "Your password was changed somewhere else a moment ago. Log in with the new one and try again."
            )
            return None
        return self.user


class ProfileForm(forms.Form):
    """The name others see."""

    display_name = forms.CharField(
        label="Your name",
        max_length=LONGEST_DISPLAY_NAME,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _dress(self)

    def clean_display_name(self) -> str:
        return names.checked_display_name(self.cleaned_data["display_name"])
