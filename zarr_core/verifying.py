"""What is wrong with what is stored: `verify`.

A hierarchy is walked level by level: the documents of nodes are read, then the keys of each array are
listed and its chunks decoded. Nothing is changed. In memory are the metadata of all nodes, a batch
of keys, and the chunks that are being decoded.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple, final

from zarr_core.array.state import make_state
from zarr_core.chunks import loop
from zarr_core.chunks.space import ChunkSpace
from zarr_core.config import ArrayConfig
from zarr_core.copying import UNFINISHED
from zarr_core.errors import (
    BaseZarrError,
    CodecError,
    MetadataValidationError,
    NodeNotFoundError,
    OperationTimeoutError,
    StoppedError,
)
from zarr_core.hierarchy.info import Problem, Report, Severity
from zarr_core.hierarchy.stored_nodes import CHUNK_KEY, parse_loaded, there_instead
from zarr_core.locks import ForkLock
from zarr_core.metadata import ArrayMetadata, ConsolidatedMetadata, NodeMetadata
from zarr_core.metadata.chunk_grids import Coords
from zarr_core.metadata.documents import (
    DOCUMENTS,
    JSON,
    V2_ARRAY,
    V2_ATTRIBUTES,
    V2_CONSOLIDATED,
    V2_GROUP,
    V3_DOCUMENT,
    DocumentAt,
    load_json,
)
from zarr_core.metadata.group import parse_zmetadata
from zarr_core.storage import StorePath
from zarr_core.storage.base import Request, Value
from zarr_core.threads.requests import each

KINDS: dict[str, tuple[Severity, str]] = {
    "metadata": (
        "error",
        "restore the document, or write it anew: create_array(..., write_data=False) keeps chunks",
    ),
    "two-kinds": ("error", "remove .zarray or .zgroup"),
    "no-array": ("error", "write the document with create_array(..., write_data=False)"),
    "inside-array": ("error", "move the node out of the array, or remove it"),
    "codec": ("error", "install or register what is missing"),
    "unreadable": ("error", "look at rights, links and disks; restore the value"),
    "chunk": ("error", "restore the chunk, or delete its key to read the fill value there"),
    "inner-chunk": ("error", "restore the shard, or write this region again"),
    "shard-index": ("error", "restore the shard, or delete its key to read the fill value there"),
    "unfinished-copy": ("error", "copy again, which goes on where it was, or remove the array"),
    "stale": ("error", "consolidate again, or open with use_consolidated=False"),
    "two-formats": ("warning", "remove the documents of one format; format 3 is what is read"),
    "other-format": ("warning", "convert one of them; the group does not show this node"),
    "no-group": ("warning", "create_group: without a document the nodes below are not listed"),
    "attributes": ("warning", "remove the document, or create the node it belongs to"),
    "outside": ("warning", "delete the key, or resize the array to have the chunk back"),
    "foreign": ("warning", "move or delete it if nobody needs it"),
    "unfinished": ("warning", "LocalStore.clean_temp() removes it, once nobody writes any more"),
}
"""What is looked for: how bad it is, and how it is repaired."""

MOST_ALIKE = 100
"""So many problems of one kind are listed of a node; the others are counted."""
BATCH = 1024
"""So many keys are looked at together."""

_TWO = (V3_DOCUMENT, V2_ARRAY, V2_GROUP)
_LEFTOVER = re.compile(r"\.partial$|\.__lock$|\.tmp$|^tmp[a-z0-9_]{8}$|\.zarr-tmp~$")
"""Names of files that writers of this and other libraries have not finished."""


def _format_of(document: str) -> int:
    return 3 if document == V3_DOCUMENT else 2


def verify_place(place: StorePath, *, data: bool) -> Report:
    """Look for what is wrong with a node and all below it; see `zarr_core.verify`."""
    return _Walk(place, data=data).run()


class _Found(NamedTuple):
    """A place with documents."""

    place: StorePath
    names: frozenset[str]
    """Of its documents."""
    parsed: dict[int, NodeMetadata]
    """What the documents of a format say, of those that can be parsed."""
    is_array: bool
    copies: dict[int, ConsolidatedMetadata]
    own: tuple[JSON, JSON]
    """In format 2: the attributes, and their copy in the consolidated metadata."""


@final
class _Walk:
    """One call of `verify`."""

    def __init__(self, place: StorePath, *, data: bool) -> None:
        self.place, self.store, self.data = place, place.store, data
        self.problems: list[Problem] = []
        self.alike: Counter[tuple[str, str]] = Counter()
        self.lock = ForkLock()  # chunks are decoded, and slow arrays listed, on several threads
        self.nodes: dict[str, _Found] = {}
        self.copied: dict[str, set[str]] = {}  # names with consolidated copies, by their group
        self.below_nothing: list[StorePath] = []

    def run(self) -> Report:
        level: list[tuple[_Found | None, StorePath]] = [(None, self.place)]
        counts = [(0, 0)]
        while level:
            found: list[_Found] = []
            for start in range(0, len(level), BATCH):
                found += self._nodes(level[start : start + BATCH])
            arrays = [node for node in found if node.is_array]
            counts += each(self._array, arrays, slow=self.store.high_latency)
            groups = [node for node in found if not node.is_array]
            level = [(None, place) for place in self.below_nothing]
            self.below_nothing = []
            for group, names in zip(
                groups,
                each(self._members, groups, slow=self.store.high_latency),
                strict=True,
            ):
                level += [(group, group.place.below(name)) for name in names]
        for node in self.nodes.values():
            self._copies(node)
        for key, age in self.store.unfinished(self.place.path):
            self._add("unfinished", "", key, f"a file that was begun {age:,.0f} s ago")
        for (kind, path), number in self.alike.items():
            if number > MOST_ALIKE:
                severity, repair = KINDS[kind]
                text = f"{number - MOST_ALIKE} more of this kind"
                self.problems.append(Problem(severity, kind, path, path, text, repair))
        self.problems.sort(key=lambda p: (p.node.split("/"), p.kind, p.key))
        chunks, nbytes = map(sum, zip(*counts, strict=True))
        return Report(tuple(self.problems), len(self.nodes), chunks, nbytes)

    def _add(self, kind: str, path: str, key: str, what: object) -> None:
        with self.lock:
            self.alike[kind, path] += 1
            if self.alike[kind, path] <= MOST_ALIKE:
                severity, repair = KINDS[kind]
                self.problems.append(Problem(severity, kind, path, key, str(what), repair))

    # --- documents ---------------------------------------------------------------------------------

    def _nodes(self, places: list[tuple[_Found | None, StorePath]]) -> Iterator[_Found]:
        """Yield those of some places, members of groups, that are nodes."""
        requests = [(parent, place, name) for parent, place in places for name in sorted(DOCUMENTS)]
        values: dict[str, dict[str, Value]] = {place.path: {} for _, place in places}
        unreadable = set()
        keys = (Request(place.key(name)) for _, place, name in requests)
        with closing(self.store.get_many(keys)) as results:
            for number, value, error in results:
                _, place, name = requests[number]
                if error is not None:
                    if _is_stop(error):
                        raise error
                    if not isinstance(error, NotADirectoryError):
                        self._add("unreadable", place.path, place.key(name), error)
                        unreadable.add(place.path)
                elif value is not None:
                    values[place.path][name] = value
        for parent, place in places:
            documents = values[place.path]
            if not documents.keys() & {*_TWO}:
                if V2_ATTRIBUTES in documents:
                    key = place.key(V2_ATTRIBUTES)
                    self._add("attributes", place.path, key, "attributes of no node")
                if place.path not in unreadable:
                    self._no_node(place)
                continue
            node = self._parse(place, documents)
            self.nodes[place.path] = node
            if parent is not None and not {*map(_format_of, documents)} & {
                *map(_format_of, parent.names)
            }:
                key = place.key(next(name for name in _TWO if name in documents))
                self._add("other-format", place.path, key, "not of the format of its group")
            yield node

    def _parse(self, place: StorePath, values: dict[str, Value]) -> _Found:
        documents: dict[str, JSON] = {}
        for name, value in values.items():
            try:
                documents[name] = load_json(value, DocumentAt(name, place))
            except BaseZarrError as error:
                self._add("metadata", place.path, place.key(name), error)
        if V3_DOCUMENT in values and values.keys() & {V2_ARRAY, V2_GROUP}:
            self._add(
                "two-formats", place.path, place.key(V3_DOCUMENT), "documents of both formats"
            )
        if V2_ARRAY in values and V2_GROUP in values:
            self._add("two-kinds", place.path, place.key(V2_ARRAY), "of an array and of a group")
        parsed: dict[int, NodeMetadata] = {}
        copies: dict[int, ConsolidatedMetadata] = {}
        own: JSON = None
        if (document := documents.get(V3_DOCUMENT)) is not None:
            inline = document.pop("consolidated_metadata", None)
            self._parsed(place, {V3_DOCUMENT: document}, parsed)
            if inline is not None:
                self._copied(place, V3_DOCUMENT, inline, copies)
        if V2_ATTRIBUTES in documents or V2_ATTRIBUTES not in values:
            attributes = {k: v for k, v in documents.items() if k == V2_ATTRIBUTES}
            for name in (V2_ARRAY, V2_GROUP):
                if name in documents:
                    self._parsed(place, {name: documents[name], **attributes}, parsed)
        if (document := documents.get(V2_CONSOLIDATED)) is not None and V2_GROUP in values:
            flat = document.get("metadata")
            own = flat.get(V2_ATTRIBUTES, {}) if isinstance(flat, dict) else None
            self._copied(place, V2_CONSOLIDATED, document, copies)
        kinds = [isinstance(metadata, ArrayMetadata) for metadata in parsed.values()]
        is_array = kinds[0] if kinds else self._seems_array(place, values, documents)
        own_pair = (documents.get(V2_ATTRIBUTES), own)
        return _Found(place, frozenset(values), parsed, is_array, copies, own_pair)

    def _parsed(
        self, place: StorePath, documents: dict[str, JSON], parsed: dict[int, NodeMetadata]
    ) -> None:
        name = next(iter(documents))
        try:
            parsed.setdefault(_format_of(name), parse_loaded(place, documents))
        except BaseZarrError as error:
            self._add("metadata", place.path, place.key(name), error)

    def _copied(
        self, place: StorePath, name: str, value: JSON, copies: dict[int, ConsolidatedMetadata]
    ) -> None:
        try:
            if name == V3_DOCUMENT:
                copies[3] = ConsolidatedMetadata.from_dict(value)
            else:
                copies[2] = parse_zmetadata(value, DocumentAt(name, place))
            for path in copies[_format_of(name)]._paths():
                parent, _, member = place.key(path).rpartition("/")
                self.copied.setdefault(parent, set()).add(member)
        except (BaseZarrError, AttributeError) as error:
            self._add("metadata", place.path, place.key(name), error)

    def _seems_array(
        self, place: StorePath, values: dict[str, Value], documents: dict[str, JSON]
    ) -> bool:
        """Return whether a node without a document that can be parsed is an array."""
        kind = documents.get(V3_DOCUMENT, {}).get("node_type")
        if kind in ("array", "group"):
            return bool(kind == "array")
        if V3_DOCUMENT not in values:
            return V2_ARRAY in values
        return b'"codecs"' in bytes(values[V3_DOCUMENT]) or self._looks_like_chunks(place)

    def _looks_like_chunks(self, place: StorePath) -> bool:
        start = len(place.key(""))
        keys = (key[start:] for key in self.store.list_prefix(place.path))
        return any(CHUNK_KEY.fullmatch(key) for key in keys)

    # --- keys --------------------------------------------------------------------------------------

    def _members(self, node: _Found) -> list[str]:
        """Return the names below a group that may be nodes, those with consolidated copies too."""
        place = node.place
        names = self.copied.pop(place.path, set())
        for name in self.store.list_dir(place.path):
            if "\\" in name:
                self._foreign(place.path, place.key(name))
            elif name not in DOCUMENTS:
                names.add(name)
        return sorted(names)

    def _no_node(self, place: StorePath) -> None:
        """Note what is at a place without documents, and look for nodes below it."""
        parent = place.path.rpartition("/")[0]
        if place.path and self.store.exists(place.path):
            self._foreign(parent, place.path)
            return
        nodes, others, chunks = set(), 0, 0
        for key in self.store.list_prefix(place.path):
            above, _, name = key.rpartition("/")
            if name in _TWO:
                nodes.add(above)
                continue
            others += key != place.key(V2_ATTRIBUTES)  # which was said already
            chunks += CHUNK_KEY.fullmatch(key.removeprefix(f"{place.path}/")) is not None
        if place is self.place and not nodes and not chunks:
            raise NodeNotFoundError(
                ": ".join([f"no array or group found in {place}", *there_instead(place)])
            )
        if nodes:
            text = f"no document of a group, but of {len(nodes)} nodes below"
            self._add("no-group", place.path, place.key(V3_DOCUMENT), text)
            top = (path for path in nodes if not any(path.startswith(f"{n}/") for n in nodes))
            self.below_nothing += [StorePath(self.store, path) for path in sorted(top)]
        elif chunks:
            text = f"no document of an array, but {chunks} keys like those of chunks"
            self._add("no-array", place.path, place.key(V3_DOCUMENT), text)
        elif others:
            self._add("foreign", parent, f"{place.path}/", f"{others} keys that belong to no node")

    def _foreign(self, path: str, key: str) -> None:
        if _LEFTOVER.search(key.rpartition("/")[2]):
            self._add("unfinished", path, key, "a name as those of values that are being written")
        else:
            self._add("foreign", path, key, "belongs to no node")

    def _array(self, node: _Found) -> tuple[int, int]:
        """Look at the keys of an array; return how many chunks were read, and bytes of them."""
        place = node.place
        arrays = [m for m in node.parsed.values() if isinstance(m, ArrayMetadata)]
        space = self._space(place, arrays[0]) if arrays else None
        if any(UNFINISHED in metadata.attributes for metadata in arrays):
            key = place.key(next(name for name in _TWO if name in node.names))
            self._add("unfinished-copy", place.path, key, "a copy that has not come to its end")
        start = len(place.key(""))
        batch: list[tuple[str, Coords]] = []
        chunks = nbytes = 0
        for key in self._keys(place, arrays):
            name = key[start:]
            if name in node.names and name != V2_CONSOLIDATED:
                continue
            decoded = [
                metadata.chunk_key_encoding.decode(name, metadata.ndim) for metadata in arrays
            ]
            coords = decoded[0] if decoded else None
            if coords is not None:
                counts = arrays[0].chunk_grid.counts
                if any(k >= n for k, n in zip(coords, counts, strict=True)):
                    self._add("outside", place.path, key, f"chunk {coords} of a grid of {counts}")
                else:
                    chunks += 1
                    batch.append((key, coords))
            elif key.rpartition("/")[2] in _TWO:
                self._add("inside-array", place.path, key, "a node below an array")
            elif decoded[-1] is None if arrays else not CHUNK_KEY.fullmatch(name):
                self._foreign(place.path, key)
            if len(batch) == BATCH:
                nbytes += self._decode(place, space, batch)
                batch = []
        return chunks, nbytes + self._decode(place, space, batch)

    def _keys(self, place: StorePath, arrays: list[ArrayMetadata]) -> Iterator[str]:
        """Yield the keys of an array; those that its chunks have where not even its document is listed.

        That is so for most servers of HTTP.
        """
        keys = iter(self.store.list_prefix(place.path))
        first = next(keys, None)
        if first is not None:
            yield first
            yield from keys
        elif arrays and self.data:
            metadata = arrays[0]
            for coords in metadata.chunk_grid.all_coords():
                yield place.key(metadata.encode_chunk_key(coords))

    # --- chunks ------------------------------------------------------------------------------------

    def _space(self, place: StorePath, metadata: ArrayMetadata) -> ChunkSpace | None:
        try:
            return make_state(place, metadata, ArrayConfig()).space
        except (BaseZarrError, ImportError) as error:
            name = V3_DOCUMENT if metadata.zarr_format == 3 else V2_ARRAY
            self._add("codec", place.path, place.key(name), error)
            return None

    def _decode(
        self, place: StorePath, space: ChunkSpace | None, batch: list[tuple[str, Coords]]
    ) -> int:
        """Decode chunks; return how many bytes they have."""
        if space is None or not batch or not self.data:
            return 0
        watched = space.watched("read", len(batch))
        sizes: list[int] = []

        def check(chunk: tuple[str, Coords]) -> None:
            key, coords = chunk
            try:
                for kind, what in self._chunk(watched, key, coords, sizes):
                    self._add(kind, place.path, key, what)
            except (OSError, CodecError, ImportError, MetadataValidationError) as error:
                if _is_stop(error):
                    raise
                kind = "codec" if isinstance(error, ImportError) else "unreadable"
                self._add(kind, place.path, key, error)

        loop.for_each(watched, check, batch, watched.fetch_cost)
        return sum(sizes)

    def _chunk(
        self, space: ChunkSpace, key: str, coords: Coords, sizes: list[int]
    ) -> Iterator[tuple[str, object]]:
        """Yield kinds of problems of a chunk, and what is wrong."""
        chain = space.chain_for(coords)
        if chain.partial is not None:
            reader = space.store.open_value(key)
            if reader is not None:
                with closing(reader):
                    sizes.append(reader.size or 0)
                    try:
                        for what in chain.partial.check(reader):
                            yield "inner-chunk", what
                    except CodecError as error:
                        yield "shard-index", error
                return
        else:
            data = space.store.get(key)
            if data is not None:
                sizes.append(len(data))
                try:
                    chain.decode(data)
                except Exception as error:
                    if _is_stop(error) or isinstance(error, ImportError):
                        raise
                    blamed = chain.blame(data)
                    yield "chunk", f"codec {blamed!r} cannot decode {len(data)} bytes: {error}"
                return
        if key in set(self.store.list_prefix(key.rpartition("/")[0])):  # it is still there
            yield "unreadable", "there is a key, and no value: perhaps a link that leads nowhere"

    # --- consolidated metadata ---------------------------------------------------------------------

    def _copies(self, node: _Found) -> None:
        """Compare the copies that a group has with the documents of the nodes below it."""
        place = node.place
        for zarr_format, copies in node.copies.items():
            key = place.key(V3_DOCUMENT if zarr_format == 3 else V2_CONSOLIDATED)
            start = len(place.key(""))
            below = {
                path[start:]: other.parsed[zarr_format]
                for path, other in self.nodes.items()
                if path.startswith(place.key("")) and path != place.path
                if zarr_format in other.parsed
            }
            attributes, own = node.own
            if zarr_format == 2 and own is not None and _text(own) != _text(attributes or {}):
                self._add(
                    "stale", place.path, key, "the copy of the group's own attributes differs"
                )
            for path in sorted({*below, *copies._paths()}):
                try:
                    copy = copies.get(path)
                except BaseZarrError as error:
                    self._add("stale", place.path, key, error)
                    continue
                stored = below.get(path)
                if copy is None:
                    self._add("stale", place.path, key, f"there is no copy of {path!r}")
                elif stored is None:
                    if place.key(path) not in self.nodes:  # otherwise that was said already
                        self._add("stale", place.path, key, f"there is no node {path!r} any more")
                elif _normal(copy) != _normal(stored):
                    self._add("stale", place.path, key, f"the copy of {path!r} differs from it")


def _normal(metadata: NodeMetadata) -> str:
    document = metadata.to_dict()
    document.pop(
        "consolidated_metadata", None
    )  # zarr-python writes it into copies of format 2, too
    return _text(document)


def _text(value: JSON) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _is_stop(error: BaseException) -> bool:
    """Return whether an error is about the call, not about what is stored."""
    return isinstance(error, StoppedError | OperationTimeoutError | MemoryError)
