"""OCI images: references, registries, the content store, unpacking, archives, building."""
