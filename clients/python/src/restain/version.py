"""The version, which client, server and trainer share."""

__version__ = "0.1.0"
