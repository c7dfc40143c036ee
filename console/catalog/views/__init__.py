"""Pages of the catalog: what can be launched, the launch form, registries."""
