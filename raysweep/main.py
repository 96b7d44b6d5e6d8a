"""The file that `ray submit` copies and runs; the `raysweep` command enters here too."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Python puts the folder of a script first on sys.path. In a checkout that folder is the
    # package itself, whose modules would shadow others; in a home folder it is anything at all.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    if (here / "recipes").is_dir() and (here / "spec.py").is_file():
        sys.path.insert(0, str(here.parent))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    from raysweep.cli import run_command_line

    run_command_line(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    main(sys.argv[1:] or ["run"])
