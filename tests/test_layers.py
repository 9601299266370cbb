"""Imports only point down, files stay short, and there is no module without a subject.

`docs/design.md` says why. Imports inside functions count: they are there for slow libraries, not
for cycles.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import in_new_interpreter

PACKAGE = Path(__file__).parent.parent / "zarr_core"
NAME = PACKAGE.name

ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "locks": (),
    "config": (),
    "threads": ("calls", "trace", "pool", "key_locks", "requests", "coroutines", "twins"),
    "metadata": (
        *(
            "zdtype",
            "small_types",
            "numbers",
            "times",
            "data_types",
            "chunk_grids",
            "documents",
            "chunk_keys",
            "array",
            "group",
        ),
    ),
    "indexing": ("plan", "selection", "values"),
    "storage": (
        *(
            "ranges",
            "base",
            "memory",
            "directories",
            "local",
            "wrappers",
            "retry",
            "cache",
            "adapters",
        ),
        *(
            "zip_archive",
            "zip",
            "sqlite",
            "fsspec_parts",
            "fsspec_store",
            "object_store",
            "n5",
            "paths",
            "references",
        ),
    ),
    "codecs": (
        *(
            "members",
            "checks",
            "base",
            "streams",
            "layout",
            "checksum",
            "deflate",
            "blosc",
            "zstd",
            "vlen",
        ),
        *("objects", "scale_offset", "chain", "zfp", "numcodecs", "cast_value", "bitround"),
        *("packbits", "reshape", "v2", "buffers", "foreign", "registry", "n5"),
    ),
    "chunks": (
        *("space", "rows", "placing", "inner_chunks", "shard_stream", "loop", "cache", "sharding"),
    ),
    "hierarchy": (
        "display",
        "info",
        "stored_nodes",
        "node",
        "create",
        "formats",
        "members",
        "consolidated",
    ),
    "array": (
        *(
            "asynchronous",
            "state",
            "chunk_parts",
            "handle",
            "explain",
            "many",
            "stream",
            "views",
            "resizing",
            "batch",
        ),
        *("array", "regions", "create"),
    ),
    "group": (),
    "copying": (),
    "converting": (),
    "verifying": (),
    "api": (),
    "compat": (
        *("dtype", "registry", "sync", "metadata", "indexing", "stores"),
        *("wrappers", "store_tests", "strategies", "stateful", "asynchronous", "names", "finder"),
    ),
    "as_zarr": (),
    "xarray": (),
    "icechunk": (),
    "cli": ("output", "bench", "serve", "commands"),
    "__main__": (),
}
"""The rooms of zarr_core, from the lowest to the highest, and their files in the same order."""

FACADES = frozenset({"dtype", "registry", "types"})
"""Modules above all others that only show names of lower modules in the place users look for."""

WITHOUT_A_SUBJECT = frozenset(
    {
        "base_utils",
        "common",
        "compat",
        "helpers",
        "lib",
        "misc",
        "shared",
        "tools",
        "types",
        "util",
        "utils",
    }
)

LONGEST_FILE = 640  # lines beside docstrings, which grow with examples
"""A file that needs more lines is probably two things."""

# What `import zarr` finds in child processes is a program that imports the package from above.
FILES = sorted(set(PACKAGE.rglob("*.py")) - set(PACKAGE.glob("compat/children/*")))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join((NAME, *parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def floor_of(module: str) -> tuple[int, int]:
    """Return the rank of a module: of its room, and in it. The package is above all."""
    room, _, file = module.partition(".")[2].partition(".")
    if room not in ROOMS:
        return len(ROOMS) + (room not in FACADES), 0
    files = ROOMS[room]
    return list(ROOMS).index(room), files.index(file) if file else len(files)


def imported_modules(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of every module of ours that is imported anywhere in `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            # `from package import module` imports the module, not only the package.
            names = [f"{base}.{alias.name}" for alias in node.names]
            found = [name if name in MODULES else base for name in names]
        else:
            continue
        for name in found:
            if name == NAME or name.startswith(f"{NAME}."):
                yield node.lineno, name


def imports_of(module: str) -> Iterator[tuple[int, str]]:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return imported_modules(ast.parse(path.read_text("utf-8")), package)


def test_every_file_has_its_place() -> None:
    places = {NAME, *(f"{NAME}.{facade}" for facade in FACADES)}
    for room, files in ROOMS.items():
        places |= {f"{NAME}.{room}", *(f"{NAME}.{room}.{file}" for file in files)}
    assert places == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    upward = {
        f"{MODULES[module]}:{line}: {module} must not import {other}"
        for line, other in imports_of(module)
        if other != module and floor_of(other) >= floor_of(module)
    }
    assert not upward, "\n".join(sorted(upward))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_file_is_short(path: Path) -> None:
    text = path.read_text("utf-8")
    lines = len(text.splitlines())
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            lines -= len(ast.get_docstring(node, clean=False).splitlines())
    assert lines <= LONGEST_FILE, f"{path} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_type_checking_imports(path: Path) -> None:
    names = [
        getattr(node, "id", getattr(node, "attr", ""))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    ]
    assert "TYPE_CHECKING" not in names, f"{path}: layers make TYPE_CHECKING unnecessary"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_module_has_a_subject(path: Path) -> None:
    if path.stem.strip("_") not in WITHOUT_A_SUBJECT:
        return
    assert path.stem in FACADES, f"{path}: say in the name what the module is about"


@pytest.mark.parametrize("facade", sorted(FACADES))
def test_doors_hold_names_only(facade: str) -> None:
    path = PACKAGE / f"{facade}.py"
    allowed = (ast.ImportFrom, ast.Expr, ast.Assign)  # imports, a docstring, __all__
    body = ast.parse(path.read_text("utf-8")).body
    assert all(isinstance(node, allowed) for node in body), f"{path} may only re-export"


def test_a_plain_import_stays_light() -> None:
    # What is slow to import is imported by the first call that needs it.
    heavy = ("asyncio", "anyio", "fsspec", "obstore", "numcodecs", "zstandard", "ml_dtypes")
    code = f"import zarr_core, sys; print(*[name for name in {heavy} if name in sys.modules])"
    in_new_interpreter(code, stdout="")


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("import zarr_core.array", "zarr_core", ["zarr_core.array"]),
        ("def f():\n from zarr_core.errors import StoreError", "zarr_core", ["zarr_core.errors"]),
        ("from zarr_core import errors", "zarr_core", ["zarr_core.errors"]),
        ("from zarr_core import Array", "zarr_core", ["zarr_core"]),
        ("from . import base", "zarr_core.storage", ["zarr_core.storage.base"]),
        ("from .base import Store", "zarr_core.storage", ["zarr_core.storage.base"]),
        ("from ..errors import StoreError", "zarr_core.storage", ["zarr_core.errors"]),
        ("import numpy, os.path", "zarr_core", []),
    ],
)
def test_the_walk_finds_imports(source: str, package: str, expected: list[str]) -> None:
    assert [name for _, name in imported_modules(ast.parse(source), package)] == expected


def test_an_upward_import_would_be_found() -> None:
    assert floor_of("zarr_core.array.array") > floor_of("zarr_core.array.state")
    assert floor_of("zarr_core.array") > floor_of("zarr_core.chunks.loop")
    assert floor_of("zarr_core") > floor_of("zarr_core.types") > floor_of("zarr_core.api")


def test_the_documentation_has_the_same_rooms() -> None:
    text = (PACKAGE.parent / "docs" / "design.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = [name.strip().strip("`").removesuffix("/") for row in rows for name in row.split(",")]
    assert named == list(ROOMS)
