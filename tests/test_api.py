"""The functions at the top level: names, parameters, modes, errors and formats as users know them."""

import asyncio
import importlib.util
import inspect
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.errors import (
    ArrayNotFoundError,
    ContainsArrayError,
    ContainsGroupError,
    GroupNotFoundError,
    NodeNotFoundError,
    NodeTypeValidationError,
    ReadOnlyError,
)
from zarr_core.storage import LoggingStore, MemoryStore, StorePath, ZipStore

MODES = ("r", "r+", "a", "w", "w-")

# Names of zarr-python 3.4.2 and their parameters without annotations; `=` marks a default.
FUNCTIONS = {
    "array": "data **kwargs",
    "consolidate_metadata": "store path=None zarr_format=None",
    "create": "shape * chunks=None dtype=None compressor='auto' fill_value= order=None store=None "
    "synchronizer=None overwrite=False path=None chunk_store=None filters= cache_metadata=None "
    "cache_attrs=None read_only=None object_codec=None dimension_separator=None "
    "write_empty_chunks=None zarr_format=None meta_array=None attributes=None chunk_shape=None "
    "chunk_key_encoding=None codecs=None dimension_names=None storage_options=None config=None "
    "mode=None data=None",
    "create_array": "store * name=None shape=None dtype=None data=None chunks='auto' shards=None "
    "filters='auto' compressors='auto' serializer='auto' fill_value= order=None zarr_format=3 "
    "attributes=None chunk_key_encoding=None dimension_names=None storage_options=None "
    "overwrite=False config=None write_data=True",
    "create_group": "store * path=None zarr_format=None overwrite=False attributes=None "
    "storage_options=None",
    "create_hierarchy": "* store nodes overwrite=False",
    "empty": "shape **kwargs",
    "empty_like": "a * zarr_format=None **kwargs",
    "from_array": "store * data write_data=True name=None chunks='keep' shards='keep' "
    "filters='keep' compressors='keep' serializer='keep' fill_value= order=None zarr_format=None "
    "attributes=None chunk_key_encoding=None dimension_names=None storage_options=None "
    "overwrite=False config=None",
    "full": "shape fill_value **kwargs",
    "full_like": "a * zarr_format=None **kwargs",
    "group": "store=None * overwrite=False chunk_store=None cache_attrs=None synchronizer=None "
    "path=None zarr_format=None meta_array=None attributes=None storage_options=None",
    "load": "store path=None zarr_format=None",
    "ones": "shape **kwargs",
    "ones_like": "a * zarr_format=None **kwargs",
    "open": "store=None * mode=None zarr_format=None path=None storage_options=None config=None "
    "**kwargs",
    "open_array": "store=None * zarr_format=None path='' storage_options=None config=None **kwargs",
    "open_consolidated": "*args use_consolidated=True **kwargs",
    "open_group": "store=None * mode= cache_attrs=None synchronizer=None path=None chunk_store=None "
    "storage_options=None zarr_format=None meta_array=None attributes=None use_consolidated=None",
    "open_like": "a path * zarr_format=None **kwargs",
    "print_debug_info": "",
    "save": "store *args zarr_format=None path=None storage_options=None **kwargs",
    "save_array": "store arr * zarr_format=None path=None storage_options=None **kwargs",
    "save_group": "store *args zarr_format=None path=None storage_options=None **kwargs",
    "set_format": "log_format",
    "set_log_level": "level",
    "tree": "grp expand=None level=None",
    "zeros": "shape **kwargs",
    "zeros_like": "a * zarr_format=None **kwargs",
    # as zarr 2 had them
    "copy": "source dest name=None shallow=False without_attrs=False log=None if_exists='raise' "
    "dry_run=False **create_kws",
    "copy_all": "source dest shallow=False without_attrs=False log=None if_exists='raise' "
    "dry_run=False **create_kws",
    "copy_store": "source dest source_path='' dest_path='' excludes=None includes=None flags=0 "
    "if_exists='raise' dry_run=False log=None",
}
ADDED = {  # parameters that zarr-python takes through **kwargs, or not at all
    "copy": {"max_bytes", "executor"},
    "copy_all": {"max_bytes", "executor"},
    "create": {"shards", "compressors", "serializer"},
    "open": {"allow_pickle"},
    "open_array": {"allow_pickle", "mode"},
    "full_like": {"fill_value"},
    "open_consolidated": {"store"},
}
WITHOUT_TWIN = {"print_debug_info", "set_format", "set_log_level"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters(name: str) -> None:
    found = inspect.signature(getattr(zarr, name)).parameters
    added = ADDED.get(name, set())
    expected: dict[str, str | None] = {}
    for word in FUNCTIONS[name].split():
        key, equals, default = word.partition("=")
        if not key.startswith("*"):
            expected[key] = default if equals else None
    assert set(found) - added - {"args", "kwargs", "create_kws"} == set(expected)
    assert list(expected) == [key for key in found if key in expected]  # in their order
    for key, default in expected.items():
        parameter = found[key]
        if default is None:
            assert parameter.default is parameter.empty or name == "create"
        else:
            assert parameter.default is not parameter.empty
            assert default in ("", repr(parameter.default))
    keyword_only = " * " in f" {FUNCTIONS[name]} " and FUNCTIONS[name].split("* ")[-1].split()
    for word in keyword_only or ():
        if "**" not in word:
            assert found[word.partition("=")[0]].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.skipif(importlib.util.find_spec("zarr") is None, reason="zarr-python is not installed")
def test_the_peer_has_the_names_listed_here() -> None:
    import zarr as peer

    classes = {"Array", "AsyncArray", "AsyncGroup", "Group", "config", "__version__"}
    assert set(peer.__all__) == set(FUNCTIONS) - {"set_format", "set_log_level"} | classes
    assert set(peer.__all__) <= set(zarr.__all__)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - WITHOUT_TWIN))
