"""The commands: what they print, as text and as JSON, and what their exit codes say."""

import doctest
import inspect
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core as zarr

pytest.importorskip("typer")
from typer.main import get_command
from typer.testing import CliRunner

from zarr_core.cli import commands, output

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "command-line.md").read_text("utf-8")
COMMANDS: dict[str, Any] = get_command(commands.app).commands  # type: ignore[attr-defined]
VALUES = np.arange(24.0).reshape(4, 6)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a group in the current directory."""
    monkeypatch.chdir(tmp_path)
    root = zarr.create_group("x.zarr", attributes={"title": "an example", "n": [1, 2]})
    root.create_array("a/b", data=VALUES, chunks=(2, 3), attributes={"units": "K"})
    root.create_array("a/s", data=VALUES, chunks=(2, 2), shards=(4, 6))
    root.create_array("level", shape=(4,), chunks=(2,), dtype="f4", fill_value=np.nan)
    root["level"][:2] = [1, np.inf]
    root.create_array("t", data=np.array([(1, 2.5), (3, 4.5)], "i4,f8"))
    return "x.zarr"


def run(*words: str, code: int = 0) -> str:
    """Run a command; return what it prints, on standard error where it fails."""
    result = CliRunner().invoke(commands.app, words, prog_name="zarr-core")
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def run_json(*words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(commands.app, [*words, "--json"], prog_name="zarr-core")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def process(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zarr_core", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )


# --- looking -----------------------------------------------------------------------------------------


def test_info(place: str) -> None:
    text = run("info", place, "-p", "a/b")
    assert "Shape       : (4, 6)" in text
    assert '  units  "K"' in text
    about = run_json("info", place, "--path", "level")
    assert about["dtype"] == "float32"
    assert about["metadata"]["fill_value"] == "NaN"
    assert run_json("info", place)["metadata"]["attributes"] == {"title": "an example", "n": [1, 2]}


def test_tree(place: str) -> None:
    assert run("tree", place).splitlines() == [
        *("/", "├── a", "│   ├── b (4, 6) float64", "│   └── s (4, 6) float64"),
        *("├── level (4,) float32", "└── t (2,) [('f0', '<i4'), ('f1', '<f8')]"),
    ]
    assert run("tree", place, "--depth", "1").splitlines()[1] == "├── a"
    assert run("tree", place, "--depth", "0") == "/\n"
    assert "more than 2 nodes" in run("tree", place, "--max-nodes", "2")
    drawn = run_json("tree", place)
    assert [child["name"] for child in drawn["children"][0]["children"]] == ["b", "s"]
    assert run_json("tree", place, "-p", "level") == {
        "name": "/level",
        "detail": "",
        "children": [],
    }


def test_ls(place: str) -> None:
    assert run("ls", place).split() == ["a", "level", "t"]
    assert run("ls", place, "-r").split() == ["a", "a/b", "a/s", "level", "t"]
    lines = run("ls", place, "-l", "-p", "a").splitlines()
    assert lines[0].split() == ["path", "node_type", "shape", "dtype", "chunks", "shards"]
    assert lines[2] == "s     array      (4, 6)  float64  (2, 2)  (4, 6)"
    assert run("ls", place, "-p", "a/b").split() == ["b"]
    found = {row["path"]: row for row in run_json("ls", place, "-r")}
    assert found["a/s"]["shards"] == [4, 6]
    assert found["a"] == {"path": "a", "node_type": "group", "zarr_format": 3}


def test_ls_of_keys(place: str) -> None:
    keys = run("ls", place, "--keys", "-p", "a/s").split()
    assert keys == ["a/s/c/0/0", "a/s/zarr.json"]
    size = os.path.getsize("x.zarr/a/s/c/0/0")
    assert run("ls", place, "--keys", "-l", "-p", "a/s").splitlines()[1].split() == [
        str(size),
        "a/s/c/0/0",
    ]
    assert run_json("ls", place, "--keys", "-l", "-p", "a/s")[0] == {"key": keys[0], "size": size}
    assert run_json("ls", place, "--keys", "-p", "a/s") == keys
    run("ls", "nowhere", "--keys", code=3)


@pytest.mark.parametrize(
    ("text", "selection"),
    [
        ("", ...),
        ("1", 1),
        (" -1 , : ", (-1, slice(None))),
        ("..., ::-2", (..., slice(None, None, -2))),
        ("1:3,2:", (slice(1, 3), slice(2, None))),
    ],
)
def test_cat(place: str, text: str, selection: Any) -> None:
    expected = VALUES[selection]
    about = run_json("cat", place, "-p", "a/b", "-s", text)
    assert about == {"shape": [*expected.shape], "dtype": "float64", "data": expected.tolist()}
    assert run("cat", place, "-p", "a/b", "-s", text) == f"{expected}\n"
    assert run("cat", place, "-p", "a/b", "-s", text, "-O", "out.npy") == ""
    np.testing.assert_array_equal(np.load("out.npy"), expected)
    printed = CliRunner().invoke(commands.app, ["cat", place, "-p", "a/b", "-s", text, "--npy"])
    np.testing.assert_array_equal(np.load(io.BytesIO(printed.stdout_bytes)), expected)


def test_cat_of_fields_large_arrays_and_what_json_does_not_know(place: str) -> None:
    assert run_json("cat", place, "-p", "t", "--field", "f1")["data"] == [2.5, 4.5]
    assert run_json("cat", place, "-p", "level")["data"] == [1.0, "Infinity", "NaN", "NaN"]
    zarr.create_array("large.zarr", data=np.arange(2000))
    assert "..." in run("cat", "large.zarr")
    assert run("cat", "large.zarr", "--full", "-O", "all.txt") == ""
    assert {"0]", "1000", "..."} & {*Path("all.txt").read_text().split()} == {"1000"}


@pytest.mark.parametrize("text", ["x", "1:2:3:4", "1,,2", "::0"])
def test_cat_refuses_what_is_no_selection(place: str, text: str) -> None:
    run("cat", place, "-p", "a/b", "-s", text, code=2)


def test_stats(place: str) -> None:
    lines = run("stats", place).splitlines()
    assert lines[0].split() == ["path", "chunks", "missing", "bytes", "bytes_stored", "ratio"]
    found = run_json("stats", place)
    rows = {row["path"]: row for row in found["arrays"]}
    assert rows["/level"]["missing"] == 1
    assert rows["/a/s"]["chunks"] == 6
    stored = sum(os.path.getsize(f"x.zarr/a/b/{key}") for key in ("zarr.json", *chunks_of("a/b")))
    assert rows["/a/b"]["bytes_stored"] == stored
    assert found["total"]["bytes"] == 2 * 192 + 16 + 24
    assert run_json("stats", place, "-p", "level")["total"]["missing"] == 1


def chunks_of(path: str) -> list[str]:
    return [f"c/{i}/{j}" for i in range(2) for j in range(2)]


def test_verify(place: str) -> None:
    assert run("verify", place) == "6 nodes, 7 chunks: 0 errors, 0 warnings\n"
    Path("x.zarr/notes").write_text("?")
    assert "warning (foreign) notes" in run("verify", place)
    run("verify", place, "--strict", code=1)
    Path("x.zarr/a/b/c/1/1").write_text("?")
    run("verify", place, code=1)
    run("verify", place, "--no-data")
    report = run_json("verify", place, code=1)
    assert [(p["severity"], p["kind"], p["key"]) for p in report["problems"]] == [
        ("warning", "foreign", "notes"),
        ("error", "chunk", "a/b/c/1/1"),
    ]
    assert (report["nodes"], report["chunks"]) == (6, 7)


@pytest.mark.parametrize("path", ["a/b", "a/s", "t", "old"])
def test_bench(place: str, path: str) -> None:
    zarr.create_array(place, name="old", data=VALUES.astype(">i2"), zarr_format=2)
    text = run("bench", place, "-p", path, "-s", "0")
    assert "Requests took" in text
    found = run_json("bench", place, "-p", path)
    assert found["selection"]["missing"] == 0
    names = [trial["codecs"] for trial in found["codecs"]]
    assert names[:2] == ([] if path == "t" else ["as stored", "zstd"])
    assert all(trial["mb_per_second"] > 0 < trial["ratio"] for trial in found["codecs"])


# --- changing ----------------------------------------------------------------------------------------


def test_copy(place: str) -> None:
    text = run("copy", place, "y.zip", "--dry-run")
    assert "13 would be copied" in text
    assert run_json("copy", place, "y.zip")["copied"] == 13
    np.testing.assert_array_equal(zarr.load("y.zip", path="a/s"), VALUES)
    assert "exists in the destination" in run("copy", place, "y.zip", code=4)
    assert run_json("copy", place, "y.zip", "--if-exists", "skip")["skipped"] == 13
    assert run_json("copy", "y.zip", "z.zarr", "--exclude", "^a/")["copied"] == 5
    assert run("verify", "z.zarr", "--no-data", "--strict")
    assert run_json("copy", place, "b.zarr", "-p", "a/b")["copied"] == 5
    np.testing.assert_array_equal(zarr.load("b.zarr"), VALUES)
    place_url = f"file://{Path.cwd()}/x.zarr"
    run("copy", place_url, "m.zarr", "-o", "auto_mkdir=true", code=2)  # no options for files


def test_rechunk(place: str) -> None:
    made = run_json(
        "rechunk", place, "r.zarr", "-p", "a/b", "--chunks", "4,1", "--max-bytes", "1MiB"
    )
    assert made["chunks"] == [4, 1]
    np.testing.assert_array_equal(zarr.load("r.zarr"), VALUES)
    run("rechunk", place, "r.zarr", "-p", "a/b", "--chunks", "2,2", code=4)
    text = run(
        *("rechunk", place, "r.zarr", "-p", "a/b", "--overwrite"),
        *("--chunks", "2,2", "--shards", "4,6"),
    )
    assert "Shard shape : (4, 6)" in text
    assert run_json("rechunk", place, "k.zip", "-p", "a/s")["shards"] == [4, 6]
    np.testing.assert_array_equal(zarr.load("k.zip"), VALUES)
    run("rechunk", place, "q.zarr", "-p", "a/b", "--chunks", "a,b", code=2)
    run("rechunk", place, "q.zarr", "-p", "a/b", "--max-bytes", "much", code=2)


def test_convert_and_remove_metadata(place: str) -> None:
    assert "6 would be converted" in run("convert", place, "two.zarr", "--to", "2", "--dry-run")
    assert not Path("two.zarr").exists()
    assert run_json("convert", place, "two.zarr", "--to", "2")["converted"] == 6
    assert zarr.open_group("two.zarr").metadata.zarr_format == 2
    run("convert", "two.zarr")
    run("verify", "two.zarr", "--strict", code=1)  # two formats
    keys = run_json("remove-metadata", "two.zarr", "--format", "2", "--dry-run")
    assert ".zgroup" in keys
    assert run("remove-metadata", "two.zarr", "--format", "2").split() == keys
    run("verify", "two.zarr", "--strict")
    np.testing.assert_array_equal(zarr.load("two.zarr", path="a/s"), VALUES)
    assert "--force" not in run("remove-metadata", "two.zarr", "--format", "3", code=2)
    assert run_json("convert", place)["converted"] == 0  # it is of format 3
    run("convert", "nowhere.zarr", code=3)
    run("convert", place, "--to", "2", code=5)  # format 2 has no shards


def test_consolidate(place: str) -> None:
    assert run("consolidate", place) == "5 nodes are consolidated\n"
    assert zarr.open_consolidated(place).nmembers(None) == 5
    run("copy", place, "c.zip")
    assert run_json("consolidate", "c.zip", "-p", "a") == {"nodes": 2}
    assert zarr.open_consolidated("c.zip", path="a").nmembers() == 2


def test_repack(place: str) -> None:
    import zipfile

    run("copy", place, "x.zip")
    with zipfile.ZipFile("x.zip", "a") as file:
        value = file.read("level/c/0")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("level/c/0", bytes(10_000))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("level/c/0", value)
    before = os.path.getsize("x.zip")
    found = run_json("repack", "x.zip")
    assert found["bytes_before"] == before > found["bytes"] == os.path.getsize("x.zip")
    assert "13 values" in run("repack", place, "new.zip")
    np.testing.assert_array_equal(zarr.load("new.zip", path="a/b"), VALUES)
    run("repack", place, code=2)


# --- serving -----------------------------------------------------------------------------------------


@pytest.fixture
def url(place: str) -> Iterator[str]:
    words = ["serve", place, "--port", "0", "--cors", "--json"]
    server = subprocess.Popen(
        [sys.executable, "-m", "zarr_core", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert server.stdout is not None
    try:
        text = "".join(server.stdout.readline() for _ in range(3))
        yield json.loads(text)["url"]
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 130
        server.stdout.close()


def answer(url: str, **headers: str) -> tuple[int, bytes, Any]:
    method = headers.pop("method", "GET")
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


@pytest.mark.skipif(
    sys.platform == "win32",
    reason="Windows has no SIGINT for another process, which ends the server",
)
def test_serve(place: str, url: str) -> None:
    value = Path("x.zarr/a/b/c/0/1").read_bytes()
    status, body, headers = answer(f"{url}/a/b/c/0/1", Origin="https://example.org")
    assert (status, body) == (200, value)
    assert headers["access-control-allow-origin"] == "*"
    status, body, headers = answer(f"{url}/a/b/c/0/1", method="HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(len(value)))
    for text, part in (("2-5", value[2:6]), ("3-", value[3:]), ("-4", value[-4:]), ("0-", value)):
        status, body, headers = answer(f"{url}/a/b/c/0/1", Range=f"bytes={text}")
        assert (status, body) == (206, part)
        assert headers["content-range"].endswith(f"/{len(value)}")
    assert answer(f"{url}/a/b/c/0/1", Range="bytes=9999-")[0] == 416
    assert answer(f"{url}/zarr.json")[2]["content-type"] == "application/json"
    for path in (
        "nothing",
        "a/nothing/",
        "../x.zarr/zarr.json",
        "%2e%2e/x.zarr/zarr.json",
        "a%00b",
    ):
        assert answer(f"{url}/{path}")[0] == 404
        assert answer(f"{url}/{path}", Range="bytes=0-")[0] == 404
    page = answer(url)[1].decode()
    assert "<b>level</b>" in page
    assert answer(f"{url}/zarr.json", method="PUT")[0] == 405
    assert b"<a href='/a/b/c/'>" in answer(f"{url}/a/b")[1]
    assert run("verify", url, "--strict") == "6 nodes, 7 chunks: 0 errors, 0 warnings\n"
    assert run_json("copy", url, "copied.zarr")["copied"] == 13
    np.testing.assert_array_equal(zarr.load("copied.zarr", path="a/s"), VALUES)
    run("copy", f"{url}/nothing", "other.zarr", code=3)
    group = zarr.open_group(url, mode="r", use_consolidated=False)
    np.testing.assert_array_equal(group["a/b"][1:3, ::2], VALUES[1:3, ::2])
    np.testing.assert_array_equal(group["a/s"][3], VALUES[3])


# --- exit codes, help, the page ------------------------------------------------------------------------


def test_exit_codes(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, code in {
        (): 2,
        ("unknown",): 2,
        ("info",): 2,
        ("info", place, "--nothing"): 2,
        ("info", place, "-o", "x"): 2,
        ("info", place, "-o", "x=1"): 2,
        ("cat", place): 2,
        ("cat", place, "-p", "a/b", "-s", "9"): 2,
        ("info", "nowhere.zarr"): 3,
        ("info", place, "-p", "nothing"): 3,
        ("verify", "nowhere.zarr"): 3,
        ("copy", place, place): 4,
    }.items():
        run(*words, code=code)
    assert "a/b, a/s, level, t" in " ".join(run("cat", place, code=2).replace("│", "").split())
    Path("x.zarr/a/b/c/1/1").write_text("?")
    error = run("cat", place, "-p", "a/b", code=5)
    assert error.startswith("zarr-core: error: chunk (1, 1) of array '/a/b'")
    assert error.count("\n") == 1
    Path("x.zarr/a/b/c/1/0").unlink()
    Path("x.zarr/a/b/c/1/0").mkdir()
    run("cat", place, "-p", "a/b", "-s", "3, 0", code=6)
    Path("x.zarr/level/zarr.json").write_text("{")
    run("info", place, "-p", "level", code=5)

    def broken(*args: object, **kwargs: object) -> None:
        raise AssertionError("a mistake of ours")

    monkeypatch.setattr(commands, "_open", broken)
    assert "a mistake of ours" in run("info", place, code=70)


@pytest.mark.filterwarnings("default")
def test_warnings_are_lines_on_standard_error(place: str) -> None:
    zarr.convert(place, "two.zarr", zarr_format=2)
    zarr.convert("two.zarr", zarr_format=3)
    result = CliRunner().invoke(commands.app, ["info", "two.zarr"])
    assert result.exit_code == 0, result.output
    assert re.match(r"zarr-core: warning: .*\n", result.stderr)


def test_every_command_has_json_and_help_with_examples_that_are_right() -> None:
    for name, command in COMMANDS.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options, name
        examples = re.findall(r"^- `zarr-core (.+)`$", inspect.cleandoc(command.help), re.MULTILINE)
        assert examples, name
        for example in examples:
            verb, *words = shlex.split(example)
            COMMANDS[verb].make_context(verb, words)  # raises for what is no argument or option
        assert examples[0] in run(name, "--help").replace("\n", " ") or len(examples[0]) > 60


def test_the_page_names_every_command_option_and_exit_code() -> None:
    for name, command in COMMANDS.items():
        assert re.search(rf"`{name}`|zarr-core {name}\b", PAGE), name
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option not in ("--help", "--of"):
                    off = option.replace("--", "--no-")
                    assert option in PAGE or off in PAGE, f"{name} {option}"
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    own = {code for code, _ in output.EXIT_CODES} | {output.UNEXPECTED, output.BROKEN_PIPE}
    assert codes == own | {0, 1, 130}


def test_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(block, {})
    shown = re.findall(r"^\$ zarr-core (.+)\n((?:(?!\$ |```).*\n)*)", PAGE, re.MULTILINE)
    assert len(shown) >= 10
    same = doctest.OutputChecker().check_output
    for words, expected in shown:
        text = run(*shlex.split(words))
        assert same(expected.strip() + "\n", text.strip() + "\n", doctest.ELLIPSIS), (words, text)


def test_paths_are_completed(place: str) -> None:
    Path("xylem").mkdir()
    assert commands._files("x") == ["x.zarr/", "xylem/"]
    assert commands._files("x.zarr/l") == ["x.zarr/level/"]
    assert "x.zarr/zarr.json" in commands._files("x.zarr/")
    assert commands._files("nowhere/x") == []


# --- real processes ----------------------------------------------------------------------------------


def test_as_a_process(place: str) -> None:
    done = process("ls", place, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["path"] for row in json.loads(done.stdout)] == ["a", "level", "t"]
    failed = process("info", "nowhere")
    assert (failed.returncode, failed.stdout) == (3, "")
    assert failed.stderr.startswith("zarr-core: error: ")


def test_the_console_script_is_this_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"zarr-core": "zarr_core.cli:main"}


def test_without_typer_it_says_what_is_missing() -> None:
    code = "import sys; sys.modules['typer'] = None\nfrom zarr_core.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stderr == (
        "zarr-core: the command line needs typer: pip install 'zarr-core[cli]'\n"
    )


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no pty, and closed pipes are other errors"
)
def test_a_reader_that_has_enough_and_a_terminal(place: str) -> None:
    import pty

    for number in range(3000):
        Path(f"x.zarr/{'long' * 20}{number}").touch()
    words = [sys.executable, "-m", "zarr_core"]
    options: Any = {
        "env": {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    }
    with subprocess.Popen([*words, "ls", place, "--keys"], stdout=subprocess.PIPE, **options) as ls:
        assert ls.stdout is not None
        ls.stdout.readline()
        ls.stdout.close()
    assert ls.returncode == output.BROKEN_PIPE

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*words, "verify", place, "-p", "a"], stderr=theirs, stdout=theirs, **options
    ):
        os.close(theirs)
        seen = b""
        while part := _read(ours):
            seen += part
    os.close(ours)
    assert b"verifying" in seen
    assert b"100%" in seen
    assert b"3 nodes, 5 chunks" in seen


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 4096)
    except OSError:  # the other side is closed
        return b""
