"""The codec `scale_offset`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_core as zarr
from zarr_core.codecs import ScaleOffset


def test_bytes_are_shifted_and_scaled() -> None:
    store: dict[str, bytes] = {}
    codec = ScaleOffset(offset=1.0, scale=2.0)
    array = zarr.create_array(
        store, shape=(2,), chunks=(2,), dtype="float32", filters=[codec], compressors=None
    )
    array[:] = [1, 2.5]
    assert np.frombuffer(store["c/0"], "<f4").tolist() == [0, 3]
    assert zarr.open_array(store)[:].tolist() == [1, 2.5]
    assert zarr.open_array(store).filters == (codec,)


@given(
    values=st.lists(st.integers(-100, 100), min_size=1, max_size=9),
    offset=st.integers(-20, 20),
    scale=st.integers(-5, 5).filter(bool),
)
def test_integers_come_back(values: list[int], offset: int, scale: int) -> None:
    codec = ScaleOffset(offset=offset, scale=scale)
    array = zarr.create_array(
        {}, shape=len(values), chunks=(3,), dtype="int16", filters=[codec], fill_value=7
    )
    array[:] = values
    assert array[:].tolist() == values
    array.resize(len(values) + 3)
    assert array[len(values) :].tolist() == [7] * 3


def test_what_does_not_fit_is_an_error() -> None:
    codec = ScaleOffset(scale=100)
    array = zarr.create_array({}, shape=(2,), chunks=(2,), dtype="int8", filters=[codec])
    with pytest.raises(zarr.errors.CodecError, match="outside the range of dtype"):
        array[:] = [1, 2]


@pytest.mark.parametrize("settings", [{"scale": 0}, {"scale": "x"}, {"offset": 1.5}, {"more": 1}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    store: dict[str, bytes] = {}
    with pytest.raises(zarr.errors.MetadataValidationError):
        zarr.create_array(
            store,
            shape=(2,),
            dtype="int8",
            filters=[{"name": "scale_offset", "configuration": settings}],
        )
    assert store == {}


def test_text_is_refused() -> None:
    with pytest.raises(zarr.errors.MetadataValidationError, match="integer and floating-point"):
        zarr.create_array({}, shape=(2,), dtype="U3", filters=[ScaleOffset(scale=2)])
