"""Django's settings for PennCloud. There is no SQL database: accounts, sessions and cache live in the store.

Everything that differs between installations comes from environment variables, all of them read here:

| variable | default | meaning |
| --- | --- | --- |
| PENNCLOUD_DATA_DIR | `var` | the folder of this machine's cluster; other defaults are inside it |
| PENNCLOUD_COORDINATORS | `127.0.0.1:7400` | addresses of the coordinators, separated by commas |
| PENNCLOUD_KEY_FILE | `<data dir>/cluster.key` | the key that every member and client of the store must hold |
| PENNCLOUD_STORE_TIMEOUT | `10` | seconds within which the store must answer one call, retries included |
| PENNCLOUD_SECRET_KEY_FILE | `<data dir>/secret.key` | signs cookies and forms; the same on every front end |
| PENNCLOUD_DOMAIN | `penncloud.localhost` | the part behind the `@` of this installation's mail addresses |
| PENNCLOUD_MAX_FILE_SIZE | `5368709120` | bytes; the largest file that may be uploaded |
| PENNCLOUD_BIND | none | the address that the load balancer listens on; `manage.py cluster` sets it |
| PENNCLOUD_ALLOWED_HOSTS | this machine's names and address | names by which the site may be asked for, separated by commas |
| PENNCLOUD_BALANCER_STATUS | none | address of the load balancer's status, which the console shows: `http://127.0.0.1:…/` |
| PENNCLOUD_TRUSTED_PROXIES | `127.0.0.1,::1` | addresses whose X-Forwarded-* headers are believed: the load balancer |
| PENNCLOUD_CSRF_TRUSTED_ORIGINS | none | origins such as `https://cloud.example.org` in front of another proxy |
| PENNCLOUD_HTTPS | `0` | 1 when the site is only reached by https: cookies get Secure, HSTS is sent |
| PENNCLOUD_STATIC_ROOT | none | folder made by `collectstatic`; unset: static files are served in place, unhashed |
| PENNCLOUD_LOGIN_FAILURES | `10` | wrong passwords for one user name from one address before it is locked out |
| PENNCLOUD_LOGIN_COOLOFF | `15` | minutes that such a lock-out lasts |
| PENNCLOUD_LOG_LEVEL | `INFO` | what goes to standard error: DEBUG, INFO, WARNING, ERROR |
| PENNCLOUD_DEBUG | `0` | 1 shows tracebacks in the browser: for development alone |
"""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from penncloud_site import environment

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = environment.path("PENNCLOUD_DATA_DIR", BASE_DIR / "var")

PENNCLOUD = {
    "DATA_DIR": DATA_DIR,
    "COORDINATORS": environment.text("PENNCLOUD_COORDINATORS", "127.0.0.1:7400"),
    "KEY_FILE": str(environment.path("PENNCLOUD_KEY_FILE", DATA_DIR / "cluster.key")),
    "STORE_TIMEOUT": environment.number("PENNCLOUD_STORE_TIMEOUT", 10.0, 0.1, 300.0),
    "DOMAIN": environment.text("PENNCLOUD_DOMAIN", "penncloud.localhost").lower(),
    "MAX_FILE_SIZE": int(environment.number("PENNCLOUD_MAX_FILE_SIZE", 5 * 2**30, 1, 2**50)),
    "BALANCER_STATUS": environment.text("PENNCLOUD_BALANCER_STATUS", ""),
    "TRUSTED_PROXIES": environment.words("PENNCLOUD_TRUSTED_PROXIES", ["127.0.0.1", "::1"]),
}

# --- What is secret -------------------------------------------------------------------------------------------------

SECRET_KEY_FILE = environment.path("PENNCLOUD_SECRET_KEY_FILE", DATA_DIR / "secret.key")


def _secret_key() -> str:
    """The key all front ends share, or "" when its file does not exist.

    Storage nodes and the coordinator run without one. Django refuses to use an empty key, and
    :mod:`penncloud_site.wsgi` refuses to start with it, naming the file.
    """
    try:
        key = SECRET_KEY_FILE.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"PENNCLOUD_SECRET_KEY_FILE {SECRET_KEY_FILE} cannot be read: {error}.") from error
    if len(key) < 32:
        raise ImproperlyConfigured(f"PENNCLOUD_SECRET_KEY_FILE {SECRET_KEY_FILE} holds fewer than 32 characters.")
    return key


SECRET_KEY = _secret_key()
DEBUG = environment.flag("PENNCLOUD_DEBUG", False)

# --- What the site is made of ---------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "penncloud_site",
    "penncloud_site.accounts",
    "mail",
    "drive",
    "adminconsole",
    "django.contrib.auth",
    "django.contrib.contenttypes",  # contrib.auth's models refer to it; no query is ever made
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "penncloud_site.static_files.SiteStaticFiles",
    "django_htmx",
    "axes",
    "csp",
]

