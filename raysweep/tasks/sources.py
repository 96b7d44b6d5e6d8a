"""Which files a task is made of: the modules that it imports and that nobody installed."""

import ast
import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import site
import sysconfig
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

_HOME = Path(__file__).resolve().parents[2]
_OURS = ("raysweep", "analysis")
_SHIPPED_TASKS = "raysweep.tasks."
_DYNAMIC = ("import_module", "__import__")


class _Module(NamedTuple):
    name: str
    file: Path | None  # None: a namespace package, which has none
    places: tuple[Path, ...] = ()  # where its submodules lie; a plain module has none

    @property
    def package(self) -> str:
        """What relative imports in it start from."""
        return self.name if self.places else self.name.rpartition(".")[0]

    @property
    def inner_path(self) -> str:
        """Its file's path below the folder that is on sys.path."""
        assert self.file is not None
        return "/".join([*filter(None, self.package.split(".")), self.file.name])


def own_modules(start: str, also: Collection[str] = ()) -> dict[str, Path]:
    """Walk over a module and over all that it imports, at its top or inside functions.

    The walk reads import statements, and calls of `import_module` and `__import__`. A call whose
    argument is no literal may mean each module of the package that the argument begins with, or of
    the folder of the calling file.

    Args:
        start: the module's name; it can be imported.
        also: names of modules that the walk includes if they are the user's own.

    Returns: module name -> file, without the standard library and without what is installed. An
        editable install is the user's own. Of an installed `start`, its own package counts.
    """
    found: dict[str, Path] = {}
    seen, waiting = set[str](), [start, *also]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        package, _, last = name.rpartition(".")
        if package:
            waiting.append(package)
        module = _locate(package if last == "*" else name)
        if module is None or module.file is None or not _counts(module, start):
            continue
        if last == "*":
            waiting += _listed(module)
            continue
        found[name] = module.file
        waiting += _imports(module)
    return found


def digest(start: str, files: Mapping[str, Path]) -> str:
    """Digest the content of a task's files, under names that do not depend on where they lie.

    Args: start: the task's module; files: of `own_modules`.
    """
    first = _locate(start)
    inside = f"{first.package.replace('.', '/')}/" if first and first.package else ""
    contents: dict[str, bytes] = {}
    for name, file in files.items():
        body = file.read_bytes()
        if _is_init(file) and not body and name != start:
            continue  # as good as none
        path = _Module(name, file, (file.parent,) if _is_init(file) else ()).inner_path
        beside = path.startswith(inside)
        contents[path.removeprefix(inside) if beside else f"/{path}"] = body
    content = hashlib.blake2b(digest_size=8)
    for path in sorted(contents, key=lambda path: path.split("/")):
        content.update(path.encode() + b"\0" + contents[path])
    return content.hexdigest()


def fingerprints(files: Mapping[str, Path]) -> dict[str, str]:
    """Digest each file by itself: module name -> digest."""
    return {
        name: hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
        for name, file in files.items()
    }


def unlike(expected: Mapping[str, str]) -> Path | None:
    """Find a module that this process would import with another content than expected.

    Args: expected: of `fingerprints`, made elsewhere. Returns: its file; None if all agree.
    """
    for name, wanted in expected.items():
        module = _locate(name)
        if module is None or module.file is None:
            return Path(name)
        if fingerprints({name: module.file})[name] != wanted:
            return module.file
    return None


def to_ship(files: Mapping[str, Path]) -> dict[str, Path] | None:
    """Choose what other machines lack of a task's files; None where they have all."""
    own = {name: file for name, file in files.items() if not _is_there(name, file)}
    return own or None


def _is_there(name: str, file: Path) -> bool:
    top, root = name.partition(".")[0], _root(name, file)
    return (top in _OURS and root.resolve() == _HOME) or _installed(root, top)


def pack(files: Mapping[str, Path], folder: Path) -> list[Path]:
    """Lay a task's files out for other machines, as links.

    A module inside a package goes with the whole of its outermost package, data files included; a
    namespace package is no such folder.

    Args: files: of `own_modules`; folder: where they are laid out.

    Returns: files and folders that belong on the path of those who import the task.
    """
    for name, file in files.items():
        parts = name.split(".")
        prefixes = [".".join(parts[: n + 1]) for n in range(len(parts))]
        package = next((p for p in prefixes if p in files and _is_init(files[p])), None)
        if package is None:
            place = folder.joinpath(*parts[:-1])
            place.mkdir(parents=True, exist_ok=True)
            place.joinpath(file.name).symlink_to(file)
            continue
        place = folder.joinpath(*package.split("."))
        if place.is_dir():
            continue
        place.mkdir(parents=True)
        for child in files[package].parent.iterdir():
            if child.name != "__pycache__":
                place.joinpath(child.name).symlink_to(child)
    return sorted(entry for entry in folder.iterdir() if _ships(entry))


def _ships(entry: Path) -> bool:
    return entry.is_dir() or entry.suffix == ".py"  # what Ray takes


def _is_init(file: Path) -> bool:
    return file.name.partition(".")[0] == "__init__"


