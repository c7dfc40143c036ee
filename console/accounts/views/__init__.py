"""Signing in, a person's settings, a tenant's members, administration."""
