"""A trial of a build is made once, and again as soon as anything is different."""

import pytest

from weighbridge_lab.trace import guard

FACTS = {"torch": "2.13.0+cpu 5c4c0b8", "core": "/lib/libtorch_cpu.so 420 17"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_has_passed_is_known(cache):
    assert not guard.passed(FACTS)
    guard.stamp(FACTS)
    assert guard.passed(FACTS)
    assert [path.name[:10] for path in (cache / "weighbridge").iterdir()] == ["fake-cuda-"]


@pytest.mark.parametrize("name", FACTS)
def test_another_build_has_not_passed(name):
    guard.stamp(FACTS)
    assert not guard.passed(FACTS | {name: "another"})


def test_a_file_with_other_words_is_no_stamp(cache):
    guard.stamp(FACTS)
    (found,) = (cache / "weighbridge").iterdir()
    found.write_bytes(b"\xff")
    assert not guard.passed(FACTS)


def test_a_folder_that_cannot_be_made_is_as_if_there_were_none(cache):
    cache.write_text("a file is in the way")
    guard.stamp(FACTS)
    assert not guard.passed(FACTS)


def test_a_library_that_was_written_again_is_another_build(tmp_path):
    library = tmp_path / "lib.so"
    library.write_bytes(b"1")
    first = guard.build_stamp(str(library))
    library.write_bytes(b"12")
    assert guard.build_stamp(str(library)) != first


def test_a_relative_folder_is_no_cache_folder(monkeypatch, tmp_path):
    """XDG base directory specification: such a value is ignored."""
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    guard.stamp(FACTS)
    assert list((tmp_path / ".cache" / "weighbridge").iterdir())
