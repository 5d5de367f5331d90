"""The benchmark of the page: it asks all questions in a real browser, and each figure is one of time."""

import pytest

pytest.importorskip("gradio", reason="Gradio is not installed")

from page import measure

from tests.ui.conftest import browser, demo, served, sparse_index, sparse_model  # noqa: F401


@pytest.mark.slow
def test_all_figures(browser, served):  # noqa: F811
    found = measure(browser, served.url, visits=1, rounds=1)
    assert set(found) == {
        "first paint, ms",
        "first answer, ms",
        "answers after it, p50 ms",
        "answers after it, p95 ms",
    }
    assert all(value > 0 for value in found.values())
    assert found["answers after it, p50 ms"] <= found["answers after it, p95 ms"]
