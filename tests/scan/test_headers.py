"""Models whose weights are at hand are asked by their headers, as `weighbridge load FOLDER` is."""

import shutil

import pytest

import weighbridge
from tests.scan import small
from tests.scan.conftest import make
from tests.scan.test_running import rows, run
from tests.sparse import as_tensors, write_repo
from tests.training.test_gguf import written
from weighbridge.faces.scan import registry
from weighbridge.faces.scan.checking import check
from weighbridge.faces.scan.dataset import rows_of

pytestmark = pytest.mark.slow


@pytest.fixture
def checkpoints(tmp_path):
    """Two fine-tunes in bfloat16, one in float32 under a config that says bfloat16, one without
    weights, two GGUF files of one model, of which one is a copy; and a broken one."""
    root = tmp_path / "models"
    blueprint = weighbridge.prepare(small.LLAMA).model().parts[0].blueprint
    for name, dtype in (("a", "BF16"), ("b", "BF16"), ("floats", "F32")):
        write_repo(root / name, small.LLAMA, as_tensors(blueprint, dtype), dtype=dtype)
    (root / "bare").mkdir()
    shutil.copy(root / "a/config.json", root / "bare")
    written(root / "one.gguf", "llama")
    shutil.copy(root / "one.gguf", root / "copy.gguf")
    (root / "broken.gguf").write_bytes(b"GGUF")
    (root / "cut").mkdir()
    shutil.copy(root / "a/config.json", root / "cut")
    (root / "cut/model.safetensors").write_bytes(b"\xff" * 16)
    return root


def test_answers_are_those_about_the_files(checkpoints, tmp_path):
    out, plan = make(checkpoints, tmp_path / "out", parts=1)
    models = {row["id"]: row for row in rows_of(out / "models.parquet")}
    assert len(models) == 8
    assert models["a"]["key"] == models["b"]["key"]
    assert models["one.gguf"]["key"] == models["copy.gguf"]["key"]
    keys = {models[name]["key"] for name in ("a", "floats", "bare", "one.gguf")}
    assert len(keys) == 4 == plan.counts["keys"]
    assert models["bare"]["key"] == weighbridge.key(small.LLAMA)
    assert "broken.gguf" in models["broken.gguf"]["unread"]
    assert "model.safetensors" in models["cut"]["unread"]
    run(out, plan)
    assert check(out, plan).code == 0
    found = {(row["key"], row["question"]): row for row in rows(out)}
    for name in ("a", "floats", "one.gguf"):
        told = found[models[name]["key"], "load/4090"]
        report = weighbridge.load(str(checkpoints / name), gpu="4090")
        assert (told["need"], told["code"]) == (report.peak.expected, 0)
    need = {name: found[models[name]["key"], "load/4090"]["need"] for name in ("a", "bare")}
    assert need["a"] == need["bare"]


def test_weights_that_went_are_a_row(checkpoints, tmp_path):
    out, plan = make(checkpoints, tmp_path / "out", parts=1)
    (checkpoints / "one.gguf").unlink()
    (checkpoints / "copy.gguf").unlink()
    run(out, plan)
    assert check(out, plan).code == 0
    refused = [row for row in rows(out) if row["code"]]
    assert [row["question"] for row in refused] == ["model"]
    assert "gguf" in refused[0]["message"]


def test_a_split_file_is_one_model(tmp_path):
    written(tmp_path / "x-00001-of-00001.gguf", "llama")
    (tmp_path / "y-00002-of-00002.gguf").write_bytes(b"")
    (only,) = registry.models(tmp_path)
    assert only.id == "x-00001-of-00001.gguf"
    assert only.unread is None


def test_a_config_cannot_name_a_path(tmp_path):
    """Text in place of a config is what a row of a stranger's table may hold."""
    table = tmp_path / "models.jsonl"
    table.write_text('{"id": "x", "config": "\\"/etc/passwd\\""}\n{"id": "y", "config": "/etc"}\n')
    assert all(model.config is None and model.unread for model in registry.models(table))
