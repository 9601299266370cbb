"""Settings: changed for the process and for one context, by environment variables, shown."""

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
from running import at_once, from_threads

import zarr_core as zarr
from zarr_core.config import Config

KEY = "io.max_requests"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    yield zarr.config
    zarr.config.reset()


def test_local_changes_that_overlap_in_threads_leave_nothing(settings: Config) -> None:
    before = settings.get(KEY)
    first = settings.set({KEY: 11})
    second = settings.set({KEY: 12})
    entered = threading.Barrier(2)

    def use(change: object, value: int) -> None:
        with change:  # type: ignore[attr-defined]
            assert settings.get(KEY) == value
            entered.wait(20)

    at_once(lambda: use(first, 11), lambda: use(second, 12))
    assert settings.get(KEY) == before


@pytest.mark.parametrize("first_entered", [0, 1, 2])
def test_each_change_is_taken_back_alone(settings: Config, first_entered: int) -> None:
    before = settings.get(KEY)
    changes = [settings.set({KEY: value}) for value in (11, 12, 13)]
    with changes[first_entered]:
        pass
    assert settings.get(KEY) == (12 if first_entered == 2 else 13)
    for change in changes:
        with change:
            pass
    assert settings.get(KEY) == before


def test_a_later_change_of_the_process_stays(settings: Config) -> None:
    local = settings.set({KEY: 11})
    settings.set({KEY: 12})
    with local:
        assert settings.get(KEY) == 11
    assert settings.get(KEY) == 12


@pytest.mark.usefixtures("_hasty")
def test_many_threads_with_local_settings(settings: Config) -> None:
    before = settings.to_dict()

    def work(value: int) -> None:
        for _ in range(200):
            with settings.set({KEY: value + 1}):
                assert settings.get(KEY) == value + 1

    from_threads(work, 4)
    assert settings.to_dict() == before


def test_a_change_shows_what_it_sets(settings: Config) -> None:
    text = repr(settings.set({"array": {"order": "F"}, KEY: 3}))
    assert text == "<settings of zarr_core: array.order='F', io.max_requests=3>"


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("0", False), ("True", True), ("false", False)]
)
def test_switches_in_environment_variables(
    settings: Config, monkeypatch: pytest.MonkeyPatch, text: str, value: bool
) -> None:
    monkeypatch.setenv("ZARR_ARRAY__WRITE_EMPTY_CHUNKS", text)
    settings.refresh()
    assert settings.get("array.write_empty_chunks") is value


def test_a_bad_environment_variable_warns_and_the_import_works() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import zarr_core; print(zarr_core.config.get('json_indent'))"],
        env={**os.environ, "ZARR_JSON_INDENT": "wide", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["2"]
    assert "ZARR_JSON_INDENT" in done.stderr
    assert "'wide'" in done.stderr


def test_settings_of_zarr_python_are_kept_without_a_word(settings: Config) -> None:
    assert settings.get("codec_pipeline.path").endswith("BatchedCodecPipeline")
    assert settings.config["codec_pipeline"]["batch_size"] == 1
    assert settings.defaults[0]["array"]["order"] == "C"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with settings.set({"async.concurrency": 99, "codec_pipeline": {"batch_size": 7}}):
            assert settings.get("async.concurrency") == 99
            assert settings.get("codec_pipeline.batch_size") == 7
        assert settings.get("codec_pipeline.batch_size") == 1
    with pytest.warns(zarr.errors.ZarrUserWarning, match="register_codec"):
        settings.set({"codecs": {"bytes": "some.module.Codec"}})
    with pytest.raises(RuntimeError, match="GPU"):
        settings.enable_gpu()
