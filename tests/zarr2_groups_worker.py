"""Writes and reads hierarchies with zarr 2.18.7; run by its own interpreter, never imported.

    python zarr2_groups_worker.py write|read PATH NODES.json CONSOLIDATED

`NODES.json` has attributes and values (null for a group) by path; `read` prints it as found.
"""

import json
import sys

import numpy as np
import zarr


def write(path, nodes, consolidated):
    root = zarr.open_group(path, mode="w")
    for name, (attributes, values) in nodes.items():
        if values is not None:
            node = root.array(name, np.array(values), chunks=2)
        else:
            node = root.require_group(name) if name else root
        node.attrs.update(attributes)
    if consolidated:
        zarr.consolidate_metadata(path)


def read(path, consolidated):
    root = zarr.open_consolidated(path, mode="r") if consolidated else zarr.open_group(path, "r")
    found = {"": (dict(root.attrs), None)}

    def visit(name, node):
        values = node[...].tolist() if hasattr(node, "shape") else None
        found[name] = (dict(node.attrs), values)

    root.visititems(visit)
    print(json.dumps(found))


if __name__ == "__main__":
    action, path, nodes, consolidated = sys.argv[1:]
    assert zarr.__version__.startswith("2."), zarr.__version__
    if action == "write":
        with open(nodes, encoding="utf-8") as file:
            write(path, json.load(file), consolidated == "True")
    else:
        read(path, consolidated == "True")
