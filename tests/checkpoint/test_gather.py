"""Where nobody answers: what the built-in catalogue and a name say, and what is said of it."""

import pytest

from weighbridge.base.dtypes import FLOAT16
from weighbridge.base.errors import AwayError, BadFileError
from weighbridge.models.checkpoint import gather
from weighbridge.models.checkpoint.gather import GatherOptions
from weighbridge.models.checkpoint.inventory import StoredModel
from weighbridge.models.checkpoint.loading import from_stored
from weighbridge.models.tensors import CheckpointTensor

AWAY = "huggingface.co does not answer, and no copy is here"


@pytest.fixture
def away(monkeypatch):
    """No source is opened: nobody answers."""

    def opened(ref, options):
        raise AwayError(AWAY, why="huggingface.co does not answer")

    monkeypatch.setattr(gather, "open_source", opened)


def found(name, **options):
    return gather.gather(name, GatherOptions(**options))


@pytest.mark.parametrize(
    ("offline", "why"), [(True, "--offline is set"), (False, "huggingface.co does not answer")]
)
def test_a_repository_of_the_catalogue_is_answered_by_its_config(away, offline, why):
    inventory = found("Qwen/Qwen3-0.6B", offline=offline)
    assert inventory.repo_id == "Qwen/Qwen3-0.6B"
    (note,) = inventory.notes
    assert note == (
        "Qwen/Qwen3-0.6B: answered from the built-in catalogue's qwen3-0.6b, not from the Hub: no "
        f"file was read ({why})"
    )


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        ("Qwen/Qwen3-0.6B", "abc"),
        ("https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/x.gguf", None),
        ("https://huggingface.co/Qwen/Qwen3-0.6B/tree/main/unet", None),
        ("nobody/nothing", None),
        ("a/nothing-GGUF:Q4_K_M", None),
        ("somebody/Qwen3-0.6B-GGUF:Q4_K_M", "abc"),
    ],
)
def test_a_part_or_an_old_revision_is_in_no_catalogue(away, name, revision):
    with pytest.raises(AwayError, match=AWAY):
        found(name, revision=revision)


def test_a_type_of_gguf_is_answered_by_the_base_that_its_name_says(away):
    inventory = found("somebody/Qwen3-0.6B-GGUF:Q4_K_M")
    assert (inventory.repo_id, inventory.form) == ("Qwen/Qwen3-0.6B", "Q4_K_M")
    assert "not from the Hub" in inventory.notes[0]


@pytest.mark.parametrize("revision", [None, "main"])
def test_the_newest_revision_is_in_the_catalogue(away, revision):
    assert found("Qwen/Qwen3-0.6B", revision=revision).repo_id == "Qwen/Qwen3-0.6B"


@pytest.mark.parametrize(
    ("offline", "why"), [(True, "--offline is set"), (False, "huggingface.co does not answer")]
)
def test_a_name_of_timm_is_counted_by_its_architecture(away, offline, why):
    inventory = found("timm/resnet18", offline=offline)
    assert inventory.notes == (
        f"timm/resnet18: counted from the name of its architecture; no file was read ({why})",
    )
    assert inventory.parts[0].config == {"architecture": "resnet18"}


def test_notes_that_go_on_with_the_first_sentence_stand_behind_it(away):
    """What a format usually means does; what a name is sized as is a sentence of its own."""
    (note,) = found("unsloth/Qwen3-0.6B-unsloth-bnb-4bit").notes
    assert note.endswith(
        "no file was read (huggingface.co does not answer); its format is what such a name usually "
        "means; Unsloth's dynamic copies keep layers in 16 bits, and take up to a quarter more"
    )
    first, second = found("somebody/Qwen3-0.6B-GGUF:Q4_K_M").notes
    assert first.endswith("no file was read (huggingface.co does not answer)")
    assert second == "Qwen3-0.6B-Q4_K_M is sized as qwen3-0.6b (Qwen/Qwen3-0.6B)"


def routed(used, count):
    """(experts that a token uses, experts) of a stack of 8 in a GGUF file that says so."""
    facts = {"general.architecture": "a", "a.expert_used_count": used, "a.expert_count": count}
    tensor = CheckpointTensor(
        name="blk.0.ffn_up_exps.weight", shape=(8, 32, 64), dtype=FLOAT16, nbytes=8 * 32 * 64 * 2
    )
    part = StoredModel(library="gguf", config={"gguf": facts}, tensors=(tensor,))
    (param,) = from_stored(part, "GGUF a", []).params
    return param.routed


@pytest.mark.parametrize(
    ("used", "count", "there"),
    [(0, 8, True), (2, 8, True), (8, 8, True), (9, 8, False), (-1, 8, False), (2, 1 << 30, False)],
)
def test_experts_of_a_token_are_some_of_all(used, count, there):
    if there:
        assert routed(used, count) == (used, count)
    else:
        with pytest.raises(BadFileError, match="a token cannot use"):
            routed(used, count)


@pytest.mark.parametrize(("used", "count"), [(2, 0), (None, 8), (2, None), ("2", 8)])
def test_a_file_that_does_not_say_has_no_experts(used, count):
    assert routed(used, count) == (1, 1)
