"""Containers and images as tenants own them."""
