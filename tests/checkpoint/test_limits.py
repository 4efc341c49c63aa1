"""What a model may hold: limits, each with the last value that passes; and what messages name."""

from collections.abc import Iterator

import pytest

from tests.checkpoint.test_reading import weigh
from tests.sparse import write_safetensors
from weighbridge.base.errors import BadFileError, NotFoundError
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.checkpoint import agreement, inventory, layouts, loading, model
from weighbridge.models.checkpoint.gather import naming
from weighbridge.models.checkpoint.inventory import StoredModel, library_of
from weighbridge.models.sources.base import SourceFile
from weighbridge.models.tensors import CheckpointTensor


def headers(*sizes: int) -> Iterator[int]:
    """A plan that reads chunks of these sizes and gives as many tensors as there were."""
    for size in sizes:  # noqa: UP028 - a tuple takes nothing that is sent
        yield size
    return len(sizes)


def read(bound: inventory.Bound, *sizes: int) -> int:
    plan = bound.keep(headers(*sizes), lambda tensors: tensors)
    try:
        wanted = next(plan)
        while True:
            wanted = plan.send(bytes(wanted))
    except StopIteration as done:
        return done.value


def test_headers_of_all_files_are_limited_together(monkeypatch):
    monkeypatch.setattr(inventory, "MAX_HEADERS", 100)
    bound = inventory.Bound()
    assert read(bound, 60) == 1
    assert read(bound, 30, 10) == 2  # exactly the limit
    assert (bound.header_bytes, bound.tensors) == (100, 3)
    with pytest.raises(BadFileError, match="more than 100 bytes"):
        read(bound, 1)


def test_tensors_of_all_files_are_limited_together(monkeypatch):
    monkeypatch.setattr(inventory, "MAX_TENSORS", 3)
    bound = inventory.Bound()
    assert (read(bound, 1, 1), read(bound, 1)) == (2, 1)
    with pytest.raises(BadFileError, match="more than 3 tensors"):
        read(bound, 1)


@pytest.mark.parametrize(("unlike", "refused"), [(5, False), (6, True)])
def test_a_class_of_files_alone_has_so_many_unlike_parameters(
    tmp_path, monkeypatch, unlike, refused
):
    monkeypatch.setattr(model, "MOST_UNLIKE", 5)
    write_safetensors(
        tmp_path / "model.safetensors", {f"part_{i}": ("F16", [i + 1]) for i in range(unlike)}
    )
    if refused:
        with pytest.raises(BadFileError, match="hold 6 parameters that are unlike each other"):
            weigh(tmp_path / "model.safetensors")
    else:
        assert weigh(tmp_path / "model.safetensors").model.parameters == 1 + 2 + 3 + 4 + 5


def plan(*params: Param) -> Blueprint:
    return Blueprint(cls="Net", params=params)


def stored(config):
    return StoredModel(library="transformers", where="config.json", config=config)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"hidden_size": 0}, "correct hidden_size, which is 0"),
        ({"hidden_size": 0, "vocab_size": 0}, "correct hidden_size, vocab_size, which are 0"),
        ({}, "correct the size that is 0"),
    ],
)
def test_a_size_of_nothing_names_its_keys(config, says):
    with pytest.raises(BadFileError, match=f"w of Net would be 4 x 0: {says}"):
        model._check_size(
            plan(Param("b", (1,), "norm"), Param("w", (4, 0), "matrix")), stored(config)
        )


def test_a_size_of_one_is_a_size():
    model._check_size(plan(Param("w", (4, 1), "matrix")), stored({}))


@pytest.mark.parametrize(("count", "more"), [(2, ""), (3, ""), (4, " and 1 more")])
def test_three_tensors_that_are_not_loaded_are_named(count, more):
    left = tuple(CheckpointTensor(f"t{i}", "F16", (2,), 4) for i in range(count))
    (note,) = agreement.unloaded(plan(Param("w", (4, 1), "matrix")), left)
    names = ", ".join(f"t{i}" for i in range(min(count, 3)))
    assert (
        note == f"{count} stored tensors ({4 * count} bytes) are not loaded by Net: {names}{more}"
    )


def test_half_of_the_stored_names_make_a_spelling():
    """Two of four are enough to tell how files call what a class has; one of three is not."""
    wanted = {"layers.0.q", "layers.0.k", "layers.0.v"}
    _, share = loading._key(wanted, {"model.layers.0.q", "model.layers.0.k", "x.a", "x.b"})
    assert share >= loading.MOST
    _, share = loading._key(wanted, {"model.layers.0.q", "x.a", "x.b"})
    assert share < loading.MOST


def files(*names):
    return [SourceFile(path=name, size=8) for name in names]


def test_shards_are_taken_where_all_are_there():
    index = SourceFile(path="a/model.safetensors.index.json", size=8)
    both = files("a/model-00001-of-00002.safetensors", "a/model-00002-of-00002.safetensors")
    assert layouts.shards(both, index) == tuple(both)
    assert layouts.shards(both[:1], index) == ()
    assert layouts.shards([*both, *files("b/model-00001-of-00002.safetensors")], index) == tuple(
        both
    )
    assert layouts.shards(files("a/model-00001-of-00002.bin"), index) == ()


@pytest.mark.parametrize(
    ("config", "library"),
    [
        ({"_class_name": "UNet2DConditionModel", "architecture": "x"}, "diffusers"),
        ({"architecture": "resnet50"}, "timm"),
        ({"architecture": "x", "model_type": "llama"}, "of the folder"),
        ({}, "of the folder"),
    ],
)
def test_a_config_names_its_library(config, library):
    assert library_of(config, "of the folder") == library


def test_an_error_names_what_was_typed_once():
    said = naming("org/qwen3-9b", NotFoundError("nothing is there"))
    assert str(said).startswith("org/qwen3-9b: nothing is there; the built-in catalogue has ")
    assert "qwen3-8b" in str(said)
    assert str(naming("org/x-9b", NotFoundError("org/x-9b is not there"))).count("org/x-9b") == 1
