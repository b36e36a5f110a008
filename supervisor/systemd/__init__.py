"""jobsup as a service of a systemd host: its two units, and how they are put in place."""

from .service import DIRECTORY, UNITS, install, text, uninstall

__all__ = ["DIRECTORY", "UNITS", "install", "text", "uninstall"]
