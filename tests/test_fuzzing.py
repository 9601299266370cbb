"""Anything in documents, chunks, shards, zip files and HTTP answers: `fuzzing.py` says what is promised."""

from itertools import islice

import pytest
from fuzzing import TARGETS, kept, mutants, run

MUTANTS = {"documents": 60, "chunks": 400, "shards": 100, "archives": 200, "answers": 15}


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_give_a_result_or_an_error_that_is_promised(name: str) -> None:
    inputs = kept(name)
    assert len(inputs) > 3
    for data in [*inputs, *islice(mutants(inputs, seed=1), MUTANTS[name])]:
        try:
            run(name, data)
        except Exception as error:
            error.add_note(f"{name}: {data!r}")
            raise
