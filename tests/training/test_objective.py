"""What a step learns from: passes without gradients, a frozen copy, adapters that are off."""

import pytest

import weighbridge
from tests.tiny import config
from weighbridge.answers.estimate.train import of_step
from weighbridge.answers.questions.question import question
from weighbridge.base.records import replace
from weighbridge.training.forward.heads import Head
from weighbridge.training.forward.losses import LOSSES
from weighbridge.training.objective import LOG_PROBS, REFERENCE, Objective

SMALL = config("llama", vocab_size=512, max_position_embeddings=4096, torch_dtype=None)
SFT = Head(update=LOSSES["standard"], quiet=LOSSES["standard"])
ADAPTERS = {
    "method": "lora",
    "framework": "trl",
    "lora_r": 64,
    "lora_targets": "all-linear",
    "loss": "standard",
}


def instants(objective=None, **settings):
    model = weighbridge.prepare(SMALL).model()
    asked = question("train", None, {"seq_len": 64, "batch_size": 4, **settings}).workload
    report = of_step(model, asked, objective=objective)
    return {one.name: one for one in report.devices[0].phases}


def objective(**facts):
    return Objective(**{"method": "grpo", "head": SFT, **facts})


def allocated(one):
    return one.at("allocated").expected


@pytest.mark.parametrize("settings", [{}, ADAPTERS, {"checkpointing": "full"}])
def test_the_next_token_is_an_objective_with_nothing_beside(settings):
    assert instants(objective(), **settings) == instants(**settings)


def test_a_pass_without_gradients_is_an_evaluation_of_as_many_rows():
    quiet, evaluated = instants(objective(quiet=2)), instants(eval_batch_size=2)
    assert quiet[LOG_PROBS].of("activations") == evaluated["evaluation"].of("activations")
    assert quiet[LOG_PROBS].of("logits") == evaluated["evaluation"].of("logits")
    more = instants(objective(quiet=8))
    assert allocated(more[LOG_PROBS]) > allocated(quiet[LOG_PROBS])
    assert more["backward"].of("activations") == quiet["backward"].of("activations")


def test_a_copy_is_as_many_bytes_as_the_policy_at_every_instant():
    alone, both = instants(), instants(objective(quiet=2, reference="copy"))
    copies = {
        sum(c.bytes.expected for c in one.components if c.role == REFERENCE)
        for one in both.values()
    }
    assert copies == {alone["load"].of("weights").expected}
    assert allocated(both["step"]) - allocated(alone["step"]) == pytest.approx(
        copies.pop(), rel=0.01
    )


def test_adapters_are_off_for_the_reference_alone():
    found = instants(objective(quiet=4, reference="adapter"), **ADAPTERS)
    assert allocated(found[REFERENCE]) < allocated(found[LOG_PROBS])
    assert found[REFERENCE].of("adapters") == found[LOG_PROBS].of("adapters")


def test_a_reference_within_the_step_has_the_policys_graph_beside():
    under = replace(SFT, under_graph=True)
    before = instants(objective(reference="copy"))
    within = instants(objective(reference="copy", head=under))
    assert (
        within[REFERENCE].of("activations").expected > before[REFERENCE].of("activations").expected
    )
    assert LOG_PROBS not in within


def test_one_that_was_computed_once_takes_nothing():
    once = instants(objective(reference="precomputed"))
    assert REFERENCE not in once
    assert once["backward"] == instants()["backward"]


def test_a_cache_that_is_emptied_begins_anew():
    keeps, empties = (instants(objective(quiet=1, empties=e)) for e in (False, True))
    assert (
        empties[LOG_PROBS].of("fragmentation").expected
        < keeps[LOG_PROBS].of("fragmentation").expected
    )
    assert allocated(empties["backward"]) == allocated(keeps["backward"])


def test_a_second_adapter_is_as_many_bytes_again():
    one, two = (instants(objective(adapters=n), **ADAPTERS) for n in (0, 1))
    assert two["step"].of("adapters").expected == 2 * one["step"].of("adapters").expected
    assert two["step"].of("optimizer_states") == one["step"].of("optimizer_states")
