"""`examples/browser`: a page opens Zarr over HTTP with Pyodide.

Needs Chromium, and `PYODIDE`, a directory with Pyodide and its NumPy: `nox -s tests-wasm` has one.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tile_server import CHROMIUM, Browser, serving_app, wait_for

import zarr_core as zarr

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.skipif("PYODIDE" not in os.environ, reason="needs PYODIDE, a directory with it"),
]

PLACE = Path(__file__).parent.parent / "examples" / "browser"
spec = importlib.util.spec_from_file_location("browser_serve", PLACE / "serve.py")
assert spec is not None
assert spec.loader is not None
serve: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(serve)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    serve.write_example(tmp_path / "data")
    group = zarr.open_group(tmp_path / "data")
    group.create_array("zstd", data=np.arange(12.0).reshape(3, 4))
    serve.consolidate(tmp_path / "data")
    app = serve.create_app(Path(os.environ["PYODIDE"]), tmp_path / "data")
    with serving_app(app) as server:
        found = Browser(tmp_path / "profile")
        try:
            found.call("Page.navigate", url=server.url)
            wait_for(lambda: found.run("document.body?.dataset.shown"), 100)
            yield found
        finally:
            found.close()


def choose(browser: Browser, name: str) -> None:
    browser.run(f"arrays.value = '{name}'; arrays.onchange()")


def pixel(browser: Browser, y: int, x: int) -> list[int]:
    script = f"[...picture.getContext('2d').getImageData({x}, {y}, 1, 1).data]"
    return list(browser.run(script))


def test_a_page_shows_arrays(browser: Browser, tmp_path: Path) -> None:
    assert browser.text("status").startswith("3 array(s)")
    for name in ("field", "in/shards"):
        choose(browser, name)
        wait_for(lambda name=name: browser.run("document.body.dataset.shown") == name)
        values = zarr.open_array(tmp_path / "data", path=name, mode="r")[::2, ::2]
        assert browser.run("[picture.height, picture.width]") == list(values.shape)
        grey = ((values - values.min()) / (values.max() - values.min()) * 255).astype(int)
        for y, x in ((0, 0), (150, 200), (140, 260), (299, 399)):
            assert abs(pixel(browser, y, x)[0] - grey[y, x]) <= 1
        assert "float32" in browser.text("info")
    # The files of this Pyodide have no Zstandard.
    choose(browser, "zstd")
    wait_for(lambda: "zstandard is needed" in browser.text("status"))
