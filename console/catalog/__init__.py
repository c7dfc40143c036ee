"""What can be launched: registries, repositories, built-in applications, launch forms."""
