"""Where nobody answers: what the built-in catalogue and a name say, and what is said of it."""

from types import SimpleNamespace

import pytest

from weighbridge.base.errors import AwayError, BadFileError
from weighbridge.base.sentences import clauses, sentence
from weighbridge.models.checkpoint import gather, loading
from weighbridge.models.checkpoint.gather import GatherOptions
from weighbridge.models.sources.reference import HubRef

AWAY = "huggingface.co does not answer, and no copy is here"


@pytest.fixture
def away(monkeypatch):
    def read(text, ref, options):
        raise AwayError(AWAY, why="huggingface.co does not answer")

    monkeypatch.setattr(gather, "_read", read)


@pytest.mark.parametrize(
    ("offline", "why"), [(True, "--offline is set"), (False, "huggingface.co does not answer")]
)
def test_a_repository_of_the_catalogue_is_answered_by_its_config(away, offline, why):
    ref = HubRef(repo_id="Qwen/Qwen3-0.6B")
    found = gather._repository("Qwen/Qwen3-0.6B", ref, GatherOptions(offline=offline))
    assert found.repo_id == "Qwen/Qwen3-0.6B"
    (note,) = found.notes
    assert note == (
        "Qwen/Qwen3-0.6B: answered from the built-in catalogue's qwen3-0.6b, not from the Hub: no "
        f"file was read ({why})"
    )


@pytest.mark.parametrize(
    "more", [{"revision": "abc"}, {"filename": "x.gguf"}, {"subfolder": "unet"}]
)
def test_a_part_or_an_old_revision_is_in_no_catalogue(away, more):
    with pytest.raises(AwayError):
        gather._repository(
            "Qwen/Qwen3-0.6B", HubRef(repo_id="Qwen/Qwen3-0.6B", **more), GatherOptions()
        )
    with pytest.raises(AwayError):
        gather._repository("nobody/nothing", HubRef(repo_id="nobody/nothing"), GatherOptions())


def test_a_type_of_gguf_is_answered_by_the_base_that_its_name_says(away):
    ref = HubRef(repo_id="somebody/Qwen3-0.6B-GGUF", quant="Q4_K_M")
    found = gather._repository("x", ref, GatherOptions())
    assert (found.repo_id, found.form) == ("Qwen/Qwen3-0.6B", "Q4_K_M")
    assert "not from the Hub" in found.notes[0]
    with pytest.raises(AwayError):
        gather._repository("x", HubRef(repo_id="a/nothing-GGUF", quant="Q4_K_M"), GatherOptions())
    old = HubRef(repo_id="somebody/Qwen3-0.6B-GGUF", quant="Q4_K_M", revision="abc")
    with pytest.raises(AwayError):
        gather._repository("x", old, GatherOptions())


@pytest.mark.parametrize("revision", [None, "main"])
def test_the_newest_revision_is_in_the_catalogue(away, revision):
    ref = HubRef(repo_id="Qwen/Qwen3-0.6B", revision=revision)
    assert gather._repository("x", ref, GatherOptions()).repo_id == "Qwen/Qwen3-0.6B"


@pytest.mark.parametrize(
    ("offline", "why"), [(True, "--offline is set"), (False, "no such repository")]
)
def test_a_name_of_timm_is_counted_by_its_architecture(monkeypatch, offline, why):
    def read(text, ref, options):
        raise AwayError("no such repository, and so on", why="no such repository")

    monkeypatch.setattr(gather, "_read", read)
    ref = SimpleNamespace(name="resnet18")
    found = gather._timm("timm/resnet18", ref, GatherOptions(offline=offline))
    assert found.notes == (
        f"timm/resnet18: counted from the name of its architecture; no file was read ({why})",
    )
    assert found.parts[0].config == {"architecture": "resnet18"}


def test_notes_that_go_on_with_the_first_sentence_stand_behind_it():
    usual, dynamic = sentence("format_usual"), sentence("dynamic_4bit")
    assert gather._joined("one", (usual, "three", clauses(usual, dynamic))) == (
        f"one; {usual}; {usual}; {dynamic}",
        "three",
    )


@pytest.mark.parametrize(
    ("used", "count", "there"),
    [(0, 8, True), (2, 8, True), (8, 8, True), (9, 8, False), (-1, 8, False), (2, 1 << 30, False)],
)
def test_experts_of_a_token_are_some_of_all(used, count, there):
    facts = {"general.architecture": "a", "a.expert_used_count": used, "a.expert_count": count}
    part = SimpleNamespace(config={"gguf": facts})
    if there:
        assert loading._routed(part) == (used, count)
    else:
        with pytest.raises(BadFileError, match="a token cannot use"):
            loading._routed(part)


@pytest.mark.parametrize(("used", "count"), [(2, 0), (None, 8), (2, None), ("2", 8)])
def test_a_file_that_does_not_say_has_no_experts(used, count):
    facts = {"general.architecture": "a", "a.expert_used_count": used, "a.expert_count": count}
    assert loading._routed(SimpleNamespace(config={"gguf": facts})) is None