def test_every_function_that_touches_a_store_has_a_twin(name: str) -> None:
    twin = getattr(zarr, f"{name}_async")
    assert inspect.iscoroutinefunction(twin)
    assert inspect.signature(twin) == inspect.signature(getattr(zarr, name))


def test_every_public_name_exists() -> None:
    assert all(hasattr(zarr, name) for name in zarr.__all__)
    assert set(FUNCTIONS) | {"Array", "Group", "config", "__version__"} <= set(zarr.__all__)
    assert zarr.__version__.startswith("3.")
    for module in ("codecs", "dtype", "errors", "registry", "storage", "types"):
        assert hasattr(zarr, module)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        zarr.nothing  # type: ignore[attr-defined]


# --- open ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("path", [None, "a/b"])
def test_open_returns_what_is_there(store: Any, zarr_format: Any, path: str | None) -> None:
    zarr.create_group(store, path=path, zarr_format=zarr_format, attributes={"n": 1})
    zarr.create_array(store, name=f"{path or ''}/x", data=np.arange(3), zarr_format=zarr_format)
    for mode in (None, "r", "r+", "a"):
        group = zarr.open(store, mode=mode, path=path)
        assert isinstance(group, zarr.Group)
        assert group.attrs["n"] == 1
        assert group.metadata.zarr_format == zarr_format
        assert group.read_only == (mode == "r")
        array = zarr.open(store, mode=mode, path=f"{path or ''}/x")
        assert isinstance(array, zarr.Array)
        assert array[:].tolist() == [0, 1, 2]
    assert zarr.open(store, path=path, zarr_format=zarr_format) == zarr.open_group(store, path=path)


def test_open_creates_as_the_mode_says(store: Any) -> None:
    assert isinstance(zarr.open(store, path="g"), zarr.Group)
    assert isinstance(zarr.open(store, path="x", shape=3, dtype="i1"), zarr.Array)
    assert isinstance(zarr.open(store, path="y", mode="w-", shape=3, dtype="i1"), zarr.Array)
    assert isinstance(zarr.open(store, path="h", mode="w-"), zarr.Group)
    with pytest.raises(ContainsGroupError):
        zarr.open(store, path="g", shape=3)
    with pytest.raises(FileExistsError):
        zarr.open(store, path="h", mode="w-")
    assert isinstance(zarr.open(store, path="h", mode="w", shape=2), zarr.Array)
    assert isinstance(zarr.open(store, path="h", mode="w"), zarr.Group)


@pytest.mark.parametrize("function", ["open", "open_array", "open_group"])
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_missing_node_is_a_missing_file(store: Any, function: str, mode: str) -> None:
    for error in (FileNotFoundError, ValueError, NodeNotFoundError):
        with pytest.raises(error):
            getattr(zarr, function)(store, mode=mode)
    assert list(store.list()) == []


