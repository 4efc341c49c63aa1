"""From a registry to a plan: every way in gives the same, and what is wrong with one is told."""

import errno
import json
import os

import pytest

import weighbridge
from tests.scan import small
from tests.scan.conftest import make
from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.faces.scan import registry
from weighbridge.faces.scan.dataset import MODELS, parquet, plan_of, rows_of


def told(out):
    """What a plan holds, without the order and the hashes of where it was read from."""
    return sorted((r["id"], r["key"], r["unread"]) for r in rows_of(out / "models.parquet"))


def test_one_config_for_each_key(planned):
    out, plan = planned
    assert plan.counts == {"models": small.MODELS, "keys": small.KEYS, "unread": small.UNREAD}
    assert plan == plan_of(out)
    rows = {row["id"]: row for row in rows_of(out / "models.parquet")}
    assert rows["somebody/a-tune"]["key"] == rows["llama-2"]["key"]
    assert rows["llama-2"]["key"] == weighbridge.key(small.configs()["llama-2"])
    assert "not JSON" in rows["broken"]["unread"]
    assert "list" in rows["listed"]["unread"]
    configs = [r for path in sorted(out.glob("configs/*")) for r in rows_of(path)]
    assert len(configs) == small.KEYS
    assert all(weighbridge.key(json.loads(r["config"])) == r["key"] for r in configs)
    assert not any("_name_or_path" in r["config"] for r in configs)


def test_the_same_models_in_other_files_are_the_same_plan(planned, folder, tmp_path):
    rows = [{"id": name, "config": text, "downloads": 3} for name, text in small.texts().items()]
    lines = tmp_path / "models.jsonl"
    objects = [{**r, "config": small.configs().get(r["id"], r["config"])} for r in rows]
    lines.write_text("\n".join(map(json.dumps, objects)) + "\n\n")
    columns = [*MODELS[:3], MODELS[3]._replace(name="config")]
    table = tmp_path / "models.parquet"
    table.write_bytes(parquet(rows[::-1], columns))
    out, plan = planned
    for number, source in enumerate((lines, table)):
        other, made = make(source, tmp_path / f"other{number}")
        assert made.configs == plan.configs
        assert told(other) == told(out)
        assert {r["downloads"] for r in rows_of(other / "models.parquet")} == {3}


def test_no_file_of_a_plan_has_a_secret(tmp_path):
    config = {**small.LLAMA, "hub_token": "hunter2-hunter2", "of": {"password": "hunter2"}}
    source = tmp_path / "models.jsonl"
    rows = [{"id": "https://me:hunter2@host/a", "config": config}, {"id": "b", "config": "hunter2"}]
    source.write_text("\n".join(map(json.dumps, rows)))
    out, plan = make(source, tmp_path / "out")
    assert plan.counts == {"models": 2, "keys": 1, "unread": 1}
    assert [r["id"] for r in rows_of(out / "models.parquet")] == ["b", "https://host/a"]
    kept = [r["config"] for path in out.glob("configs/*") for r in rows_of(path)]
    assert "hunter2" not in "".join(kept)
    assert json.loads(kept[0])["of"] == {}


def test_what_cannot_be_opened_is_told_in_its_place(folder, monkeypatch):
    """A link that leads nowhere, one that leads round, and a folder that is shut."""
    (folder / "gone").mkdir()
    (folder / "gone" / "config.json").symlink_to(folder / "nowhere")
    (folder / "gone" / "round").symlink_to(folder)
    (folder / "shut").mkdir()
    real = os.scandir

    def opened(path):
        if str(path).endswith("shut"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", opened)
    found = {m.id: m.unread for m in registry.models(folder)}
    assert len(found) == small.MODELS + 2
    assert found["gone"] == "No such file or directory"
    assert found["shut"] == "the folder: Permission denied"


def test_references_lead_to_configs(tmp_path):
    source = tmp_path / "list.txt"
    source.write_text(
        "gpt2  # small\n\nllama-3.2-1b\nno-such-name\nstable-diffusion-xl\n./x.gguf\n"
    )
    found = {m.id: m for m in registry.models(source, offline=True)}
    assert list(found) == [
        "gpt2",
        "llama-3.2-1b",
        "no-such-name",
        "stable-diffusion-xl",
        "./x.gguf",
    ]
    assert found["gpt2"].config["model_type"] == "gpt2"
    assert [m.unread is None for m in found.values()] == [True, True, False, False, False]


def test_a_source_that_is_none_is_told(tmp_path):
    for name, content, error, why in (
        ("gone", None, NotFoundError, "no such folder"),
        ("x.csv", b"", UsageError, "reads a folder"),
        ("x.parquet", b"PAR1", BadFileError, "no Parquet"),
        ("x.jsonl", b'{"config": {}}', BadFileError, "x.jsonl:1: a model has an id"),
        ("y.jsonl", b"{", BadFileError, "y.jsonl:1"),
        ("empty.jsonl", b"\n", UsageError, "holds no model"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(error, match=why):
            make(tmp_path / name, tmp_path / "out")


def test_strangers_rows_are_read_with_care(tmp_path):
    source = tmp_path / "x.jsonl"
    rows = [
        {"id": "a\x1b[31m", "config": small.LLAMA, "downloads": "many", "sha": 7},
        {"id": "b", "config": None},
        {"id": "c", "config": {"a": {"b": [1] * 10}}, "downloads": 10**30},
    ]
    source.write_text("\n".join(map(json.dumps, rows)))
    out, _ = make(source, tmp_path / "out")
    found = {r["id"]: r for r in rows_of(out / "models.parquet")}
    assert [(r["sha"], r["downloads"]) for r in found.values()] == [(None, None)] * 3
    assert found["b"]["unread"] == "has no config"
    assert found["c"]["key"] is not None


def test_a_plan_that_was_changed_is_not_followed(planned):
    out, _ = planned
    path = out / "plan.json"
    text = path.read_text()
    for old, new in (
        ('"parts": 4', '"parts": 5'),
        ("scan/1", "scan/9"),
        ('"task"', '"tusk"'),
        ("{", ""),
    ):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(BadFileError):
            plan_of(out)
    path.unlink()
    with pytest.raises(NotFoundError, match="scan plan"):
        plan_of(out)


def test_a_folder_of_an_object_store_is_that_of_a_disk(folder):
    """Whatever pyarrow reads has the interface of file://, which needs no server."""
    here = {(m.id, m.sha, m.unread) for m in registry.models(folder)}
    there = {(m.id, m.sha, m.unread) for m in registry.models(folder.as_uri())}
    assert len(here) == small.MODELS
    assert there == here
    (only,) = registry.models((folder / "llama-1").as_uri())
    assert only.id == "llama-1"


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("file:///no/such/folder", "cannot be listed"),
        ("nosuch://bucket/models", "cannot be listed"),
    ],
)
def test_a_store_that_is_none_is_told(uri, why):
    with pytest.raises(NotFoundError, match=why):
        list(registry.models(uri))


def test_a_source_is_named_without_what_it_logs_in_with():
    assert (
        registry.named("s3://me:secret@bucket/models?endpoint_override=x") == "s3://bucket/models"
    )
    assert registry.named("./models") == "models"  # a file, or none
    assert registry.named(".").endswith("/")
    assert registry.named("hub:author=acme") == "hub:author=acme"
