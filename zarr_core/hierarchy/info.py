"""What `array.info`, `group.info` and `group.tree()` show, as text and for notebooks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from html import escape
from typing import Any, NamedTuple, Self, final

from zarr_core.metadata import ArrayMetadata, NodeMetadata
from zarr_core.metadata.documents import UnknownDataType, ZarrFormat


def human_bytes(size: int) -> str:
    """Return a size such as `1.5 KiB` after the plain number, when that is shorter to read."""
    if size < 1 << 10:
        return str(size)
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return f"{size} ({_quotient(size, 1 << power)} {unit})"
    return str(size)


def _quotient(size: int, by: int) -> str:
    """Return a quotient with one decimal; sizes in hostile documents are too large for floats."""
    whole, tenths = divmod((20 * size + by) // (2 * by), 10)
    return f"{whole}.{tenths}"


def _is_unknown(metadata: ArrayMetadata) -> bool:
    return isinstance(metadata.data_type, UnknownDataType)


def shown_type(metadata: ArrayMetadata) -> str:
    """Return the data type of an array as text, even when it is not known here."""
    return str(metadata.data_type if _is_unknown(metadata) else metadata.dtype)


def _table(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}} : {value}" for name, value in rows)


def _html(rows: list[tuple[str, str]]) -> str:
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(n)}</th>"
        f"<td style='text-align:left'>{escape(v)}</td></tr>"
        for n, v in rows
    )
    return f"<table><tbody>{body}</tbody></table>"


@final
@dataclass(frozen=True, kw_only=True)
class ArrayInfo:
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

    @classmethod
    def of(cls, array: Any, initialized: int | None = None, stored: int | None = None) -> Self:
        """Return the table about an array; with counts that need I/O when they are given."""
        regular = array.metadata.chunk_grid.chunk_shape is not None
        codecs = [codec.to_json() for codec in array.metadata.codecs]
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
        )

    def rows(self) -> list[tuple[str, str]]:
        """Return the table as pairs of name and text."""
        rows = [
            ("Type", "Array"),
            ("Zarr format", str(self._zarr_format)),
            ("Data type", self._data_type),
            ("Fill value", str(self._fill_value)),
            ("Shape", str(self._shape)),
        ]
        if self._shard_shape is not None:
            rows.append(("Shard shape", str(self._shard_shape)))
        rows += [
            ("Chunk shape", "rectilinear" if self._chunk_shape is None else str(self._chunk_shape)),
            ("Order", self._order),
            ("Read-only", str(self._read_only)),
            ("Store type", self._store_type),
            ("Filters", str(self._filters)),
        ]
        if self._serializer is not None:
            rows.append(("Serializer", str(self._serializer)))
        rows += [
            ("Compressors", str(self._compressors)),
        ]
        if self._count_bytes is not None:
            rows.append(("No. bytes", human_bytes(self._count_bytes)))
        if self._count_bytes_stored is not None:
            rows.append(("No. bytes stored", human_bytes(self._count_bytes_stored)))
            if self._count_bytes_stored and self._count_bytes is not None:
                rows.append(
                    ("Storage ratio", _quotient(self._count_bytes, self._count_bytes_stored))
                )
        if self._count_chunks_initialized is not None:
            rows.append(
                ("Chunks initialized", f"{self._count_chunks_initialized}/{self._count_chunks}")
            )
        else:
            rows.append(("No. chunks", str(self._count_chunks)))
        return rows

    def __repr__(self) -> str:
        return _table(self.rows())

    def _repr_html_(self) -> str:
        return _html(self.rows())


@final
@dataclass(frozen=True, kw_only=True)
class GroupInfo:
    """A table about a group."""

    _name: str
    _zarr_format: ZarrFormat
    _read_only: bool
    _store_type: str
    _count_members: int | None = None
    _count_arrays: int | None = None
    _count_groups: int | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Return the table as pairs of name and text."""
        names = {
            "_name": "Name",
            "_zarr_format": "Zarr format",
            "_read_only": "Read-only",
            "_store_type": "Store type",
            "_count_members": "No. members",
            "_count_arrays": "No. arrays",
            "_count_groups": "No. groups",
        }
        rows = [("Type", "Group")]
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                rows.append((names[field.name], str(value)))
        return rows

    def __repr__(self) -> str:
        return _table(self.rows())

    def _repr_html_(self) -> str:
        return _html(self.rows())


class Branch(NamedTuple):
    """A node in a drawing."""

    name: str
    detail: str
    children: "list[Branch]"


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
            label = f"<b>{escape(branch.name)}</b> {escape(branch.detail)}".rstrip()
            if not branch.children:
                parts.append("</li>" if is_last is None else f"<li>{label}")
            elif is_last is None:
                parts.append("</ul></details></li>")
            else:
                parts.append(f"<li><details open><summary>{label}</summary><ul>")
        return "".join((*parts, "</ul>"))
