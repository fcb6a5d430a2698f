"""What PyInstaller asks an installed package for: the folder of its hooks."""

import os


def get_hook_dirs() -> list[str]:
    """Return the folders with hooks."""
    return [os.path.dirname(__file__)]
