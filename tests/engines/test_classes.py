"""The law of classes: what a release does not know yet, held against a table that was read in the
engines' sources apart from theirs; it is refused, or runs as a class of transformers."""

import re
from dataclasses import replace

import pytest

import weighbridge
from tests.cases import all_of
from tests.engines.answers import answer, named, of_config
from weighbridge.answers.estimate.infer import infer
from weighbridge.answers.estimate.load import load
from weighbridge.answers.estimate.train import train
from weighbridge.base.errors import UnsupportedError
from weighbridge.engines.model_classes import Known, check, missing, row_of
from weighbridge.engines.table import ENGINES
from weighbridge.engines.weight_formats import Loader
from weighbridge.models import catalogue
from weighbridge.workload import Infer, Load, Train

# engine, name -> the first release that was read and has it, the last that has not
TRUTH = """
vllm          Gemma3nForConditionalGeneration    0.9.2    0.9.1
vllm          NemotronHForCausalLM               0.9.1    0.9.0
vllm          Exaone4ForCausalLM                 0.10     0.9.2
vllm          Glm4MoeForCausalLM                 0.10     0.9.2
vllm          GptOssForCausalLM                  0.10.1   0.10.0
vllm          SmolLM3ForCausalLM                 0.10.1   0.10.0
vllm          Qwen3NextForCausalLM               0.10.2   0.10.1
vllm          SeedOssForCausalLM                 0.10.2   0.10.1
vllm          DeepseekV32ForCausalLM             0.11     0.10.2
vllm          Qwen3VLForConditionalGeneration    0.11     0.10.2
vllm          Olmo3ForCausalLM                   0.11     0.10.2
vllm          MiniMaxM2ForCausalLM               0.11.1   0.11.0
vllm          Glm4MoeLiteForCausalLM             0.15     0.14.1
vllm          Step3p5ForCausalLM                 0.15.1   0.15.0
vllm          KimiK25ForConditionalGeneration    0.15     0.14
vllm          Qwen3_5ForConditionalGeneration    0.17     0.16
vllm          Qwen3_5MoeForConditionalGeneration 0.17     0.16
vllm          Gemma4ForConditionalGeneration     0.19     0.18
vllm          DeepseekV4ForCausalLM              0.20     0.19.1
vllm          KimiK3ForConditionalGeneration     0.27     0.26
sglang        Gemma3ForConditionalGeneration     0.4.4    0.4.3
sglang        Qwen3ForCausalLM                   0.4.6    0.4.4
sglang        Glm4MoeForCausalLM                 0.4.9    0.4.8
sglang        GptOssForCausalLM                  0.5      0.4.10
sglang        Qwen3NextForCausalLM               0.5.2    0.5.1
sglang        DeepseekV32ForCausalLM             0.5.3    0.5.2
sglang        MiniMaxM2ForCausalLM               0.5.4    0.5.3
sglang        Qwen3_5ForConditionalGeneration    0.5.9    0.5.8
sglang        DeepseekV4ForCausalLM              0.5.12   0.5.11
transformers  mistral                            4.34     4.33
transformers  qwen2                              4.37     4.36
transformers  gemma2                             4.42     4.41
transformers  olmo2                              4.47     4.46
transformers  qwen2_5_vl                         4.49     4.48
transformers  gemma3                             4.50     4.49
transformers  qwen3                              4.51     4.50
transformers  llama4                             4.51     4.50
transformers  glm4                               4.51.3   4.51.0
transformers  smollm3                            4.53     4.52
transformers  glm4_moe                           4.54     4.53
transformers  gpt_oss                            4.55     4.54
transformers  qwen3_next                         4.57     4.56
transformers  olmo3                              4.57     4.56
transformers  qwen3_5                            5.2      5.1
transformers  gemma4                             5.5      5.4
transformers  deepseek_v4                        5.8      5.7
llama.cpp     qwen3                              5122     4905
llama.cpp     gpt-oss                            6096     6095
llama.cpp     glm4moe                            6150     5354
llama.cpp     minimax-m2                         7340     6840
ollama        qwen3                              0.6.6    0.6.5
ollama        gemma3n                            0.9.3    0.9.2
ollama        gpt-oss                            0.11     0.10.1
ollama        qwen35                             0.17.1   0.17.0
ollama        gemma4                             0.20     0.19
"""