def test_a_missing_directory_is_a_missing_file(tmp_path: Path) -> None:
    for call in (zarr.open, zarr.open_array, zarr.open_group, zarr.load):
        options = {} if call is zarr.load else {"mode": "r"}
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "nothing", **options)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_open_array_on_a_group(zarr_format: Any) -> None:
    store = zarr.create_group({}, zarr_format=zarr_format).store
    for mode in ("r", "r+", "a"):
        with pytest.raises(ArrayNotFoundError) as found:
            zarr.open_array(store, mode=mode)
        assert isinstance(found.value, NodeTypeValidationError)
    with pytest.raises(ContainsGroupError):
        zarr.open_array(store, shape=3)
    with pytest.raises(FileExistsError):
        zarr.open_array(store, mode="w-", shape=3)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_open_group_on_an_array(zarr_format: Any) -> None:
    store = zarr.create_array({}, shape=3, dtype="i1", zarr_format=zarr_format).store
    for mode in ("r", "r+", "a"):
        with pytest.raises(ContainsArrayError):
            zarr.open_group(store, mode=mode)
    for mode in ("r", "r+"):
        with pytest.raises(GroupNotFoundError):
            zarr.open_group(store, mode=mode)
    with pytest.raises(FileExistsError):
        zarr.open_group(store, mode="w-")
    assert zarr.open_group(store, mode="w").metadata.node_type == "group"


def test_bad_modes_and_formats() -> None:
    for call in (zarr.open, zarr.open_group, zarr.open_array):
        with pytest.raises(ValueError, match="Invalid mode: "):
            call({}, mode="x")
    for call in (zarr.create_group, zarr.group):
        with pytest.raises(ValueError, match="format"):
            call({}, zarr_format=1)
    with pytest.raises(ValueError, match="format"):
        zarr.create_array({}, shape=3, dtype="i1", zarr_format=4)


def test_a_read_only_store() -> None:
    store = MemoryStore(read_only=True)
    for call in (
        lambda: zarr.create_group(store),
        lambda: zarr.create_array(store, shape=3, dtype="i1"),
        lambda: zarr.open_group(store, mode="w"),
        lambda: zarr.save(store, np.arange(3)),
    ):
        with pytest.raises(ReadOnlyError):
            call()
    with pytest.raises(FileNotFoundError):
        zarr.open_group(store)


def test_storage_options_belong_to_fsspec() -> None:
    with pytest.raises(TypeError, match="storage_options"):
        zarr.open_group({}, storage_options={"a": 1})


# --- formats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [2, 3])
@pytest.mark.parametrize("mode", ["r", "r+", "a"])
def test_the_format_is_detected(store: Any, there: Any, mode: str) -> None:
    zarr.create_array(store, name="g/x", shape=3, dtype="i1", zarr_format=there)
    before = set(store.list())
    for asked in (None, there):
        assert zarr.open_group(store, mode=mode, zarr_format=asked).metadata.zarr_format == there
        array = zarr.open_array(store, path="g/x", mode=mode, zarr_format=asked)
        assert array.metadata.zarr_format == there
    assert set(store.list()) == before


@pytest.mark.parametrize("there", [2, 3])
def test_a_second_format_is_never_created_beside_the_first(store: Any, there: Any) -> None:
    zarr.create_array(store, name="x", shape=3, dtype="i1", zarr_format=there)
    before = set(store.list())
    other = 5 - there
    for call in (
        lambda: zarr.open_group(store, zarr_format=other),
        lambda: zarr.group(store, zarr_format=other),
        lambda: zarr.create_group(store, zarr_format=other),
        lambda: zarr.create_group(store, path="x", zarr_format=other),
        lambda: zarr.open_array(store, path="x", shape=3, zarr_format=other),
        lambda: zarr.create_array(store, name="x", shape=3, dtype="i1", zarr_format=other),
        lambda: zarr.open(store, path="x", shape=3, zarr_format=other),
    ):
        with pytest.raises(FileExistsError):
            call()
    with pytest.raises(FileNotFoundError):
        zarr.open_group(store, mode="r", zarr_format=other)
    assert set(store.list()) == before
    for path in ("x", ""):
        zarr.open_group(store, path=path, mode="w", zarr_format=other)
        names = {key.rpartition("/")[2] for key in store.list()}
    assert names == {".zgroup" if other == 2 else "zarr.json"}


