"""What a command that its engine refuses makes of the verdict: by hand, on one small report."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import weighbridge
from tests.charts.made import answering
from tests.tiny import config
from weighbridge.answers.bounds import RunForm, highest
from weighbridge.answers.estimate import limits, refusals
from weighbridge.base.memory import exactly
from weighbridge.base.units import GIB
from weighbridge.engines.interface import HeldBytes
from weighbridge.engines.launch.record import Obstacle
from weighbridge.machines.accelerators.budget import budget
from weighbridge.memory.report.verdict import Remedy

CONFIG = config("first", architectures=None)
REMEDY = Remedy(change={}, peak_bytes=1, fits="yes", cost="", flags="--eager")
LAUNCH = "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 vllm serve config"


def report(fits="yes", context=1024, longest=2048):
    found = weighbridge.load(CONFIG, gpu="4090")
    verdict = answering(found.verdict, fits, reason="so it was")
    return replace(
        found,
        verdict=verdict,
        workload={**found.workload, "context": context},
        derived={**found.derived, "longest_context": longest, "launch": LAUNCH},
        remedies=(REMEDY,),
    )


def command(stops=(), stored_as="", env=None, given=(), engine="vllm", model="org/a"):
    return SimpleNamespace(
        stops=list(stops),
        stored_as=stored_as,
        env=env or {},
        given=set(given),
        engine=engine,
        model=model,
    )


def read_model(*, packed):
    part = SimpleNamespace(packed=packed, library="transformers")
    return SimpleNamespace(parts=(part,), repo_id="org/a", reference="a", name="a")


PLAIN, PACKED = read_model(packed=False), read_model(packed=True)
MAY = Obstacle("unknown", "a flag")
NO = Obstacle("no", "a card", "tried", "its own words")


@pytest.mark.parametrize(
    ("was", "stops", "fits", "reason", "remedies"),
    [
        ("yes", [], "yes", "so it was", ["yes"]),
        ("yes", [MAY], "unknown", "vLLM may not start: a flag", ["unknown"]),
        ("unknown", [MAY], "unknown", "vLLM may not start: a flag; so it was", ["unknown"]),
        ("yes", [MAY, NO], "no", "vLLM will not start: a card", []),
        ("unknown", [NO], "no", "vLLM will not start: a card", []),
        ("no", [NO], "no", "so it was", []),
        ("no", [MAY], "no", "so it was", ["unknown"]),
    ],
)
def test_what_stops_an_engine_turns_the_verdict(was, stops, fits, reason, remedies):
    found = refusals.judged(report(was), command(stops), PLAIN)
    refused = was != "no" and fits == "no"
    assert (found.verdict.seen == "its own words") is refused
    assert (found.verdict.fits, found.verdict.reason) == (fits, reason)
    assert [one.fits for one in found.remedies] == remedies


@pytest.mark.parametrize(
    ("was", "model", "fits", "warned"),
    [("yes", PLAIN, "no", False), ("no", PLAIN, "no", True), ("yes", PACKED, "yes", False)],
)
def test_a_format_that_the_files_are_not_in_is_refused(was, model, fits, warned):
    """Where the verdict has another reason, it is a warning."""
    found = refusals.judged(report(was), command(stored_as="--quantization awq"), model)
    said = "--quantization awq is of a checkpoint that is stored so, and this is not"
    assert found.verdict.fits == fits
    assert (said in found.warnings) is warned
    assert (said in found.verdict.reason) is (fits != was)


@pytest.mark.parametrize(
    ("served", "fits"), [("org/a", "no"), ("org/b", "unknown"), ("org/b-MXFP4", "yes")]
)
def test_a_model_that_stands_in_for_another_has_its_shapes_and_not_its_format(served, fits):
    """olka-fi/Qwen3.5-122B-A10B-MXFP4 runs with --quantization compressed-tensors: it was a sure no
    beside --model qwen3.5-122b-a10b, which is stored in bfloat16."""
    asked = command(stored_as="--quantization compressed-tensors", model=served)
    found = refusals.judged(report("yes"), asked, PLAIN)
    assert found.verdict.fits == fits
    assert ("stands in for it" in found.verdict.reason) is (fits == "unknown")


@pytest.mark.parametrize(
    ("context", "asked", "refused"),
    [
        (2048, {}, False),
        (2049, {}, True),
        (2049, {"env": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}}, False),
        (2049, {"env": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "0"}}, True),
        (2049, {"given": ["--rope-scaling"]}, False),
        (2049, {"engine": "llama.cpp"}, False),  # which refuses none
        (None, {}, False),
    ],
)
def test_a_context_beyond_the_models_maximum(context, asked, refused):
    found = refusals.judged(report(context=context), command(**asked), PLAIN)
    assert (found.verdict.fits == "no") is refused
    if refused:
        assert "2,049 tokens were asked for, and the model's maximum is 2,048" in (
            found.verdict.reason
        )
        assert found.derived["launch"] == "vllm serve config"
        (first, *rest) = found.remedies
        assert (first.flags, first.fits, rest) == ("VLLM_ALLOW_LONG_MAX_MODEL_LEN=1", "yes", [])


@pytest.mark.parametrize(("was", "stops"), [("no", []), ("yes", [MAY])])
def test_a_variable_helps_only_where_nothing_else_is_in_the_way(was, stops):
    found = refusals.judged(report(was, context=2049), command(stops), PLAIN)
    assert all(one.flags == "--eager" for one in found.remedies)


def test_cards_that_differ_each_have_room_for_their_own():
    """A quick verdict: 3 GiB on one card and 5 on the other, of which each has its own margins."""
    small, large = ([[("weights", exactly(n * GIB))]] for n in (3, 5))
    like = RunForm("serve", "vllm")
    room = budget("3060+3090", None, None)
    assert [round(one.low / GIB) for one in room.each] == [12, 24]
    most = [one.low for one in room.each]

    def holds(*kinds):
        return limits._enough(limits._spare(HeldBytes(gpus=2, kinds=kinds), like, room))

    def filled(nbytes):
        """The most weights that have so much room, with the margin of several cards."""
        low, high = 0, nbytes
        while high - low > 1:
            middle = (low + high) // 2
            taken = highest([[[("weights", exactly(middle))]]], like, several=True)
            low, high = (middle, high) if taken <= nbytes else (low, middle)
        return [[("weights", exactly(low))]], [[("weights", exactly(low + 1))]]

    (first, more), (second, most_of_second) = (filled(nbytes) for nbytes in most)
    assert holds(small, large) and holds(first, second)
    assert not holds(more, second) and not holds(first, most_of_second)
    assert not holds(second, first)


def test_tokens_that_fit_are_requests_of_the_whole_context():
    """On an engine that makes a cache for each request; searches end at 65,536 of them."""
    facts = weighbridge.infer(CONFIG, engine="transformers", context=48, gpu_memory="6GiB").derived
    requests = facts["largest_batch_size"]
    assert facts["kv_cache_tokens"] == requests * 48 > 48
    assert facts["max_concurrency"] == requests
    assert facts["searched_to"] == {"context": 2048, "batch_size": 65_536}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("qwen3.6-35b-a3b-nvfp4", "modelopt"),  # noonghunna/club-3090 612: it serves
        ("/models/qwen3-8b-awq", "awq_marlin"),
        ("qwen3-8b-fp8", None),
    ],
)
def test_a_dtype_beside_the_name_of_a_format_is_of_what_the_format_leaves(name, method):
    """What multiplies in 16 bits may be stored in four: the files are in what their name says."""
    line = f"vllm serve {name} --max-model-len 32768 --max-num-seqs 1"
    line += f" --quantization {method}" if method else ""
    plain, typed = (
        weighbridge.infer(command=f"{line}{dtype}", gpu="5090", offline=True)
        for dtype in ("", " --dtype bfloat16")
    )
    assert (plain.verdict.fits, plain.peak) == ("yes", typed.peak)
    assert typed.verdict.fits == "yes"
