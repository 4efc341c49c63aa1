"""A saved training_args.bin: its arguments are read, and nothing of its pickle is run."""

import enum
import os
import pickle
import zipfile

import pytest

from weighbridge.base.errors import BadFileError
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.kinds import text_of


class Optimizers(enum.Enum):
    FUSED = "adamw_torch_fused"


class TrainingArguments:
    def __init__(self) -> None:
        self.per_device_train_batch_size = 4
        self.output_dir = "out"
        self.learning_rate = 1e-5
        self.bf16 = True
        self.optim = Optimizers.FUSED


class Runs:
    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def saved(path, value):
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("training_args/data.pkl", pickle.dumps(value))
    return path


def test_saved_arguments_are_a_run_without_a_model(tmp_path):
    text, name = text_of(saved(tmp_path / "training_args.bin", TrainingArguments()), None)
    (run,) = read(text, name).runs
    assert run.model == ""
    assert (run.settings["batch_size"], run.settings["precision"]) == (4, "bf16-mixed")
    assert run.settings["optimizer"] == "adamw_torch_fused"


def test_nothing_of_a_pickle_is_run(tmp_path):
    made = tmp_path / "made"
    path = saved(tmp_path / "training_args.bin", Runs(made))
    with pytest.raises(BadFileError, match="no arguments"):
        text_of(path, None)
    assert not made.exists()


def test_what_is_broken_or_too_large_is_said(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(BadFileError, match="is no saved"):
        text_of(path, None)
    with pytest.raises(BadFileError, match="more than arguments"):
        text_of(saved(path, "a" * (1 << 19)), None)
