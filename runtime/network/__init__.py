"""Tenant networks: addresses, published ports, isolation."""
