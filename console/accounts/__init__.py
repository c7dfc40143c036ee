"""People and tenants: users, memberships, roles, quotas, the audit log."""
