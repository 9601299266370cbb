"""What `array.info`, `group.info`, `group.tree()` and `verify` show, as text and for notebooks."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, NamedTuple, Self, TypeAlias, final

from zarr_core.hierarchy import display
from zarr_core.metadata import ArrayMetadata, NodeMetadata
from zarr_core.metadata.documents import UnknownDataType, ZarrFormat


def human_bytes(size: int) -> str:
    """Return a size such as `1.5 KiB` after the plain number, when that is shorter to read."""
    return str(size) if size < 1 << 10 else f"{size} ({short_bytes(size)})"


def short_bytes(size: int) -> str:
    """Return a size such as `1.5 KiB`."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return f"{_quotient(size, 1 << power)} {unit}"
    return f"{size} B"


def _quotient(size: int, by: int) -> str:
    """Return a quotient with one decimal; sizes in hostile documents are too large for floats."""
    whole, tenths = divmod((20 * size + by) // (2 * by), 10)
    return f"{whole}.{tenths}"


def _is_unknown(metadata: ArrayMetadata) -> bool:
    return isinstance(metadata.data_type, UnknownDataType)


def shown_type(metadata: ArrayMetadata) -> str:
    """Return the data type of an array as text, even when it is not known here."""
    if _is_unknown(metadata):
        return str(metadata.data_type)
    codec = metadata.data_type.object_codec
    return str(metadata.dtype) if codec is None else f"object ({codec})"


class Table:
    """Pairs of name and text, shown as text and for notebooks."""

    def _rows(self) -> list[tuple[str, object]]:
        raise NotImplementedError

    def rows(self) -> list[tuple[str, str]]:
        """Return the table as pairs of name and text."""
        return [(name, str(value)) for name, value in self._rows() if value is not None]

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}} : {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        return display.framed("", display.table(self.rows()))


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class ArrayInfo(Table):
    """A table about an array."""

    _zarr_format: ZarrFormat
    _data_type: str
    _shape: tuple[int, ...]
    _chunk_shape: tuple[int, ...] | None
    _shard_shape: tuple[int, ...] | None
    _order: str
    _read_only: bool
    _store_type: str
    _fill_value: Any
    _filters: tuple[Any, ...]
    _serializer: Any
    _compressors: tuple[Any, ...]
    _count_bytes: int | None
    _count_bytes_stored: int | None = None
    _count_chunks_initialized: int | None = None
    _count_chunks: int
    _name: str = field(default="", compare=False)
    _metadata: ArrayMetadata | None = field(default=None, compare=False)

    @classmethod
    def of(cls, array: Any, initialized: int | None = None, stored: int | None = None) -> Self:
        """Return the table about an array; with counts that need I/O when they are given."""
        regular = array.metadata.chunk_grid.chunk_shape is not None
        codecs = [codec.to_json() for codec in array.metadata.chain]
        try:
            filters, serializer, compressors = array.filters, array.serializer, array.compressors
        except ValueError:  # a codec that is not known here is shown as it stands
            filters, serializer, compressors = (), codecs, ()
        return cls(
            _zarr_format=array.metadata.zarr_format,
            _data_type=shown_type(array.metadata),
            _shape=array.shape,
            _chunk_shape=array.chunks if regular else None,
            _shard_shape=array.shards if regular else None,
            _order=array.order,
            _read_only=array.read_only,
            _store_type=type(array.store).__name__,
            _fill_value=array.fill_value,
            _filters=filters,
            _serializer=serializer,
            _compressors=compressors,
            _count_bytes=None if _is_unknown(array.metadata) else array.nbytes,
            _count_bytes_stored=stored,
            _count_chunks_initialized=initialized,
            _count_chunks=array.nchunks,
            _name=array.name,
            _metadata=array.metadata,
        )

    def _rows(self) -> list[tuple[str, object]]:
        size, stored = self._count_bytes, self._count_bytes_stored
        ratio = _quotient(size, stored) if stored and size is not None else None
        done = self._count_chunks_initialized
        return [
            ("Type", "Array"),
            ("Zarr format", self._zarr_format),
            ("Data type", self._data_type),
            ("Fill value", str(self._fill_value)),
            ("Shape", self._shape),
            ("Shard shape", self._shard_shape),
            ("Chunk shape", "rectilinear" if self._chunk_shape is None else self._chunk_shape),
            ("Order", self._order),
            ("Read-only", self._read_only),
            ("Store type", self._store_type),
            ("Filters", self._filters),
            ("Serializer", self._serializer),
            ("Compressors", self._compressors),
            ("No. bytes", None if size is None else human_bytes(size)),
            ("No. bytes stored", None if stored is None else human_bytes(stored)),
            ("Storage ratio", ratio),
            ("No. chunks", self._count_chunks if done is None else None),
            ("Chunks initialized", None if done is None else f"{done}/{self._count_chunks}"),
        ]

    def _repr_html_(self) -> str:
        head = f"<b>{escape(self._name)}</b> {escape(self._data_type)} <i>{self._shape}</i>"
        rows = {name: value for name, value in self.rows() if value and name not in _IN_SIZES}
        for name, usual in (("Order", "C"), ("Read-only", "False")):
            if rows[name] == usual:
                del rows[name]
        codecs = [str(c) for c in (*self._filters, self._serializer, *self._compressors) if c]
        rows["Codecs"] = " → ".join(codecs) or "none"
        about = display.table(self._sizes()) + display.table(rows.items())
        picture = "" if self._metadata is None else display.drawing(self._sides(self._metadata))
        return display.framed(head, display.beside(about, picture))

    def _sizes(self) -> Iterator[list[str]]:
        """Yield the rows of a table that compares the array with its shards and chunks."""
        shapes = {"array": self._shape, "chunk": self._chunk_shape}
        counts = {"array": 1, "chunk": self._count_chunks}
        if self._shard_shape is not None:
            lengths = zip(self._shape, self._shard_shape, strict=True)
            counts["shard"] = math.prod(-(-n // size) for n, size in lengths)
            shapes = {"array": self._shape, "shard": self._shard_shape, "chunk": self._chunk_shape}
        yield ["", *shapes]
        yield [
            "Shape",
            *("rectilinear" if shape is None else str(shape) for shape in shapes.values()),
        ]
        data_type = None if self._metadata is None else self._metadata.data_type
        if data_type is not None and self._count_bytes is not None and not data_type.is_variable:
            sizes = [
                s and short_bytes(math.prod(s) * data_type.dtype.itemsize) for s in shapes.values()
            ]
            yield ["Size", *(size or "" for size in sizes)]
        yield ["Count", *(str(counts[name]) for name in shapes)]

    def _sides(self, metadata: ArrayMetadata) -> Iterator[display.Side]:
        """Yield the dimensions for a drawing."""
        axes, names = metadata.chunk_grid.axes, metadata.names or (None,) * len(self._shape)
        for dim, (axis, name) in enumerate(zip(axes, names, strict=True)):
            inner: tuple[int, ...] = ()
            if self._shard_shape is not None and self._chunk_shape is not None:
                inner = tuple(range(0, axis.length, self._chunk_shape[dim]))
            label = f"{name} {axis.length}" if name else str(axis.length)
            starts = tuple(axis.start(k) for k in display.thinned(axis.count))
            fits = len(inner) <= display.MOST_LINES
            yield display.Side(label, axis.length, starts, inner if fits else ())


_IN_SIZES = {
    *("Type", "Data type", "Shape", "Shard shape", "Chunk shape", "No. bytes", "No. chunks"),
    *("Filters", "Serializer", "Compressors"),
}
"""Rows of the text that stand in other places of the HTML."""


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class GroupInfo(Table):
    """A table about a group."""

    _name: str
    _zarr_format: ZarrFormat
    _read_only: bool
    _store_type: str
    _count_members: int | None = None
    _count_arrays: int | None = None
    _count_groups: int | None = None

    def _rows(self) -> list[tuple[str, object]]:
        return [
            ("Type", "Group"),
            ("Name", self._name),
            ("Zarr format", self._zarr_format),
            ("Read-only", self._read_only),
            ("Store type", self._store_type),
            ("No. members", self._count_members),
            ("No. arrays", self._count_arrays),
            ("No. groups", self._count_groups),
        ]

    def _repr_html_(self) -> str:
        rows = [(name, value) for name, value in self.rows() if name not in ("Type", "Name")]
        return display.framed(f"<b>{escape(self._name)}</b> group", display.table(rows))


class Branch(NamedTuple):
    """A node in a drawing."""

    name: str
    detail: str
    children: "list[Branch]"


_UNFOLDED = 2
"""Levels of a tree that a notebook shows before anybody clicks."""


@final
class Tree:
    """A drawing of a hierarchy, as text and for notebooks."""

    def __init__(self, root: Branch, *, plain: bool = False) -> None:
        self.root = root
        self.plain = plain

    @classmethod
    def of(
        cls,
        name: str,
        nodes: Iterable[tuple[str, NodeMetadata]],
        *,
        max_nodes: int = 500,
        plain: bool = False,
    ) -> "Tree":
        """Return the drawing of nodes given by path, parents before children."""
        root = Branch(name, "", [])
        branches = {"": root}
        for number, (path, metadata) in enumerate(nodes):
            if number >= max_nodes:
                root.children.append(Branch("...", f"more than {max_nodes} nodes", []))
                break
            parent, _, last = path.rpartition("/")
            detail = (
                f"{metadata.shape} {shown_type(metadata)}"
                if isinstance(metadata, ArrayMetadata)
                else ""
            )
            branch = branches[path] = Branch(last, detail, [])
            branches[parent].children.append(branch)
        return cls(root, plain=plain)

    def _steps(self) -> Iterator[tuple[Branch, list[bool] | None]]:
        """Yield every branch on entering it, with "is the last one" per level, and on leaving it."""
        levels = [iter([self.root])]
        path: list[Branch] = []
        is_last: list[bool] = []
        while levels:
            branch = next(levels[-1], None)
            if branch is not None:
                if path:
                    is_last.append(branch is path[-1].children[-1])
                yield branch, is_last
                path.append(branch)
                levels.append(iter(branch.children))
                continue
            levels.pop()
            if path:
                yield path.pop(), None
                if is_last:
                    is_last.pop()

    def __repr__(self) -> str:
        lines = [self.root.name]
        for branch, is_last in self._steps():
            if is_last:
                indent = "".join("    " if last else "│   " for last in is_last[:-1])
                mark = "└── " if is_last[-1] else "├── "
                lines.append(f"{indent}{mark}{branch.name} {branch.detail}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = ["<ul>"]
        for branch, is_last in self._steps():
            detail = f" <i>{escape(branch.detail)}</i>" if branch.detail else ""
            label = f"<b>{escape(branch.name)}</b>{detail}"
            if not branch.children:
                parts.append("</li>" if is_last is None else f"<li>{label}")
            elif is_last is None:
                parts.append("</ul></details></li>")
            else:
                unfolded = " open" if len(is_last) <= _UNFOLDED else ""
                parts.append(f"<li><details{unfolded}><summary>{label}</summary><ul>")
        return display.framed("", "".join((*parts, "</ul>")))


# --- what is wrong ----------------------------------------------------------------------------------

Severity: TypeAlias = Literal["error", "warning"]


class Problem(NamedTuple):
    """Something that is wrong with what is stored."""

    severity: Severity
    kind: str
    """One of those that are listed in the documentation of `verify`."""
    node: str
    """Path of the node in its store; `""` is the root."""
    key: str
    """Key in the store."""
    what: str
    repair: str


@final
class Report(NamedTuple):
    """What `verify` has found."""

    problems: tuple[Problem, ...]
    """By node and key."""
    nodes: int
    chunks: int
    """How many chunks (or shards) were looked at."""
    nbytes: int
    """How many bytes of chunks were read."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What cannot be read, or is not read as it is stored."""
        return tuple(p for p in self.problems if p.severity == "error")

    def __repr__(self) -> str:
        n_errors = len(self.errors)
        n_warnings, looked_at = (
            len(self.problems) - n_errors,
            f"{self.nodes} nodes, {self.chunks} chunks",
        )
        lines = [f"{looked_at}: {n_errors} errors, {n_warnings} warnings"]
        for problem in self.problems:
            lines.append(f"{problem.severity} ({problem.kind}) {problem.key}: {problem.what}")
            lines.append(f"    {problem.repair}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return display.framed("", display.table([Problem._fields, *self.problems]))
