"""Settings of the console.  Every value that differs between nodes comes from the environment; see docs/configuration.md."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from django.utils.translation import gettext_lazy as _

from console.settings import environment

SOURCE = Path(__file__).resolve().parents[2]
HOME = Path(environment.text("SLIPWAY_HOME", "/var/lib/slipway"))
INSTANCE = environment.text("SLIPWAY_INSTANCE", "slipway")
ENGINE = environment.choice("SLIPWAY_ENGINE", "native", ["native", "fake"])
NODE = environment.text("SLIPWAY_NODE", socket.gethostname().split(".")[0] or "node")
PORT = environment.integer("SLIPWAY_PORT", 8000, low=1, high=65535)
AGENT_SOCKET = environment.text("SLIPWAY_AGENT_SOCKET", f"/run/{INSTANCE}/agent.sock")
EXPORT_ROOTS = environment.folders("SLIPWAY_EXPORT_ROOTS")
DEFAULT_REGISTRY = environment.text("SLIPWAY_DEFAULT_REGISTRY", "docker.io")

DEBUG = environment.boolean("SLIPWAY_DEBUG", default=False)
SECRET_KEY = environment.secret(str(HOME / "secrets/django.key"), fallback="only-for-commands-before-set-up" * 2)
AGENT_KEY = environment.secret(str(HOME / "secrets/agent.key"), fallback="")
FERNET_KEY = environment.secret(str(HOME / "secrets/fernet.key"), fallback="")
ALLOWED_HOSTS = environment.names("SLIPWAY_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = environment.names("SLIPWAY_TRUSTED_ORIGINS", [])
USE_TLS = environment.boolean("SLIPWAY_TLS", default=False)

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "console.core",
    "console.accounts",
    "console.catalog",
    "console.operations",
    "console.workloads",
    "console.metering",
    "console.live",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "console.core.middleware.content_security_policy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "console.core.middleware.page_of_a_form",
    "console.core.middleware.no_null_characters",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "console.accounts.middleware.SignedIn",
    "django.contrib.messages.middleware.MessageMiddleware",
    "console.accounts.middleware.known_address",
    "console.accounts.middleware.current_tenant",
    "console.core.requests.refusals",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "console.urls"
ASGI_APPLICATION = "console.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [SOURCE / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.core.context.page",
            ],
            "builtins": ["console.core.templatetags.slipway"],
            "libraries": {"metering": "console.core.templatetags.metering"},
            "loaders": [
                ("django.template.loaders.cached.Loader", ["django.template.loaders.filesystem.Loader"]),
            ],
        },
    }
]

# ------------------------------------------------------------------------------------------------ stores

DATABASES = {"default": environment.database("SLIPWAY_DATABASE_URL", str(HOME / "db/slipway.sqlite3"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

EXTERNAL_REDIS_URL = environment.text("SLIPWAY_REDIS_URL")
REDIS_URL = EXTERNAL_REDIS_URL or f"unix://{HOME}/redis/redis.sock"


def redis_url(database: int) -> str:
    """The URL of one database of our Redis, as redis-py reads it."""
    base = REDIS_URL.rstrip("/")
    return f"{base}?db={database}" if base.startswith("unix:") else f"{base}/{database}"


def _broker_url() -> str:
    if REDIS_URL.startswith("unix:"):
        return f"redis+socket://{REDIS_URL.removeprefix('unix://')}?virtual_host=0"
    return redis_url(0)


CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [redis_url(1)], "prefix": "slipway"},
    }
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis_url(2)}}
METRICS_REDIS_URL = redis_url(3)

CELERY_BROKER_URL = _broker_url()
if REDIS_URL.startswith("rediss:"):
    CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
CELERY_TASK_ALWAYS_EAGER = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "beat"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_ACKS_LATE = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# The database holds what is to be done, so nobody waits for a broker that is away: the sweep rings later.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,
    "max_retries": 0,
    "socket_connect_timeout": 2,
    "socket_timeout": 2,
}
CELERY_BEAT_SCHEDULE = {
    "bill": {"task": "console.operations.tasks.bill", "schedule": 600.0, "options": {"expires": 600}},
    "export": {
        "task": "console.operations.tasks.export",
        "schedule": 30.0,
        "options": {"expires": 30, "queue": f"node.{NODE}"},
    },
    "deliver": {"task": "console.operations.tasks.deliver", "schedule": 20.0, "options": {"expires": 20}},
    "sweep-operations": {"task": "console.operations.tasks.sweep", "schedule": 5.0, "options": {"expires": 5}},
    "reconcile": {
        "task": "console.operations.tasks.reconcile",
        "schedule": 300.0,
        "options": {"expires": 300, "queue": f"node.{NODE}"},
    },
}

# ------------------------------------------------------------------------------------------------ people

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "accounts:sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "accounts:sign-in"
SESSION_COOKIE_NAME = "slipway_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = USE_TLS
SECURE_SSL_REDIRECT = USE_TLS
SECURE_HSTS_SECONDS = 31_536_000 if USE_TLS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if USE_TLS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [SOURCE / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# ------------------------------------------------------------------------------------------------ static files

STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
STATICFILES_DIRS = [SOURCE / "static"]
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "console.core.finders.VendorFinder",
]
NODE_MODULES = Path(environment.text("SLIPWAY_NODE_MODULES", str(HOME / "node_modules")))
VENDOR_FILES = {
    # style sheets and scripts name their source maps, and the manifest storage wants every file that is named
    "vendor/tabler.esm.min.js.map": "@tabler/core/dist/js/tabler.esm.min.js.map",
    "vendor/tabler.min.css.map": "@tabler/core/dist/css/tabler.min.css.map",
    "vendor/xterm.mjs.map": "@xterm/xterm/lib/xterm.mjs.map",
    "vendor/addon-fit.mjs.map": "@xterm/addon-fit/lib/addon-fit.mjs.map",
    "vendor/addon-webgl.mjs.map": "@xterm/addon-webgl/lib/addon-webgl.mjs.map",
    "vendor/addon-search.mjs.map": "@xterm/addon-search/lib/addon-search.mjs.map",
    "vendor/htmx.js": "htmx.org/dist/htmx.esm.js",
    "vendor/tabler.js": "@tabler/core/dist/js/tabler.esm.min.js",
    "vendor/tabler.css": "@tabler/core/dist/css/tabler.min.css",
    "vendor/uplot.js": "uplot/dist/uPlot.esm.js",
    "vendor/uplot.css": "uplot/dist/uPlot.min.css",
    "vendor/xterm.js": "@xterm/xterm/lib/xterm.mjs",
    "vendor/xterm.css": "@xterm/xterm/css/xterm.css",
    "vendor/xterm-fit.js": "@xterm/addon-fit/lib/addon-fit.mjs",
    "vendor/xterm-webgl.js": "@xterm/addon-webgl/lib/addon-webgl.mjs",
    "vendor/xterm-search.js": "@xterm/addon-search/lib/addon-search.mjs",
}
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_MAX_AGE = 60

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": environment.choice("SLIPWAY_LOG", "INFO", ["DEBUG", "INFO", "WARNING"])},
}
