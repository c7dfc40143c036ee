"""For fast tests: the fake engine, an in-memory channel layer, tasks called in place, SQLite in a temporary folder,
or PostgreSQL at SLIPWAY_TEST_DATABASE_URL."""

from __future__ import annotations

import os
import tempfile

_home = os.environ.setdefault("SLIPWAY_HOME", tempfile.mkdtemp(prefix="slipway-test-"))
os.environ.setdefault("SLIPWAY_ENGINE", "fake")

from console.settings import *  # noqa: E402, F403 -- the environment above must come first

SECRET_KEY = "a key for tests" * 4
AGENT_KEY = "an agent key for tests" * 3
FERNET_KEY = "dGVzdHMgb25seSwgMzIgYnl0ZXMgbG9uZyBrZXkhISE="
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if os.environ.get("SLIPWAY_TEST_DATABASE_URL"):
    DATABASES = {"default": environment.database("SLIPWAY_TEST_DATABASE_URL", "")}  # noqa: F405
    DATABASES["default"]["CONN_MAX_AGE"] = 0
else:  # a file, for threads: SQLite in memory has no write-ahead log
    DATABASES["default"]["TEST"] = {"NAME": f"{tempfile.mkdtemp(prefix='slipway-test-')}/test.sqlite3"}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
CELERY_TASK_ALWAYS_EAGER = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
