"""The command line ``./slipway``: set-up, supervision, host checks and the test run.

Only the standard library: it runs before the virtual environment exists.  Programs that need the environment
(Django, Celery, the engine) are children.
"""
