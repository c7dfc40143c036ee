"""Snapshots: overlay mounts over id-mapped layers."""
