"""What codecs do when a library is missing, or is broken: only what needs it is lost, and it is named."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import in_new_interpreter

import zarr_core as zarr
from zarr_core.codecs import Crc32cCodec, checksum
from zarr_core.codecs.checks import load_library
from zarr_core.errors import UnknownCodecError

WORKS = """
import sys
import numpy as np
import zarr_core as zarr

def works(**settings):
    store, values = {}, np.arange(60_000, dtype="i4")
    zarr.create_array(store, shape=60_000, dtype="i4", **settings)[:] = values
    assert (zarr.open_array(store)[:] == values).all()

def fails(**settings):
    try:
        works(**settings)
    except zarr.errors.UnknownCodecError as error:
        return str(error)
    raise AssertionError(settings)

zlib, blosc = {"id": "zlib", "level": 1}, {"name": "blosc", "configuration": {}}
"""

WITHOUT_NUMCODECS = """
works(chunks=1000)
works(chunks=60_000)  # of this size numcodecs' zstd would be the faster one
works(chunks=1000, shards=60_000)
works(chunks=1000, compressors={"name": "gzip"})
works(chunks=1000, zarr_format=2)
works(chunks=1000, zarr_format=2, compressors=zlib)
errors = [
    fails(chunks=1000, compressors=blosc),
    fails(chunks=1000, zarr_format=2, compressors={"id": "blosc"}),
    fails(chunks=1000, filters={"name": "numcodecs.delta", "configuration": {}}),
]
"""


def write_package(place: Path, name: str, version: str, **modules: str) -> None:
    (place / name).mkdir()
    for module, source in modules.items():
        (place / name / f"{module}.py").write_text(source)
    metadata = place / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_a_library_that_breaks_numcodecs_takes_nothing_else_along(tmp_path: Path) -> None:
    # As zfpy 1.0.1.post0 does.
    write_package(tmp_path, "zfpy", "1.0.1.post0", __init__="")
    zfpy = "version = tuple(map(int, '1.0.1.post0'.split('.')))"
    write_package(tmp_path, "numcodecs", "0.15", __init__="from numcodecs import zfpy", zfpy=zfpy)
    check = """
for error in errors:
    assert "package numcodecs cannot be imported: ValueError: invalid literal" in error, error
    assert error.endswith("installed: numcodecs 0.15, zfpy 1.0.1.post0"), error
"""
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    in_new_interpreter(path + WORKS + WITHOUT_NUMCODECS + check)


def test_a_library_that_is_not_installed_is_named() -> None:
    hide = """
import importlib.abc
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("numcodecs", "crc32c", "google_crc32c", "isal", "deflate"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""
    check = """
for error in errors:
    assert error == "the package numcodecs is needed and not installed: pip install numcodecs", error
"""
    in_new_interpreter("import sys\n" + hide + WORKS + WITHOUT_NUMCODECS + check)


def test_zstandard_is_named_and_gzip_works_without() -> None:
    code = """
sys.modules.update(dict.fromkeys(["zstandard", "compression.zstd", "backports.zstd"]))
assert "package zstandard is needed" in fails(chunks=1000)
works(chunks=1000, compressors={"name": "gzip"})
works(chunks=1000, shards=60_000, compressors=None)
works(chunks=1000, compressors=blosc)
"""
    in_new_interpreter(WORKS + code)


def test_zstd_works_with_the_standard_library() -> None:
    pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    code = """
sys.modules["zstandard"] = None
works(chunks=1000)
works(chunks=60_000)
works(chunks=1000, shards=60_000)
works(chunks=1000, zarr_format=2)
"""
    in_new_interpreter(WORKS + code)


@pytest.mark.parametrize("module", ["isal", "deflate", "crc32c", "google_crc32c"])
def test_a_broken_optional_library_is_done_without(module: str, tmp_path: Path) -> None:
    write_package(tmp_path, module, "1.0", __init__="raise OSError('libc.so.9: not found')")
    code = f"""
sys.path.insert(0, {str(tmp_path)!r})
if {module!r} == "google_crc32c":
    sys.modules["crc32c"] = None
works(chunks=1000, compressors={{"name": "gzip", "configuration": {{"level": 6}}}})
works(chunks=1000, shards=60_000)
"""
    in_new_interpreter(WORKS + code)


def test_what_an_import_went_through_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outer_library.py").write_text("import hypothesis, inner_library")
    (tmp_path / "inner_library.py").write_text("raise SystemError('broken')")
    with pytest.raises(UnknownCodecError, match="SystemError: broken; installed: nothing"):
        load_library("outer_library", "outer-library")
    (tmp_path / "inner_library.py").write_text("import not_there")
    with pytest.raises(UnknownCodecError, match="cannot be imported: ModuleNotFoundError"):
        load_library("outer_library", "outer-library")
    with pytest.raises(
        UnknownCodecError, match="not-there is needed and not installed: pip install"
    ):
        load_library("not_there", "not-there")


# --- crc32c --------------------------------------------------------------------------------------


@pytest.fixture
def without_crc32c(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "crc32c", None)
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    checksum.crc32c_function.cache_clear()
    yield monkeypatch
    checksum.crc32c_function.cache_clear()


def test_shards_work_without_crc32c(without_crc32c: pytest.MonkeyPatch) -> None:
    store: dict[str, bytes] = {}
    options = {"shape": (8, 8), "chunks": (2, 2), "shards": (8, 8), "dtype": "i4", "fill_value": 1}
    zarr.create_array(store, **options)[:3] = 7
    assert checksum.crc32c_function() is checksum._crc32c
    without_crc32c.undo()
    checksum.crc32c_function.cache_clear()
    other: dict[str, bytes] = {}
    zarr.create_array(other, **options)[:3] = 7
    assert checksum.crc32c_function() is not checksum._crc32c
    assert store == other


def test_the_check_value_of_the_polynomial() -> None:
    assert checksum._crc32c(b"123456789") == 0xE3069283
    assert checksum._crc32c(b"") == 0


@given(st.binary(max_size=300))
def test_the_table_is_that_of_the_library(data: bytes) -> None:
    library = pytest.importorskip("crc32c")
    for view in (data, memoryview(data), np.frombuffer(bytearray(data), np.uint8)):
        assert checksum._crc32c(view) == library.crc32c(data)


def test_another_library_is_used(without_crc32c: pytest.MonkeyPatch) -> None:
    def value(data: bytes) -> int:
        assert type(data) is bytes
        return checksum._crc32c(data)

    library = types.ModuleType("google_crc32c")
    library.value = value  # type: ignore[attr-defined]
    without_crc32c.setitem(sys.modules, "google_crc32c", library)
    stage = Crc32cCodec().bind(9, 9, np.dtype("u1"))
    encoded = bytes(stage.encode(bytearray(b"123456789")))
    assert encoded == b"123456789" + (0xE3069283).to_bytes(4, "little")
    assert bytes(stage.decode(encoded)) == b"123456789"
    assert checksum.crc32c_function() is not checksum._crc32c
