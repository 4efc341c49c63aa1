"""What is fetched before it is asked for changes nothing: a Hub is read as a folder is."""

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sparse import INDEX, as_tensors, write_repo, write_safetensors
from tests.tiny import config
from weighbridge.base.errors import WeighbridgeError
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.checkpoint.layouts import shards
from weighbridge.models.checkpoint.reading import Reader
from weighbridge.models.sources import base
from weighbridge.models.sources.base import SourceFile, Together
from weighbridge.models.sources.local import LocalSource

TINY = config("first", vocab_size=100, intermediate_size=96, num_hidden_layers=12)
TENSORS = as_tensors(blueprint(Config(TINY)))
SHARD = "model-{:05}-of-{:05}.safetensors"


class Away(LocalSource):
    """Read as a Hub is: several files at a time."""

    waits = True

    def __init__(self, *where):
        super().__init__(*where)
        self.reads = []

    def read(self, path, start, stop):
        self.reads.append((path, start, stop))
        return super().read(path, start, stop)


def outcome(source):
    try:
        return Reader("x", source, None).inventory()
    except WeighbridgeError as error:
        return type(error), str(error)


def same(folder):
    """The inventory, or the error, of a folder read both ways."""
    away = Away(folder)
    found = outcome(away)
    assert found == outcome(LocalSource(folder))
    return found, away.reads


def index_of(folder):
    return json.loads((folder / INDEX).read_text())


@pytest.mark.parametrize("seed", range(8))
def test_any_split_of_a_model(tmp_path, seed):
    chance = random.Random(seed)
    count = chance.choice((1, 2, 4, 40))
    names = [SHARD.format(i + 1, count) for i in range(count)]
    weight_map = {name: chance.choice(names) for name in TENSORS}
    if seed % 2:  # in an index of one line, which says less of how large headers are
        write_repo(tmp_path, TINY, TENSORS, weight_map=weight_map)
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    else:
        write_repo(tmp_path, TINY, TENSORS, weight_map=weight_map)
    found, reads = same(tmp_path)
    assert {t.name for t in found.parts[0].tensors} == TENSORS.keys()
    assert len({path for path, _, _ in reads}) == 2 + len(set(weight_map.values()))
    assert len([path for path, _, _ in reads]) <= 2 + 2 * count


def test_a_shard_beside_the_index_that_it_does_not_name(tmp_path):
    write_repo(tmp_path, TINY, TENSORS, shards=3)
    index = index_of(tmp_path)
    index["weight_map"] = {n: f for n, f in index["weight_map"].items() if "-00003-" not in f}
    (tmp_path / INDEX).write_text(json.dumps(index))
    found, _ = same(tmp_path)
    assert 0 < len(found.parts[0].tensors) < len(TENSORS)


def test_limits_count_each_header_once(tmp_path, monkeypatch):
    from weighbridge.models.checkpoint import inventory

    monkeypatch.setattr(inventory, "MAX_TENSORS", len(TENSORS))
    test_a_shard_beside_the_index_that_it_does_not_name(tmp_path)


@pytest.mark.parametrize(
    "broken",
    [
        {"config.json": "{"},
        {INDEX: "[]"},
        {INDEX: '{"weight_map": {"a": "../x"}}'},
        {INDEX: '{"weight_map": {"a": "other.safetensors"}}'},
        {SHARD.format(2, 3): "short"},
        {"config.json": "{", INDEX: "[]", SHARD.format(2, 3): "short"},
        {INDEX: "[]", SHARD.format(2, 3): "short"},
        {"modules.json": "{"},
    ],
)
def test_what_is_broken_is_told_alike(tmp_path, broken):
    write_repo(tmp_path, TINY, TENSORS, shards=3)
    for name, text in broken.items():
        (tmp_path / name).write_text(text)
    same(tmp_path)


def test_a_shard_that_is_missing_and_a_pipeline(tmp_path):
    write_repo(tmp_path / "one", TINY, TENSORS, shards=3)
    (tmp_path / "one" / SHARD.format(3, 3)).unlink()
    found, _ = same(tmp_path / "one")
    assert "1 of 3 shards are missing" in found[1]
    pipeline = tmp_path / "two"
    for part in ("text_encoder", "text_encoder_2"):
        write_repo(pipeline / part, TINY, TENSORS, shards=2)
    index = {"_class_name": "X", "text_encoder": ["transformers", "LlamaForCausalLM"]}
    index["text_encoder_2"] = index["text_encoder"]
    (pipeline / "model_index.json").write_text(json.dumps(index))
    found, _ = same(pipeline)
    assert [part.name for part in found.parts] == ["text_encoder", "text_encoder_2"]


def test_nobody_is_asked_for_more_than_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "WORKERS", 3)
    import threading

    now, most, lock = 0, 0, threading.Lock()

    class Counting(Away):
        def read(self, path, start, stop):
            nonlocal now, most
            with lock:
                now += path.endswith(".safetensors")
                most = max(most, now)
            try:
                return super().read(path, start, stop)
            finally:
                with lock:
                    now -= path.endswith(".safetensors")

    write_repo(tmp_path, TINY, TENSORS, shards=40)
    outcome(Counting(tmp_path))
    assert most <= 3


def test_shards_are_known_by_name_only_where_all_are_there():
    def of(*names, index="a/model.safetensors.index.json"):
        entries = [SourceFile(name, 1) for name in names]
        return [e.path for e in shards(entries, SourceFile(index, 1))]

    both = ["a/model-00001-of-00002.safetensors", "a/model-00002-of-00002.safetensors"]
    assert of(*both, "a/other-00001-of-00001.safetensors", "model.safetensors") == both
    assert of(both[0]) == []
    assert of(*both, "a/model-00003-of-00003.safetensors") == []
    assert of("p-00001-of-000001.bin", index="p.bin.index.json") == ["p-00001-of-000001.bin"]
    assert of(*both, index="a/odd.json") == []


def test_a_header_larger_than_was_expected_is_read_on(tmp_path):
    """One shard holds nearly all tensors: two reads of it, and no byte twice."""
    many = {f"layers.{i}.weight": ("BF16", (4, 4)) for i in range(400)}
    weight_map = dict.fromkeys(many, SHARD.format(1, 20)) | {
        f"rest.{i}": SHARD.format(i + 1, 20) for i in range(1, 20)
    }
    tensors = many | {f"rest.{i}": ("BF16", (4, 4)) for i in range(1, 20)}
    write_repo(tmp_path, TINY, tensors, weight_map=weight_map)
    write_safetensors(tmp_path / "unrelated.safetensors", {"x": ("F32", (1,))})
    found, reads = same(tmp_path)
    assert len(found.parts[0].tensors) == len(tensors)
    large = [(start, stop) for path, start, stop in reads if path == SHARD.format(1, 20)]
    assert len(large) == 2
    assert large[0][1] == large[1][0]


def test_two_threads_that_want_one_file_both_get_it():
    begin = threading.Event()
    job = Together([lambda: begin.wait(60) and "found"])
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(job.results) for _ in range(2)]
        begin.set()
        assert [one.result(timeout=60) for one in asked] == [("found",)] * 2
