"""The version of the program, as `pyproject.toml` states it too."""

__version__ = "0.1.0"