def number(text):
    return tuple(map(int, text.split(".")))


def truth():
    for line in TRUTH.strip().splitlines():
        engine, name, since, before = line.split()
        yield engine, name, number(since), number(before)


@all_of(("engine", "name", "since", "before"), list(truth()))
def test_each_class_comes_with_its_release(engine, name, since, before):
    """Both sides of the boundary."""
    row = row_of(ENGINES[engine].knowing, name)
    assert row is not None
    assert (row.lacking(since), row.lacking(before)) == (False, True), row


@all_of("engine", ENGINES)
def test_rows_stand_in_order_and_name_each_class_once(engine):
    kind = ENGINES[engine]
    names = [name for row in kind.knowing for name in row.names.split()]
    assert sorted(names) == sorted(set(names))
    for row in kind.knowing:
        assert row.before < row.since <= (*kind.newest, 99), row
        assert len(row.before) == 1 or len(row.before) > 2, row  # written in full
        assert not row.lacking(kind.newest), row  # the newest release knows them all


def test_between_two_releases_that_were_read_nothing_is_said():
    row = Known((0, 9, 3), (0, 9, 1), "X")
    told = [row.lacking(n) for n in ((0, 8, 5), (0, 9, 1), (0, 9, 1, 1), (0, 9, 2), (0, 9, 3))]
    assert told == [True, True, False, False, False]


def test_a_release_written_short_is_any_of_its_series():
    row = Known((0, 9, 3), (0, 9, 1), "X")
    assert [row.lacking(n) for n in ((0, 8), (0, 9), (0,), (0, 9, 0))] == [True, False, False, True]


REFUSED = [
    ("gemma-4-e4b", "vllm", "0.9", "Gemma4ForConditionalGeneration: 0.19 does"),
    ("qwen3.6-27b", "vllm", "0.16.0", "Qwen3_5ForConditionalGeneration: 0.17 does"),
    ("qwen3.6-27b", "sglang", "0.4", "Qwen3_5ForConditionalGeneration: 0.5.9 does"),
    ("qwen3-8b", "transformers", "4.45", "qwen3: 4.51 does"),
    ("gpt-oss-20b", "llama.cpp", "b4000", "gpt-oss: 6096 does"),
    ("gpt-oss-20b", "ollama", "0.5", "gpt-oss: 0.11 does"),
]


@pytest.mark.parametrize(("model", "engine", "release", "says"), REFUSED)
def test_a_class_that_is_not_known_is_refused(model, engine, release, says):
    with pytest.raises(UnsupportedError, match=f"does not know {re.escape(says)}") as caught:
        answer(model, engine=engine, engine_version=release, context=512)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "engine", "release"),
    [("qwen3.6-27b", "vllm", "0.17"), ("qwen3-8b", "sglang", "0.4.6.post1"),
     ("qwen3-8b", "transformers", "4.51"), ("gpt-oss-20b", "llama.cpp", "b6096"),
     ("gpt-oss-20b", "ollama", "0.11"), ("llama-3.1-8b", "vllm", "0.9")],
)  # fmt: skip
def test_a_class_that_is_known_is_answered(model, engine, release):
    found = infer(named(model), Infer(engine=engine, engine_version=release, context=512))
    assert not [w for w in found.warnings if "class of transformers" in w]


@all_of(
    ("name", "since", "release", "runs"),
    [
        ("XForCausalLM", (4, 55), (0, 9), True),
        ("XForConditionalGeneration", (4, 55), (0, 9, 2), False),  # of text alone until 0.10
        ("XForConditionalGeneration", (4, 55), (0, 10), True),
        ("XForCausalLM", (5, 2), (0, 19), False),  # transformers 5 since 0.20
        ("XForCausalLM", (5, 2), (0, 20), True),
    ],
)
def test_vllm_may_run_the_class_of_transformers(name, since, release, runs):
    assert ENGINES["vllm"].backend.runs(release, name, since) is runs