def _locate(name: str) -> _Module | None:
    """Find a module without importing its parents, which may cost seconds, or do anything."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    file = Path(os.path.abspath(spec.origin)) if spec.origin and spec.has_location else None
    places = tuple(Path(os.path.abspath(p)) for p in spec.submodule_search_locations or ())
    if file is None and not places:
        return None
    module = _Module(top, file, places)
    for part in rest:
        inner = _inside(module, part)
        if inner is None:
            return None
        module = inner
    return module


def _inside(parent: _Module, part: str) -> _Module | None:
    """Find a submodule as Python does: a package, a file, or a folder that is a namespace."""
    name, folders = f"{parent.name}.{part}", []
    for place in parent.places:
        folder = place / part
        for suffix in importlib.machinery.all_suffixes():
            if (file := folder / f"__init__{suffix}").is_file():
                return _Module(name, file, (folder,))
            if (file := place / f"{part}{suffix}").is_file() and not _has_init(folder):
                return _Module(name, file)
        if folder.is_dir():
            folders.append(folder)
    return _Module(name, None, tuple(folders)) if folders else None


def _has_init(folder: Path) -> bool:
    return any((folder / f"__init__{s}").is_file() for s in importlib.machinery.all_suffixes())


def _counts(module: _Module, start: str) -> bool:
    """Whether a module is part of what a task is made of."""
    assert module.file is not None
    top, root = module.name.partition(".")[0], _root(module.name, module.file)
    if top in _OURS and root.resolve() == _HOME:
        ours = start.startswith(_SHIPPED_TASKS) and module.name.startswith(_SHIPPED_TASKS)
        return module.name == start or ours
    return top == start.partition(".")[0] or not _installed(root, top)


def _root(name: str, file: Path) -> Path:
    """Find the folder on sys.path that a module's file is below."""
    return file.parents[name.count(".") + _is_init(file)]


@functools.cache
def _installed(root: Path, top: str) -> bool:
    """Whether whoever keeps this interpreter put a module there.

    Args: root: the folder on sys.path; top: the name of the module or package in it.
    """
    places = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {*site.getsitepackages(), site.getusersitepackages()}
    for place in map(Path, places):
        if root.is_relative_to(place) or root.resolve().is_relative_to(place.resolve()):
            return True
    # `pip install --target` makes such a folder out of any: its records tell what came so.
    names = (f"{top}/", f"{top}.")
    return any(
        line.startswith(names)
        for record in root.glob("*.dist-info/RECORD")
        for line in record.read_text(errors="replace").splitlines()
    )


def _parsed(module: _Module) -> ast.Module | None:
    """Parse a module's source; None where there is none, or none that Python could read."""
    assert module.file is not None
    if module.file.suffix != ".py":
        return None
    try:
        return ast.parse(module.file.read_bytes(), str(module.file))
    except (SyntaxError, ValueError, RecursionError):
        return None


def _imports(module: _Module) -> set[str]:
    """Names that a module's source imports, or may import; `package.*` for what a star means."""
    names = set[str]()
    for node in ast.walk(_parsed(module) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = _absolute("." * node.level + (node.module or ""), module.package)
            names |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and node.args and _called(node.func) in _DYNAMIC:
            names |= _dynamic(node, module)
    return {name for name in names if all(name.split("."))}


def _absolute(name: str, package: str) -> str:
    """Resolve a relative name; empty where it leads nowhere."""
    try:
        return importlib.util.resolve_name(name, package) if name.startswith(".") else name
    except ImportError:
        return ""


def _listed(package: _Module) -> set[str]:
    """Names in `__all__` of a package: its submodules among them are what a star imports."""
    return {
        f"{package.name}.{leaf.value}"
        for node in (_parsed(package) or ast.Module([], [])).body
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id == "__all__"
        for leaf in ast.walk(node.value)
        if isinstance(leaf, ast.Constant) and package.places
    }


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _dynamic(call: ast.Call, module: _Module) -> set[str]:
    """Names that a call may import: the literal one, else the modules of a package or folder."""
    text, whole = _beginning(call.args[0])
    package = module.package
    for given in [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "package")]:
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            package = given.value
    if whole:
        return {_absolute(text, package)}
    stem = text.rpartition(".")[0] if text.strip(".") else text
    around = _absolute(stem, package) if stem else module.package
    if around:
        found = _locate(around)
        return _submodules(found) if found else set()
    assert module.file is not None
    return _submodules(_Module("", None, (module.file.parent,)))


def _beginning(expression: ast.expr) -> tuple[str, bool]:
    """What of a text is a literal, from its beginning, and whether that is all of it."""
    if isinstance(expression, ast.Constant):
        return (expression.value, True) if isinstance(expression.value, str) else ("", False)
    if isinstance(expression, ast.JoinedStr) and expression.values:
        return _beginning(expression.values[0])[0], False
    if isinstance(expression, ast.BinOp):
        return _beginning(expression.left)[0].partition("%")[0], False
    return "", False


def _submodules(package: _Module) -> set[str]:
    """Names of all modules of a package, and of the packages in it."""
    names = set[str]()
    for place in package.places:
        for entry in place.iterdir():
            stem = entry.name.partition(".")[0]
            if not stem.isidentifier() or stem == "__pycache__":
                continue
            name = f"{package.name}.{stem}".lstrip(".")
            if entry.is_dir() and _has_init(entry):
                names |= {name, *_submodules(_Module(name, None, (entry,)))}
            elif entry.suffix == ".py" and stem != "__init__":
                names.add(name)
    return names