MIDDLEWARE = [
    "penncloud_site.middleware.ForwardedMiddleware",  # first: all that follow see the visitor's own address and scheme
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "penncloud_site.middleware.PageCompressionMiddleware",
    "csp.middleware.CSPMiddleware",
    "penncloud_site.middleware.StoreFailureMiddleware",
    "penncloud_site.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "penncloud_site.middleware.PrivateMiddleware",
    "axes.middleware.AxesMiddleware",  # last, as its documentation asks
]

ROOT_URLCONF = "penncloud_site.urls"
WSGI_APPLICATION = "penncloud_site.wsgi.application"
CSRF_FAILURE_VIEW = "penncloud_site.error_pages.csrf_failure"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "penncloud_site.context_processors.shell",
            ],
        },
    },
]

# --- What it keeps, and where ---------------------------------------------------------------------------------------

DATABASES: dict[str, dict[str, str]] = {}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {"default": {"BACKEND": "penncloud_site.cache.StoreCache"}}
SESSION_ENGINE = "penncloud_site.sessions"
SESSION_COOKIE_AGE = 14 * 24 * 3600  # seconds; renewed when half of it is over
# In a signed cookie: a message shown once is not worth a write to the session, and parallel requests cannot lose it.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"

# --- Accounts -------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "penncloud_site.accounts.backends.StoreBackend"]
PASSWORD_HASHERS = ["penncloud_site.accounts.hashers.PooledArgon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
     "OPTIONS": {"user_attributes": ["username", "display_name"]}},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]  # fmt: skip
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "accounts:login"

AXES_HANDLER = "axes.handlers.cache.AxesCacheHandler"
AXES_FAILURE_LIMIT = int(environment.number("PENNCLOUD_LOGIN_FAILURES", 10, 1, 10_000))
AXES_COOLOFF_TIME = timedelta(minutes=environment.number("PENNCLOUD_LOGIN_COOLOFF", 15, 0.01, 100_000))
# The pair: a whole team behind one address is not locked out by one member, nor a member by a stranger elsewhere.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_CLIENT_IP_CALLABLE = "penncloud_site.middleware.client_address"
AXES_LOCKOUT_CALLABLE = "penncloud_site.error_pages.locked_out"
AXES_USERNAME_CALLABLE = "penncloud_site.accounts.names.attempted"
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_VERBOSE = False

# --- Who may ask, and how -------------------------------------------------------------------------------------------

_HOST_NAMES = {name.lower() for name in (socket.gethostname(), socket.getfqdn()) if name}
_ADDRESSES = environment.own_addresses(environment.text("PENNCLOUD_BIND", ""))
ALLOWED_HOSTS = environment.words(
    "PENNCLOUD_ALLOWED_HOSTS",
    ["localhost", "127.0.0.1", "[::1]", ".localhost", f".{PENNCLOUD['DOMAIN']}", *sorted(_HOST_NAMES), *_ADDRESSES],
)
CSRF_TRUSTED_ORIGINS = environment.words("PENNCLOUD_CSRF_TRUSTED_ORIGINS", [])
HTTPS = environment.flag("PENNCLOUD_HTTPS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-session" if HTTPS else "session"
CSRF_COOKIE_NAME = "__Host-csrf" if HTTPS else "csrf"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True  # scripts take the token from the page's hx-headers
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_SSL_REDIRECT = False  # the proxy that ends TLS does that
# Believable because ForwardedMiddleware removes the header unless the load balancer sent it.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],  # Tabler draws its check marks and arrows from data: addresses in its style sheet
        "font-src": [SELF],
        "connect-src": [SELF],
        "media-src": [SELF],
        "frame-src": [SELF],
        "manifest-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

# --- Requests and static files --------------------------------------------------------------------------------------

DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 2**20  # bytes of an ordinary form; file bodies are streamed by the drive itself
DATA_UPLOAD_MAX_NUMBER_FIELDS = 10_000  # a long list's check boxes: its view says how many are too many
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 2**20
APPEND_SLASH = True

STATIC_URL = "/static/"
_static_root = environment.text("PENNCLOUD_STATIC_ROOT", "")
STATIC_ROOT = Path(_static_root).expanduser().absolute() if _static_root else None
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},  # nothing is kept on a front end's disk
    "staticfiles": {
        "BACKEND": "penncloud_site.static_files.HashedStorage"
        if STATIC_ROOT
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# --- Language, time and log -----------------------------------------------------------------------------------------

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": environment.text("PENNCLOUD_LOG_LEVEL", "INFO").upper()},
    "loggers": {"django": {"handlers": [], "propagate": True}},
}
