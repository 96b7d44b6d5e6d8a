"""Where results come from: the versions of what made them, and the commit of the folder."""

import contextlib
import shutil
import subprocess
import sys
from importlib import metadata

_PACKAGES = ("raysweep", "torch", "ray", "polars", "pyarrow", "numpy")


def versions() -> dict[str, str]:
    """List the versions of Python and of the packages that are installed, by name."""
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_commit() -> str | None:
    """Read the commit of the current folder, if it is a git checkout."""
    found = (
        subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        if shutil.which("git")
        else None
    )
    return found.stdout.strip() or None if found else None