def test_sglang_takes_one_transformers():
    backend = ENGINES["sglang"].backend
    told = [backend.runs(n, "XForCausalLM", (4, 55)) for n in ((0, 4, 10), (0, 5))]
    assert told == [False, True]
    assert not backend.runs((0, 4, 6), "XForCausalLM", ())


def test_a_class_of_transformers_in_its_place_is_said():
    found = infer(named("smollm3-3b"), Infer(engine="vllm", engine_version="0.10.0", context=512))
    assert [w for w in found.warnings if "SmolLM3ForCausalLM, which 0.10.1 has" in w]


def renamed(model, **keys):
    """The part of a model whose config says other classes."""
    part = named(model).parts[0]
    return replace(part, config={**part.config, **keys})


@pytest.mark.slow
def test_what_runs_as_transformers_has_it_surely_fits_nowhere():
    """Qwen3-VL 235B under vLLM 0.10.2, in float8 made while loading, died on 8 H20 (QwenLM/Qwen3-VL
    issue 1493): "Using Transformers backend", whose experts are no Linears and whole on each rank.
    0.11 has the class."""
    w = {"engine": "vllm", "tensor_parallel_size": 8, "gpu": "h20:8", "quantization": "fp8"}
    for release, fits in (("0.10.2", "unknown"), ("0.11", "yes")):
        report = weighbridge.infer("qwen3-vl-235b-a22b", engine_version=release, **w)
        assert report.verdict.fits == fits
        assert ("holds experts and heads" in report.verdict.reason) is (fits == "unknown")


def test_one_class_of_several_is_enough():
    """vLLM takes the first name of `architectures` that it has."""
    by = Loader(ENGINES["vllm"], (0, 16, 0))
    both = ["Qwen3_5ForConditionalGeneration", "Qwen3ForCausalLM"]
    assert check(renamed("qwen3.6-27b", architectures=both), by) == ""
    with pytest.raises(UnsupportedError):
        check(renamed("qwen3.6-27b", architectures=both[:1]), by)


def test_the_class_with_the_other_ending_may_run_in_its_place():
    part = renamed("qwen3.6-27b", architectures=["Qwen3_5ForCausalLM"])  # its own since 0.27
    assert check(part, Loader(ENGINES["vllm"], (0, 18, 0))) == ""
    with pytest.raises(UnsupportedError, match=r"0\.27 does"):
        check(part, Loader(ENGINES["vllm"], (0, 16, 0)))


@all_of(
    ("model", "engine", "release"),
    [
        ("deepseek-v3", "transformers", "4.45"),  # code of its own
        ("phi-3-mini", "transformers", "4.38"),
        ("falcon-7b", "transformers", "4.30"),
        ("devstral-2-123b", "vllm", "0.13"),  # Mistral's own format
        ("granite-4.0-micro", "llama.cpp", "b5000"),  # converted to granite
        ("mistral-small-3.2-24b", "ollama", "0.6.0"),  # as a file of llama
    ],
)
def test_what_may_run_is_not_refused(model, engine, release):
    by = Loader(ENGINES[engine], number(release.strip("b")))
    assert check(named(model).parts[0], by) == ""


@pytest.mark.slow
def test_training_asks_transformers():
    asked = {"method": "qlora", "seq_len": 512}
    with pytest.raises(UnsupportedError, match=r"does not know qwen3: 4\.51 does"):
        train(named("qwen3-8b"), Train(**asked, engine_version="4.50"))
    assert train(named("qwen3-8b"), Train(**asked, engine_version="4.51"))


def test_loading_asks_transformers():
    with pytest.raises(UnsupportedError, match=r"does not know qwen3: 4\.51 does"):
        load(named("qwen3-8b"), Load(engine_version="4.50"))
    assert load(named("qwen3-8b"), Load(engine_version="4.51"))


def test_code_of_its_own_is_known_to_every_release_of_transformers():
    raw = {**catalogue.find("qwen3-8b").config, "auto_map": {"AutoModelForCausalLM": "x.Y"}}
    by = Loader(ENGINES["transformers"], (4, 45))
    assert check(of_config(raw).parts[0], by) == ""


