"""`verify` finds every kind of damage, and nothing where there is none."""

import asyncio
import json
import shutil
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.codecs import Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr_core.errors import NodeNotFoundError, OperationTimeoutError
from zarr_core.storage import (
    LatencyStore,
    LocalStore,
    MemoryStore,
    PrefixStore,
    StorePath,
    ZipStore,
)
from zarr_core.storage.wrappers import OneByOneStore
from zarr_core.verifying import KINDS, MOST_ALIKE

DOCS = Path(__file__).parent.parent / "docs"


def write_hierarchy(store: Any) -> None:
    """Write a bit of everything, in format 3 and below `two` in format 2."""
    values = np.arange(400.0).reshape(20, 20)
    root = zarr.create_group(store, attributes={"title": "root"})
    zstd: Any = [ZstdCodec(), Crc32cCodec()]
    root.create_array("g/plain", data=values, chunks=(5, 10))
    root.create_array("g/raw", data=values, chunks=(5, 10), compressors=None)
    root.create_array("g/gzip", data=values, chunks=(5, 10), compressors=GzipCodec())
    root.create_array("g/summed", data=values, chunks=(5, 10), compressors=zstd)
    root.create_array("g/sharded", data=values, chunks=(5, 5), shards=(10, 10))
    inner = ShardingCodec(chunk_shape=(2, 5), codecs=[*_bytes(), Crc32cCodec()])
    root.create_array(
        "g/nested",
        data=values,
        chunks=(20, 20),
        serializer=ShardingCodec(chunk_shape=(10, 10), codecs=[inner]),
        compressors=None,
    )
    root.create_array("g/text", data=np.array(["a", "bc", ""] * 4, np.dtypes.StringDType()))
    root.create_array("g/flat", data=values, chunks=(5, 10), chunk_key_encoding="v2")
    root.create_array("g/empty", shape=(0, 5), chunks=(1, 5), dtype="i2")
    root.create_array("scalar", data=np.array(7))
    old = zarr.create_group(store, path="two", zarr_format=2, attributes={"title": "old"})
    old.create_array("a", data=values, chunks=(5, 10), attributes={"units": "K"})
    old.create_array("h/b", data=np.arange(9), chunks=(2,))
    old.create_array("h/c", data=np.array(7))


def _bytes() -> list[Any]:
    from zarr_core.codecs import BytesCodec

    return [BytesCodec()]


def edit(path: Path, **fields: Any) -> None:
    document = json.loads(path.read_text())
    document.update(fields)
    path.write_text(json.dumps({k: v for k, v in document.items() if v is not ...}))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def cut(path: Path, by: int = 3) -> None:
    path.write_bytes(path.read_bytes()[:-by])


def reindex(path: Path, *entries: int) -> None:
    """Change the beginning of the index of a shard of 4 inner chunks; its checksum is right."""
    import crc32c

    data = path.read_bytes()
    index = struct.pack(f"<{len(entries)}Q", *entries) + data[-68 + 8 * len(entries) : -4]
    path.write_bytes(data[:-68] + index + struct.pack("<I", crc32c.crc32c(index)))


def consolidated(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(str(path))


def stale_copy(root: Path) -> None:
    consolidated(root / "g")
    edit(root / "g/plain/zarr.json", shape=[25, 20])


def stale_missing(root: Path) -> None:
    consolidated(root / "g")
    zarr.create_array(str(root), name="g/new", shape=(3,), dtype="i1")


def stale_gone(root: Path) -> None:
    consolidated(root / "g")
    LocalStore(root).delete_dir("g/gzip")


def stale_damaged(root: Path) -> None:
    consolidated(root / "g")
    document = json.loads((root / "g/zarr.json").read_text())
    document["consolidated_metadata"]["metadata"]["gzip"]["shape"] = "?"
    (root / "g/zarr.json").write_text(json.dumps(document))


def stale_v2(root: Path) -> None:
    consolidated(root / "two")
    edit(root / "two/a/.zattrs", units="°C")


def stale_v2_root(root: Path) -> None:
    consolidated(root / "two")
    edit(root / "two/.zattrs", title="newer")


def damaged_copies(root: Path) -> None:
    consolidated(root / "two")
    (root / "two/.zmetadata").write_text('{"metadata": 1}')


def unnumbered(root: Path) -> None:
    document = json.loads((root / "g/zarr.json").read_text())
    document["consolidated_metadata"] = {"kind": "elsewhere"}
    (root / "g/zarr.json").write_text(json.dumps(document))


def dangling(root: Path) -> None:
    (root / "g/raw/c/1/1").unlink()
    (root / "g/raw/c/1/1").symlink_to(root / "nowhere")


def directory(root: Path) -> None:
    (root / "g/flat/1.1").unlink()
    (root / "g/flat/1.1/x").mkdir(parents=True)


def write(name: str, text: bytes = b"?") -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text)

    return damage


