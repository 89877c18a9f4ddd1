"""The version, said once: the package, its files and its caches are named after it."""

__version__ = "0.1.0"
