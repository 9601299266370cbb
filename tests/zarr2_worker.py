"""Writes and reads arrays with zarr 2.18.7; run by its own interpreter, never imported.

    python zarr2_worker.py write|read CASES.json

Each case names its array's `path`, how it is laid out, and an .npz file with `values` and `fill`;
`read` saves what it found beside the array, in `found.npz`.
"""

import json
import sys

import numcodecs
import numpy as np
import zarr


def write(case):
    with np.load(case["source"], allow_pickle=True) as source:
        values, fill = source["values"], source["fill"][()]
    filters = [numcodecs.get_codec(config) for config in case["filters"] or ()]
    array = zarr.create(
        store=case["path"],
        shape=values.shape,
        chunks=tuple(case["chunks"]),
        dtype=values.dtype,
        compressor=case["compressor"] and numcodecs.get_codec(case["compressor"]),
        # The codec of an object array is its first filter on disk, but an argument here.
        object_codec=filters.pop(0) if values.dtype == object else None,
        filters=filters or None,
        fill_value=fill,
        order=case["order"],
        dimension_separator=case["separator"],
        overwrite=True,
    )
    array.attrs.update(case["attributes"])
    rows = case["rows"]
    array[:rows] = values[:rows]


def read(case):
    array = zarr.open_array(case["path"], mode="r")
    assert dict(array.attrs) == case["attributes"], dict(array.attrs)
    fill = np.asarray(array.fill_value, dtype=array.dtype)
    np.savez(f"{case['path']}/found.npz", values=array[...], fill=fill)


if __name__ == "__main__":
    action = {"write": write, "read": read}[sys.argv[1]]
    with open(sys.argv[2], encoding="utf-8") as file:
        cases = json.load(file)
    failed = []
    for case in cases:
        try:
            action(case)
        except Exception as error:
            failed.append(f"{case['path']}: {type(error).__name__}: {error}")
    print(json.dumps({"version": zarr.__version__, "failed": failed}))
