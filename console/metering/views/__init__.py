"""Pages of usage, cost and bills: of the person's tenant under ``/usage/``, of everybody, for admins, under ``/admin/``."""
