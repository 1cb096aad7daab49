"""The name that judge/ had in version 0.1, for scripts that import from it."""