def test_the_default_format(store: Any) -> None:
    with zarr.config.set({"default_zarr_format": 2}):
        assert zarr.create_group(store).metadata.zarr_format == 2
        assert zarr.create(3, store=store, path="x").metadata.zarr_format == 2
    assert zarr.create_group(store, path="g").metadata.zarr_format == 3


def test_format_3_has_no_implicit_groups(store: Any) -> None:
    zarr.create_array(store, name="a/b/x", shape=3, dtype="i1")
    assert {key for key in store.list() if key.endswith("zarr.json")} == {
        "zarr.json", "a/zarr.json", "a/b/zarr.json", "a/b/x/zarr.json",
    }  # fmt: skip
    store.delete("a/zarr.json")
    root = zarr.open_group(store)
    assert "a" not in root
    assert list(root.members(None)) == []
    with pytest.raises(GroupNotFoundError):
        zarr.open_group(store, path="a", mode="r")


# --- groups, saving and loading --------------------------------------------------------------------


def test_group(store: Any) -> None:
    zarr.group(store, attributes={"n": 1}).create_group("g")
    assert list(zarr.group(store)) == ["g"]
    assert list(zarr.group(store, overwrite=True)) == []
    assert zarr.group().store != zarr.group().store
    assert zarr.group(store, path="a/b").path == "a/b"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_save_and_load(tmp_path: Path, zarr_format: Any) -> None:
    one, two = np.arange(5), np.linspace(0, 1, 4).reshape(2, 2)
    place = tmp_path / "one"
    zarr.save(place, one, zarr_format=zarr_format)
    assert zarr.open(place).metadata.zarr_format == zarr_format
    np.testing.assert_array_equal(zarr.load(place), one)
    zarr.save(place, one, two=two, zarr_format=zarr_format)  # replaces what is there
    loaded = zarr.load(place)
    assert list(loaded) == ["arr_0", "two"]
    np.testing.assert_array_equal(loaded["arr_0"], one)
    np.testing.assert_array_equal(loaded["two"], two)
    np.testing.assert_array_equal(zarr.load(place, path="two"), two)
    zarr.save_array(place, [1, 2], path="sub/list", chunks=1, zarr_format=zarr_format)
    assert zarr.open(place)["sub/list"].chunks == (1,)
    zarr.save_group(place, two, path="sub", zarr_format=zarr_format)
    assert list(zarr.open_group(place, path="sub")) == ["arr_0"]
    for call in (zarr.save, zarr.save_group):
        with pytest.raises(ValueError, match="at least one"):
            call(place)


def test_save_to_a_zip_file(tmp_path: Path) -> None:
    zarr.save(tmp_path / "a.zip", np.arange(3), b=np.arange(2))
    assert zarr.load(tmp_path / "a.zip")["b"].tolist() == [0, 1]
    with ZipStore(tmp_path / "b.zip", mode="w") as store:
        zarr.save_array(store, np.arange(3))
        assert zarr.load(store).tolist() == [0, 1, 2]  # a store that was passed in stays open


def test_names_of_a_saved_group_may_be_parameters(store: Any) -> None:
    zarr.save_group(store, **{"a/b": np.arange(2), "mode": np.arange(3)})
    assert list(zarr.open_group(store)) == ["a", "mode"]


def test_store_path_and_store_like(tmp_path: Path) -> None:
    place = StorePath(MemoryStore(), "a")
    zarr.create_group(place, path="b")
    assert zarr.open_group(place).path == "a"
    zarr.create_group(str(tmp_path / "x"))
    zarr.create_group(f"file://{tmp_path}/y")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x", "y"]
    zarr.create_group("memory://test_api_named")
    assert zarr.open_group("memory://test_api_named", mode="r").path == ""


def test_opening_reads_each_document_once() -> None:
    store = LoggingStore(MemoryStore())
    zarr.create_group(store)
    zarr.create_array(store, name="x", shape=3, dtype="i1")
    for call in (
        lambda: zarr.open(store, zarr_format=3),
        lambda: zarr.open(store, path="x", zarr_format=3),
        lambda: zarr.open_group(store, zarr_format=3),
        lambda: zarr.open_array(store, path="x", zarr_format=3),
    ):
        store.counter.clear()
        call()
        assert store.counter == {"get": 1}


# --- the rest --------------------------------------------------------------------------------------