def field(name: str, **fields: Any) -> Callable[[Path], None]:
    return lambda root: edit(root / name, **fields)


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


DAMAGE: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    # what is done, the kind of problem, the key
    "a document that ends early": (
        lambda root: cut(root / "g/plain/zarr.json"),
        *("metadata", "g/plain/zarr.json"),
    ),
    "an empty document": (write("g/zarr.json", b""), "metadata", "g/zarr.json"),
    "no UTF-8": (write("g/raw/zarr.json", b'{"a": "\xff"}'), "metadata", "g/raw/zarr.json"),
    "a list": (write("g/raw/zarr.json", b"[]"), "metadata", "g/raw/zarr.json"),
    "a missing field": (field("g/raw/zarr.json", shape=...), "metadata", "g/raw/zarr.json"),
    "a negative length": (field("g/raw/zarr.json", shape=[-1, 3]), "metadata", "g/raw/zarr.json"),
    "another format": (field("g/raw/zarr.json", zarr_format=4), "metadata", "g/raw/zarr.json"),
    "no kind of node": (field("g/zarr.json", node_type="table"), "metadata", "g/zarr.json"),
    "a wrong fill value": (field("g/raw/zarr.json", fill_value="x"), "metadata", "g/raw/zarr.json"),
    "an unknown field": (field("g/raw/zarr.json", new={"a": 1}), "metadata", "g/raw/zarr.json"),
    "an unknown codec": (
        field("g/raw/zarr.json", codecs=[{"name": "bytes"}, {"name": "secret"}]),
        *("codec", "g/raw/zarr.json"),
    ),
    "an unknown data type": (
        field("g/raw/zarr.json", data_type="int3"),
        "codec",
        "g/raw/zarr.json",
    ),
    "attributes of format 2": (write("two/a/.zattrs", b"{"), "metadata", "two/a/.zattrs"),
    "an array of format 2": (field("two/a/.zarray", order="X"), "metadata", "two/a/.zarray"),
    "an array that is a group": (
        write("two/a/.zgroup", b'{"zarr_format": 2}'),
        *("two-kinds", "two/a/.zarray"),
    ),
    "both formats": (write("g/.zgroup", b'{"zarr_format": 2}'), "two-formats", "g/zarr.json"),
    "a member of the other format": (
        write("g/x/.zgroup", b'{"zarr_format": 2}'),
        *("other-format", "g/x/.zgroup"),
    ),
    "attributes alone": (write("two/x/.zattrs", b"{}"), "attributes", "two/x/.zattrs"),
    "a lost group": (remove("g/zarr.json"), "no-group", "g/zarr.json"),
    "a lost root": (remove("zarr.json"), "no-group", "zarr.json"),
    "a lost array": (remove("g/plain/zarr.json"), "no-array", "g/plain/zarr.json"),
    "a lost array of format 2": (remove("two/a/.zarray"), "no-array", "two/a/zarr.json"),
    "a node in an array": (
        write("g/raw/x/zarr.json", b'{"zarr_format": 3, "node_type": "group"}'),
        *("inside-array", "g/raw/x/zarr.json"),
    ),
    "a file in an array": (write("g/raw/notes.txt"), "foreign", "g/raw/notes.txt"),
    "a file in a group": (write("g/notes.txt"), "foreign", "g/notes.txt"),
    "files in a group": (write("g/.git/HEAD"), "foreign", "g/.git/"),
    "a chunk outside": (write("g/raw/c/4/0", bytes(400)), "outside", "g/raw/c/4/0"),
    "a chunk of other dimensions": (write("g/raw/c/1/1.1"), "foreign", "g/raw/c/1/1.1"),
    "another separator": (write("two/a/1/1"), "foreign", "two/a/1/1"),
    "a chunk that ends early": (lambda root: cut(root / "g/gzip/c/1/1"), "chunk", "g/gzip/c/1/1"),
    "an empty chunk": (write("g/plain/c/1/1", b""), "chunk", "g/plain/c/1/1"),
    "zeros": (write("two/a/1.1", bytes(100)), "chunk", "two/a/1.1"),
    "a chunk of another size": (write("g/raw/c/1/1", bytes(408)), "chunk", "g/raw/c/1/1"),
    "a checksum": (lambda root: flip(root / "g/summed/c/1/1", -1), "chunk", "g/summed/c/1/1"),
    "bits that changed": (lambda root: flip(root / "g/summed/c/1/1", 9), "chunk", "g/summed/c/1/1"),
    "text": (lambda root: cut(root / "g/text/c/0"), "chunk", "g/text/c/0"),
    "a scalar": (write("scalar/c", b"no"), "chunk", "scalar/c"),
    "a link that leads nowhere": (dangling, "unreadable", "g/raw/c/1/1"),
    "the checksum of an index": (
        lambda root: flip(root / "g/sharded/c/0/1", -9),
        *("shard-index", "g/sharded/c/0/1"),
    ),
    "a shard that is too short": (write("g/sharded/c/0/1"), "shard-index", "g/sharded/c/0/1"),
    "an index that leads outside": (
        lambda root: reindex(root / "g/sharded/c/0/1", 1 << 40, 10),
        *("shard-index", "g/sharded/c/0/1"),
    ),
    "inner chunks that overlap": (
        lambda root: reindex(root / "g/sharded/c/0/1", *[0, 150] * 4),
        *("shard-index", "g/sharded/c/0/1"),
    ),
    "an inner chunk": (
        lambda root: flip(root / "g/sharded/c/0/1", 2),
        *("inner-chunk", "g/sharded/c/0/1"),
    ),
    "an inner chunk of an inner chunk": (
        lambda root: flip(root / "g/nested/c/0/0", 2),
        *("inner-chunk", "g/nested/c/0/0"),
    ),
    "what a killed writer left": (
        write("g/raw/c/0/0a1b-3.zarr-tmp~"),
        *("unfinished", "g/raw/c/0/0a1b-3.zarr-tmp~"),
    ),
    "what a killed zarr-python left": (
        write("g/raw/c/0/0.0f3d.partial"),
        *("unfinished", "g/raw/c/0/0.0f3d.partial"),
    ),
    "a copy that was killed": (
        field("g/raw/zarr.json", attributes={"zarr_core_unfinished": "?"}),
        *("unfinished-copy", "g/raw/zarr.json"),
    ),
    "a copy that differs": (stale_copy, "stale", "g/zarr.json"),
    "a copy that is missing": (stale_missing, "stale", "g/zarr.json"),
    "a copy of nothing": (stale_gone, "stale", "g/zarr.json"),
    "a damaged copy": (stale_damaged, "stale", "g/zarr.json"),
    "damaged copies": (unnumbered, "metadata", "g/zarr.json"),
    "a copy of format 2": (stale_v2, "stale", "two/.zmetadata"),
    "a copy of attributes": (stale_v2_root, "stale", "two/.zmetadata"),
    "damaged copies of format 2": (damaged_copies, "metadata", "two/.zmetadata"),
}
ALSO = {"a lost array of format 2", "a copy that differs"}
"""Damage from which something else follows."""
WITH_DATA = {"chunk", "inner-chunk", "shard-index", "unreadable"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole")
    write_hierarchy(str(path))
    return path


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def expected(root: Path) -> list[tuple[str, str]]:
    """Return what is found in the undamaged hierarchy: a part of it is of the other format."""
    return [("other-format", "two/.zgroup")] if (root / "zarr.json").exists() else []


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(root: Path, name: str) -> None:
    damage, kind, key = DAMAGE[name]
    damage(root)
    report = zarr.verify(str(root))
    found = [(problem.kind, problem.key) for problem in report.problems]
    assert (kind, key) in found, report
    if name not in ALSO:
        assert sorted({*found}) == sorted([(kind, key), *expected(root)])
    (severity,) = {problem.severity for problem in report.problems if problem.kind == kind}
    assert severity == KINDS[kind][0]
    without = [
        (problem.kind, problem.key) for problem in zarr.verify(str(root), data=False).problems
    ]
    assert without == [pair for pair in found if pair[0] not in WITH_DATA]


def test_there_are_more_than_25_kinds_of_damage_and_one_of_each_kind_of_problem() -> None:
    assert len(DAMAGE) >= 25
    assert {kind for _, kind, _ in DAMAGE.values()} == set(KINDS)


def test_nothing_is_found_where_nothing_is_wrong(store: Any) -> None:
    write_hierarchy(store)
    for path in ("", "two"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(store, path=path)
    report = zarr.verify(store)
    assert [(p.kind, p.key) for p in report.problems] == [("other-format", "two/.zgroup")]
    assert report.errors == ()
    assert (report.nodes, report.chunks) == (17, 61)
    assert zarr.verify(store, path="two").problems == ()
    assert asyncio.run(zarr.verify_async(store)) == report


def test_an_array_a_group_a_path_and_a_zip_file_can_be_looked_at(tmp_path: Path) -> None:
    store = MemoryStore()
    write_hierarchy(store)
    array = zarr.open_array(store, path="g/plain")
    for report in (zarr.verify(array), zarr.verify(store, path="g/plain")):
        assert report[1:3] == (1, 8)
        assert not report.problems
    assert zarr.verify(zarr.open_group(store, path="g")).nodes == 10
    assert zarr.verify(StorePath(store, "g/sharded")).nbytes == sum(
        len(store.get(f"g/sharded/c/{i}/{j}") or b"") for i in range(2) for j in range(2)
    )
    with ZipStore(tmp_path / "x.zip", mode="w") as zipped:
        zarr.copy_store(store, zipped)
    assert zarr.verify(tmp_path / "x.zip", path="g").problems == ()


def test_nothing_to_look_at_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("?")
    for place in (tmp_path, tmp_path / "missing", {}):
        with pytest.raises(NodeNotFoundError, match="no array or group found"):
            zarr.verify(place)


def test_a_chunk_that_may_not_be_read(root: Path) -> None:
    class Forbidding(LatencyStore[LocalStore]):
        def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
            if args[:1] == ("g/raw/c/1/1",):
                raise PermissionError("not for you")
            return super()._do(method, *args, **kwargs)

    store = Forbidding(LocalStore(root))
    for place in (store, store.with_read_only(True)):
        (problem,) = zarr.verify(place, path="g").problems
        assert (problem.kind, problem.key) == ("unreadable", "g/raw/c/1/1")
        assert "not for you" in problem.what


def test_what_a_killed_writer_left_is_found_through_stores_around_a_store(root: Path) -> None:
    write("g/raw/c/0/0a1b-3.zarr-tmp~")(root)
    (problem,) = zarr.verify(PrefixStore(LocalStore(root), "g"), data=False).problems
    assert (problem.kind, problem.key) == ("unfinished", "raw/c/0/0a1b-3.zarr-tmp~")
    assert zarr.verify(PrefixStore(LocalStore(root), "g/gzip"), data=False).problems == ()


class Unlisted(OneByOneStore[MemoryStore]):
    """A store that lists nothing, as most servers of HTTP."""

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return iter(()) if method.startswith("list") else super()._do(method, *args, **kwargs)


def test_where_nothing_is_listed_consolidated_copies_say_what_there_is() -> None:
    store = MemoryStore()
    write_hierarchy(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(store, path="g")
    report = zarr.verify(Unlisted(store), path="g")
    assert report.problems == ()
    assert report.nodes == 10
    assert report.nbytes == zarr.verify(store, path="g").nbytes
    store.set("g/raw/c/1/1", b"?")
    store.delete("g/gzip/zarr.json")
    found = [(p.kind, p.key) for p in zarr.verify(Unlisted(store), path="g").problems]
    assert found == [("stale", "g/zarr.json"), ("chunk", "g/raw/c/1/1")]


def test_problems_that_are_alike_are_counted() -> None:
    store = MemoryStore()
    zarr.create_array(store, shape=(10,), chunks=(1,), dtype="i1")
    for number in range(10, 150):
        store.set(f"c/{number}", b"?")
    report = zarr.verify(store)
    assert len(report.problems) == MOST_ALIKE + 1
    assert any(problem.what == "40 more of this kind" for problem in report.problems)


def test_a_report_is_shown(root: Path) -> None:
    (root / "g/raw/<b>").write_text("?")
    report = zarr.verify(str(root), path="g")
    assert repr(report).splitlines()[:2] == [
        "10 nodes, 46 chunks: 0 errors, 1 warnings",
        "warning (foreign) g/raw/<b>: belongs to no node",
    ]
    assert "<td>g/raw/&lt;b&gt;</td>" in report._repr_html_()


def test_chunks_are_observed_and_time_is_limited(root: Path) -> None:
    seen = []
    with zarr.on_chunk(lambda *chunk: seen.append(chunk)):
        report = zarr.verify(str(root))
    assert len(seen) == report.chunks
    assert sum(nbytes for _, _, nbytes in seen) == report.nbytes
    with pytest.raises(OperationTimeoutError), zarr.timeout(0):
        zarr.verify(str(root))


def test_few_inner_chunks_are_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarr_core.chunks.sharding.CHECKED_BYTES", 100)
    store = MemoryStore()
    write_hierarchy(store)
    value = bytearray(store.get("g/sharded/c/0/1") or b"")
    offsets = struct.unpack("<8Q", value[-68:-4])[::2]
    for offset in offsets:
        value[offset] ^= 0xFF
    store.set("g/sharded/c/0/1", value)
    found = zarr.verify(store, path="g/sharded").problems
    assert [p.what.partition(":")[0] for p in found] == [
        f"inner chunk {coords}" for coords in [(0, 0), (0, 1), (1, 0), (1, 1)]
    ]


def test_the_documentation_names_every_kind() -> None:
    page = (DOCS / "verify.md").read_text("utf-8")
    rows = [line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("| `")]
    assert rows == list(KINDS)
