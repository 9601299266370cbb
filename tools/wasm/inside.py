"""Run pytest in Pyodide. What WebAssembly has not is a reason to skip a test, and is counted."""

import collections
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

ABSENT = re.compile(
    r"No module named '([\w.]+)'"
    r"|the \(missing\) (lzma) module"
    r"|its own (event loop), which would hang"
    r"|emscripten does not support (processes)"
    r"|can't start new (thread)"
    r"|WebAssembly (stack switching) not supported"
    r"|module '?(?:os|signal|socket|time)\b.* has no attribute '(\w+)'"
)


def absent(error: BaseException) -> str | None:
    """Return what a test needs that is not here, if that is why it failed."""
    seen: BaseException | None = error
    while seen is not None:
        if match := ABSENT.search(str(seen)):
            last = traceback.extract_tb(seen.__traceback__)[-1].filename
            # Only a test may ask for what is not here: zarr_core has to do without.
            if not isinstance(seen, AttributeError) or "/zarr_core/" not in last:
                return next(filter(None, match.groups()))
        seen = seen.__cause__ or seen.__context__
    return None


OTHER = {
    "integers of 32 bits": (
        *("test_copying.py::test_copy_of_a_group", "test_copying.py::test_copy_all_and_shallow"),
        *("test_copying.py::test_if_exists", "test_data_types.py::test_parse_dtype[<class 'int'>"),
        *("test_data_types.py::test_refused_v2['<U999999999']", "test_group.py::test_tree"),
        "test_selection.py::test_points_in_more_chunks_than_64_bits_can_count",
    ),
    "files of another system": (
        *("test_storage_local.py::test_only_a_missing_file_is_missing",),
        *("test_storage_local.py::test_fsync_is_called_when_asked",),
        *("test_storage_local.py::test_files_get_the_usual_permissions",),
        *("test_storage_zip.py::test_errors_leave_the_old_archive",),
        *("test_storage_zip.py::test_kill_at_any_moment",),
        *("test_sharding.py::test_a_file_that_was_just_written_has_no_version",),
    ),
    "threads": ("test_storage.py::test_latency_overlaps",),
}
"""Tests that expect what is otherwise here, by what that is."""


class Absent:
    """Counts and skips what cannot run here."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def _skip(self, report: Any, name: str) -> None:
        self.counts[name] += 1
        report.outcome = "skipped"
        report.longrepr = (str(report.fspath), 0, f"Skipped: no {name} in WebAssembly")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for item in items:
            for reason, starts in OTHER.items():
                if item.nodeid.removeprefix("tests/").startswith(starts):
                    item.add_marker(pytest.mark.skip(reason=f"other {reason}"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Iterator[None]:
        report: Any = yield
        if report.failed and (name := absent(call.excinfo.value)):
            self._skip(report, name)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: Any) -> Iterator[None]:
        report: Any = yield
        if report.failed and (match := ABSENT.search(str(report.longrepr))):
            self._skip(report, next(filter(None, match.groups())))
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_set_timer(self) -> bool:
        return True  # there are neither signals nor threads to end a test

    def pytest_sessionstart(self) -> None:
        import hypothesis  # pytest has to see it first

        # Hypothesis is some ten times slower here, and other systems search long enough.
        ci = hypothesis.settings.get_profile("ci")
        hypothesis.settings.register_profile("wasm", ci, max_examples=8)
        hypothesis.settings.load_profile("wasm")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was missing."""
        names = ", ".join(f"{name} ({n})" for name, n in self.counts.most_common())
        terminalreporter.write_line(f"not in WebAssembly: {names}")


def main(args: list[str]) -> int:
    """Run pytest with `args`; return its exit code."""
    sys.dont_write_bytecode = True
    os.chdir("/repo")
    if importlib.util.find_spec("zstandard") is None and sys.version_info < (3, 14):
        from zarr_core.hierarchy import create
        from zarr_core.metadata.documents import NamedConfig

        # Arrays of tests that name no codec, so that these can be run.
        create.DEFAULT_COMPRESSOR_V3 = NamedConfig("gzip", {"level": 1})
        create.DEFAULT_COMPRESSOR_V2 = {"id": "gzip", "level": 1}
    quiet = ["-p", "no:cacheprovider", "--capture=sys", "-r", "fE", "--tb=short"]
    # Coroutines of tests that were skipped when they should have been awaited.
    quiet += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    return int(pytest.main([*quiet, "-o", "faulthandler_timeout=0", *args], plugins=[Absent()]))