def test_compressor_none_is_for_format_2() -> None:
    assert zarr.create(3, compressor=None, zarr_format=2).compressors == ()
    with pytest.raises(ValueError, match="compressor"):
        zarr.create(3, compressor=None)


def test_twins() -> None:
    async def program() -> Any:
        store = MemoryStore()
        group = await zarr.open_group_async(store, mode="w")
        await zarr.save_async(group.store_path / "x", np.arange(3))
        made = await zarr.create_hierarchy_async(store=store, nodes={"g": group.metadata})
        assert [path for path, _ in made] == ["g"]
        assert await zarr.open_async(store, path="x") == await zarr.open_array_async(
            store, path="x"
        )
        assert (await zarr.load_async(store, path="x")).tolist() == [0, 1, 2]
        counts = await zarr.copy_all_async(group, zarr.group())
        assert counts == (2, 0, 24)
        return await zarr.copy_store_async(store, MemoryStore())

    assert asyncio.run(program())[0] == 4


def test_log_levels(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("zarr_core")
    before = logger.level, list(logger.handlers)
    try:
        zarr.set_format("%(levelname)s|%(message)s")
        zarr.set_log_level("DEBUG")
        zarr.set_log_level("INFO")
        assert len(logger.handlers) == len(before[1]) + 1  # one handler, however often
        (handler,) = set(logger.handlers) - set(before[1])
        assert handler.level == logger.level == logging.INFO
        record = logging.LogRecord("zarr_core", logging.INFO, "", 1, "hello", (), None)
        assert handler.format(record) == "INFO|hello"
        zarr.set_log_level("DEBUG")
        assert isinstance(handler, logging.StreamHandler)
        shown = handler.setStream(io.StringIO())
        array = zarr.create_array({}, name="a", shape=(2,), dtype="i4")
        array.attrs["unit"] = "m"
        zarr.create_array(array.store, name="a", shape=(2,), dtype="i4", overwrite=True)
        text = handler.setStream(shown).getvalue()  # type: ignore[union-attr]
        assert text.count("DEBUG|stored 'a/zarr.json' in") == 3
        assert "DEBUG|removed 0 chunks and 1 documents at" in text
    finally:
        logger.setLevel(before[0])
        for handler in set(logger.handlers) - set(before[1]):
            handler.setLevel(logging.WARNING)


def test_print_debug_info(capsys: pytest.CaptureFixture[str]) -> None:
    zarr.print_debug_info()
    lines = capsys.readouterr().out.splitlines()
    assert f"zarr_core: {zarr.__version__}" in lines
    assert f"numpy: {np.__version__}" in lines


def test_tree_of_the_top_level() -> None:
    group = zarr.create_group({})
    group.create_group("a/b")
    with pytest.warns(DeprecationWarning, match="Use Group.tree instead"):
        assert repr(zarr.tree(group, level=0)) == "/\n└── a"


def test_a_group_has_no_options_of_arrays() -> None:
    store = MemoryStore()
    for _ in range(2):  # where there is nothing, and where there is a group
        with pytest.raises(TypeError, match="resolves to a group"):
            zarr.open(store, config={"order": "F"})
        zarr.open_group(store)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("target", [None, 2, 3])
def test_open_like_opens_any_format_and_creates_the_default(zarr_format: Any, target: Any) -> None:
    source = zarr.full(4, 7, dtype="i4", zarr_format=zarr_format)
    store = MemoryStore()
    if target is not None:
        zarr.create_array(store, name="a", shape=4, dtype="i4", zarr_format=target)
    opened = zarr.open_like(source, path="a", store=store)
    assert opened.metadata.zarr_format == (target or 3)
    assert opened.shape == (4,)
    if target is None:
        assert opened.fill_value == 7
    other = zarr.open_like(source, path="b", store=store, zarr_format=2)
    assert other.metadata.zarr_format == 2


@pytest.mark.parametrize(
    "create", [zarr.create, lambda **options: zarr.create_array({}, **options)]
)
def test_the_option_order_is_that_of_format_2(create: Any) -> None:
    made = create(shape=(2, 3), dtype="i4", zarr_format=2, config={"order": "F"})
    assert made.order == made.metadata.order == "F"
    assert create(shape=(2, 3), dtype="i4", zarr_format=2).order == "C"
    made = create(shape=(2, 3), dtype="i4", zarr_format=2, order="C", config={"order": "F"})
    assert made.metadata.order == "C"
