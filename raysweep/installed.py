"""What is installed beside us: our own `analysis` package, and the packages that train."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from raysweep.errors import InputError

_RUN_PACKAGES = ("ray", "sklearn", "torch")  # what `raysweep[run]` adds


def load_analysis() -> ModuleType:
    """Import the `analysis` package that lies beside this one, wherever Python would look first.

    A research folder may well hold an `analysis.py` of its own.

    Returns: the package; `import analysis` finds the same one from then on.
    Raises: InputError when this process has imported another module of that name already.
    """
    home = Path(__file__).resolve().parent.parent / "analysis"
    loaded = sys.modules.get("analysis")
    if loaded is None:
        found = importlib.util.spec_from_file_location(
            "analysis", home / "__init__.py", submodule_search_locations=[str(home)]
        )
        assert found is not None
        assert found.loader is not None
        loaded = sys.modules["analysis"] = importlib.util.module_from_spec(found)
        found.loader.exec_module(loaded)
    folders = list(getattr(loaded, "__path__", []))
    if home not in [Path(folder).resolve() for folder in folders]:
        raise InputError(
            f"{loaded.__file__ or folders[0]} is imported as 'analysis', which is the name of the "
            "package that reads results for raysweep: rename that file or folder"
        )
    return loaded


@contextlib.contextmanager
def needs_run(what: str) -> Iterator[None]:
    """Turn an import of torch or Ray that fails in here into the command that helps.

    Args: what: the command or the name that needs them.
    Raises: InputError naming `what` and the missing package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in _RUN_PACKAGES:
            raise
        raise InputError(
            f"{what} needs {package}, which is not installed: pip install 'raysweep[run]'"
        ) from error
