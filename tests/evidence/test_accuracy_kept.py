"""Predictions are kept by a hash of code and data, and made again when either differs."""

import json
import os

import pytest
from click.testing import CliRunner

from weighbridge.answers import bounds
from weighbridge.base.memory import Bytes
from weighbridge.faces.cli.accuracy import accuracy
from weighbridge_lab.evidence import stored
from weighbridge_lab.evidence.records import Prediction, Skip, records

KIND = bounds.kind(bounds.RunForm("serve", "vllm"), "peak", "driver", several=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "weighbridge"


@pytest.fixture
def made(monkeypatch):
    """A stand-in for predicting everything; how often it was done."""
    times = []

    def predicted(figures, **_):
        times.append(1)
        first, second = figures[0], figures[1]
        value = Bytes(first.measured - 9, first.measured + 2, first.measured + 9)
        return [
            Prediction(first, first.quantity, value, first.resolution, KIND),
            Skip(second, second.quantity, "setting incomplete", "no batch"),
        ]

    monkeypatch.setattr(stored, "predicted", predicted)
    return times


def test_what_was_kept_comes_back(folder, made):
    first = stored.outcomes(records())
    assert stored.outcomes(records()) == first
    assert len(made) == 1
    assert len(os.listdir(folder)) == 1


def test_a_part_is_predicted_alone_until_all_are_kept(folder, made):
    part = records()[:2]
    assert stored.outcomes(part) == stored.outcomes(part)
    assert len(made) == 2
    assert not folder.exists()
    stored.outcomes(records())
    assert len(stored.outcomes(part)) == 2
    assert len(made) == 3


def test_what_is_stale_is_made_again_and_replaced(folder, made, monkeypatch):
    stored.outcomes(records())
    (old,) = os.listdir(folder)
    monkeypatch.setattr(stored, "made_of", lambda folder: "f" * 64)
    stored.outcomes(records())
    (new,) = os.listdir(folder)
    assert old != new
    assert len(made) == 2


def test_a_damaged_file_is_made_again(folder, made):
    stored.outcomes(records())
    (name,) = os.listdir(folder)
    (folder / name).write_text("[{]")
    assert len(stored.outcomes(records())) == 2
    assert len(made) == 2


def test_a_folder_that_cannot_be_written_is_none(tmp_path, monkeypatch, made):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(stored.outcomes(records())) == 2


def test_the_hash_follows_every_file(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = stored.made_of.__wrapped__(str(tmp_path))
    (tmp_path / "b.jsonl").write_text("{}")
    second = stored.made_of.__wrapped__(str(tmp_path))
    (tmp_path / "a.py").write_text("2")
    assert len({first, second, stored.made_of.__wrapped__(str(tmp_path))}) == 3


def test_the_page_has_a_legend(folder, made):
    done = CliRunner().invoke(accuracy, [])
    assert done.exit_code == 0, done.output
    assert "above: share more than 1 % above our upper bound" in done.stdout
    assert "width: of our interval" in done.stdout


def test_coverage_is_of_all_and_of_each_source(folder, made):
    done = CliRunner().invoke(accuracy, ["--coverage", "--json"])
    assert done.exit_code == 0, done.output
    held = json.loads(done.stdout)["coverage"]
    assert held["all"][0]["n"] == 1
    assert records()[0].source in {one["source"] for one in held["left_out"]}
