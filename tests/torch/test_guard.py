"""The trial of torch's engine on fake CUDA tensors, and that it is made once for a build."""

import pytest

pytest.importorskip("torch")

from weighbridge_lab.trace import guard


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    guard.why_not.cache_clear()
    yield
    guard.why_not.cache_clear()


def test_a_build_that_passes_is_tried_once(monkeypatch, tmp_path):
    reason = guard.why_not()
    if reason:
        pytest.skip(reason)
    assert len(list((tmp_path / "weighbridge").iterdir())) == 1
    guard.why_not.cache_clear()  # as a new process
    monkeypatch.setattr(guard, "_tried", lambda: pytest.fail("tried again"))
    assert guard.why_not() == ""


def test_what_does_not_work_is_tried_every_time(monkeypatch, tmp_path):
    monkeypatch.setattr(guard, "_tried", lambda: "no such function")
    assert guard.why_not() == "no such function"
    assert not (tmp_path / "weighbridge").exists()


def test_a_torch_without_its_libraries_is_tried(monkeypatch):
    monkeypatch.setattr(guard, "_facts", lambda: None)
    monkeypatch.setattr(guard, "_tried", lambda: "nothing is known")
    assert guard.why_not() == "nothing is known"