# engine, release, class, model type -> what is said: nothing, a warning, or what is not counted
NEVER = """
vllm    0.33    LlamaForCausalLM             llama         -
vllm    0.33    LlamaModel                   llama         -          the same with another ending
vllm    0.33    BertForMaskedLM              bert          -
vllm    0.33    NotYetForCausalLM            not_yet       uncounted  transformers has none either
vllm    0.33    MptForCausalLM               mpt           uncounted  dropped after 0.28
vllm    0.28    MptForCausalLM               mpt           -
vllm    0.33    PersimmonForCausalLM         persimmon     warning    dropped after 0.25
vllm    0.25    PersimmonForCausalLM         persimmon     -
vllm    0.33    GPTNeoForCausalLM            gpt_neo       uncounted  attention of its own
vllm    0.33    Qwen3NextForCausalLM         qwen3_next    -
sglang  0.5.23  LlamaForCausalLM             llama         -
sglang  0.5.23  SmolLM3ForCausalLM           smollm3       warning
sglang  0.4.6   SmolLM3ForCausalLM           smollm3       uncounted  no backend before 0.4.7
sglang  0.5.2   Olmo3ForCausalLM             olmo3         uncounted  a transformers of before it
sglang  0.5.23  BloomForCausalLM             bloom         uncounted
sglang  0.5.23  FalconForCausalLM            falcon        uncounted
sglang  0.5.23  NotYetForCausalLM            not_yet       uncounted
transformers 5  NotYetForCausalLM            not_yet       -          no list of its classes
"""


@all_of(
    ("engine", "release", "name", "model_type", "says"),
    [line.split(None, 5)[:5] for line in NEVER.strip().splitlines()],
)
def test_a_class_that_the_engine_never_had_is_said(engine, release, name, model_type, says):
    part = renamed("llama-3.1-8b", architectures=[name], model_type=model_type)
    told = missing(part, Loader(ENGINES[engine], number(release)))
    assert [kind for kind, text in told._asdict().items() if text] == (
        [says] if says != "-" else []
    )
    assert all(name in text for text in told if text)


def test_code_of_its_own_may_or_may_not_be_made_for_a_server():
    part = renamed("llama-3.1-8b", architectures=["XForCausalLM"], auto_map={"AutoModel": "x.Y"})
    assert missing(part, Loader(ENGINES["vllm"], (0, 33))).uncounted


def test_experts_of_transformers_class_are_not_counted():
    part = renamed("mixtral-8x7b", architectures=["XForCausalLM"])
    warning, uncounted = missing(part, Loader(ENGINES["vllm"], (0, 33)))
    assert "in its place" in warning
    assert "holds experts" in uncounted


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_lists_name_each_class_once_and_what_is_gone_was_there(engine):
    kind = ENGINES[engine]
    rows = [name for row in kind.knowing for name in row.names.split()]
    assert not set(rows) & set(kind.has.split())
    gone = [name for names in kind.gone.values() for name in names.split()]
    assert len(gone) == len(set(gone))
    assert not set(gone) & set(kind.has.split())
    assert all(last < kind.newest for last in kind.gone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "engine", "release", "fits"),
    [
        ("smollm3-3b", "sglang", None, "yes"),  # as transformers has it
        ("smollm3-3b", "sglang", "0.4.6", "unknown"),
        ("bloom-560m", "vllm", None, "yes"),
        ("bloom-560m", "sglang", None, "unknown"),
        ("mpt-7b", "vllm", "0.28", "yes"),
        ("mpt-7b", "vllm", "0.29", "unknown"),
    ],
)
def test_what_nobody_knows_to_run_surely_fits_nowhere(model, engine, release, fits):
    asked = {"engine": engine, "engine_version": release, "gpu": "h100", "context": 1024}
    report = weighbridge.infer(model, **asked)
    assert report.verdict.fits == fits
    told = [line for line in report.warnings if "no class for" in line or "not have" in line]
    assert len(told) == ((engine, fits) != ("vllm", "yes"))
