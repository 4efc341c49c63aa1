"""Two configs of one key have one answer to any question; a key that leaves out too much is found."""

import ast
import json
import sys
from collections import defaultdict
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from tools.syntax import nodes

import weighbridge
from tests import corpus, tiny
from tests.cases import Later, all_of, each
from weighbridge.base import canonical
from weighbridge.base.errors import BadFileError, UsageError, WeighbridgeError
from weighbridge.models import catalogue
from weighbridge.models.arch import config as classes

ROOT = Path(weighbridge.__file__).parent
LLAMA = {**tiny.NAMED, "rope_theta": 10000.0}
TUNED = {
    **LLAMA,
    "_name_or_path": "somebody/a-tune",
    "dtype": LLAMA["torch_dtype"],
    "transformers_version": "4.44.2",
    "eos_token_id": [2, 3],
    "pad_token_id": 999,
    "rms_norm_eps": 1e-6,
    "rope_theta": 500000.0,
    "temperature": 0.6,
}
del TUNED["torch_dtype"]
QUESTIONS = (
    ("load", {}),
    ("infer", {"engine": "vllm", "gpu": "4090", "context": 4096}),
    ("infer", {"engine": "llama.cpp", "quantization": "Q4_K_M", "gpu": "4090", "context": 4096}),
    ("train", {"method": "lora", "gpu": "h100"}),
)
# Keys that are left out of any config with rotary positions
LEFT_OUT = sorted(
    canonical.DROPPED
    | {
        "eps",
        "rms_norm_eps",
        "layer_norm_epsilon",
        "bos_token_id",
        "eos_token_id",
        "image_token_id",
    }
)
# An answer's names, and what goes by them
NO_LINE = "no line to paste"
NAMES = frozenset(("name", "reference", "launch", "launch_note", "quality", "reason"))


def nameless(told):
    if isinstance(told, dict):
        return {key: nameless(value) for key, value in told.items() if key not in NAMES}
    if isinstance(told, list):
        return [nameless(one) for one in told if not str(one).startswith(NO_LINE)]
    return told


def answers(config):
    """What it says to each question, as text: a report, or why there is none."""
    try:
        model = weighbridge.prepare(config)
        model.model()
    except WeighbridgeError as error:
        return [str(error)]
    found = []
    for task, settings in QUESTIONS:
        try:
            report = getattr(model, task)(remedies=False, **settings)
        except WeighbridgeError as error:
            found.append(str(error))
        else:
            found.append(json.dumps(nameless(report.to_dict())))
    return found


def alike(config):
    """Tell whether the config that a key stands for answers as the whole one does."""
    return answers(config) == answers(canonical.canonical(config))


@cache
def at_hand():
    """(name, config) of the catalogue, and of the corpus where it is beside the checkout."""
    ours = [(name, dict(catalogue.find(name).config)) for name in catalogue.names()]
    return [*ours, *corpus.configs()]


def test_a_tune_has_the_key_of_its_base():
    assert weighbridge.key(LLAMA) == weighbridge.key(TUNED)
    assert weighbridge.key({"text_config": LLAMA}) == weighbridge.key({"text_config": TUNED})
    assert len(weighbridge.key(LLAMA)) == 32


@all_of(
    "more",
    [
        {"num_key_value_heads": 4},
        {"sliding_window": None},  # not the class's own: none
        {"a_key_of_tomorrow": 1},
        {"tie_word_embeddings": True},
        {"quantization_config": {"quant_method": "gptq", "bits": 4, "desc_act": False}},
        {"torch_dtype": "float32"},
        {"use_cache": False},
    ],
)
def test_what_may_decide_memory_is_another_key(more):
    assert weighbridge.key(LLAMA) != weighbridge.key({**LLAMA, **more})


def test_words_of_a_format_stay_as_they_are():
    packed = [{"quantization_config": {"quant_method": "x", "eps": eps}} for eps in (1, 2)]
    assert weighbridge.key(packed[0]) != weighbridge.key(packed[1])


def test_labels_are_counted():
    named = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    other = {"id2label": {"0": "cat", "1": "dog"}}
    assert weighbridge.key(named) == weighbridge.key(other) == weighbridge.key({"num_labels": 2})
    assert weighbridge.key(named) != weighbridge.key({"id2label": {"0": "one"}})


def test_padding_counts_where_positions_begin_after_it():
    """A model that turns its heads has no table of positions."""
    learned = {"model_type": "roberta", "max_position_embeddings": 514}
    assert weighbridge.key(learned) != weighbridge.key({**learned, "pad_token_id": 3})


SECRETS = {
    "hub_token": "hunter2-hunter2",
    "HF_TOKEN": "abcdefgh",
    "_auth_token": "zzzzzz",
    "token": "abcdef",
    "auth_tokens": ["<s>", "abcdefgh"],
    "api_key": "a",
    "apiKey": "x",
    "api_keys": ["x"],
    "aws_secret_access_key": "AAAA",
    "password": 1234,
    "passwords": ["x"],
    "client_secret": "x",
    "credentials": {"user": "a", "of": "b"},
    "proxy_auth": "u:p",
    "Authorization": "Bearer x",
}
MARKS = {
    "bos_token_id": 1,
    "pad_token": "<pad>",
    "unk_token": "unknown",
    "cls_token": [False, True],
    "sep_token": "[SEP]",
    "audio_token": "<|AUDIO|>",
    "eod_token": "EOD",
    "use_auth_token": True,
    "experts_per_token": 8,
    "num_tokens": 3,
    "token_embedding": "rotary",
    "tokens": {"embed_tokens": {"bits": 8}},
    "secret": False,
    "key": "value",
    "author": "somebody",
    "label2id": {"B-secret": 29, "password": 3},
    "id2label": {"secret": "token"},
}


@all_of(("name", "value"), SECRETS.items())
def test_a_secret_is_in_no_key_and_no_config_that_is_kept(name, value):
    told = {**LLAMA, name: value, "quantization_config": {"of": [{name: value}]}}
    safe = {**LLAMA, "quantization_config": {"of": [{}]}}
    assert canonical.public(told) == safe
    assert canonical.canonical(told) == canonical.canonical(safe)
    assert weighbridge.key(told) == weighbridge.key(safe)


@all_of(("name", "value"), MARKS.items())
def test_what_looks_like_a_secret_and_is_none_stays(name, value):
    assert canonical.public({"within": [{name: value}]}) == {"within": [{name: value}]}


def test_secrets_within_other_text_are_asterisks():
    told = {"note": ["https://me:pass@host/x", f"hf_{'a' * 20}"], "n": 1}
    assert canonical.public(told) == {"note": ["https://host/x", "hf_***"], "n": 1}


@pytest.mark.slow
def test_no_key_of_a_real_config_is_taken_for_a_secret():
    """So its answers are what they were."""
    assert [name for name, raw in at_hand() if canonical.public(raw) != raw] == []


def test_what_is_no_config_is_refused():
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(BadFileError, match="nested"):
        weighbridge.key(deep)
    with pytest.raises(BadFileError, match="JSON"):
        weighbridge.key({"a": object()})
    with pytest.raises(BadFileError, match="JSON"):
        weighbridge.key({"a": 10**5000})
    with pytest.raises(UsageError, match="text"):
        weighbridge.key({"a": {1: 2}})


def keys_of(value):
    """The keys of a config, those within them, and which of them are null, true or false."""
    if isinstance(value, dict):
        return {key: value[key] if key in KINDS else keys_of(value[key]) for key in sorted(value)}
    return value if value is None or isinstance(value, bool) else ...


KINDS = ("architectures", "model_type", "quant_method", "quant_algo")


def kinds():
    """One config at hand of all that have the same keys: sizes decide which are read nowhere."""
    first = {}
    for name, config in at_hand():
        first.setdefault(str(keys_of(config)), name)
    return list(first.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", Later(lambda: each(24, kinds())))
def test_what_keys_leave_out_changes_no_answer(name):
    """The config that a key stands for answers as the whole one does, and so does one with other
    values of what is left out: any two configs of one key, asked anything, have one answer."""
    raw = dict(at_hand())[name]
    edited = {**raw, **{key: 0.5 for key in LEFT_OUT if rotary(raw) or not rotary([key])}}
    assert weighbridge.key(edited) == weighbridge.key(raw)
    assert answers(raw) == answers(edited) == answers(canonical.canonical(raw))


def groups():
    """The configs of each key that several have."""
    found = defaultdict(list)
    for name, config in at_hand():
        found[weighbridge.key(config)].append((name, config))
    return [
        pytest.param(several, id=several[0][0]) for several in found.values() if len(several) > 1
    ]


@pytest.mark.slow
@pytest.mark.parametrize("several", Later(lambda: each(16, groups())))
def test_two_configs_of_one_key_have_one_answer(several):
    first, *others = (answers(config) for _, config in several)
    assert all(other == first for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["num_key_value_heads", "vocab_size", "tie_word_embeddings"])
def test_a_key_without_what_decides_memory_is_found_out(name, monkeypatch):
    monkeypatch.setattr(canonical, "DROPPED", canonical.DROPPED | {name})
    raw = catalogue.find("llama-3.2-1b").config
    assert name in raw
    assert not alike(raw)


NOTED = set()


class NotedKey(str):
    """A key of a config that is noted when it is looked up, in a copy of the config as well: a
    dictionary compares the key that it has with the text that is looked for. A network of pictures is
    laid over the defaults of its class, which asks nothing (pictures/config.py, _merged)."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        same = str.__eq__(self, other)
        joined = type(other) is not str or sys._getframe(1).f_code.co_name == "_merged"
        if same is True and not joined:
            NOTED.add(str(self))
        return same

    def __ne__(self, other):
        return not self == other

    def __deepcopy__(self, _):
        return self


def noting(value):
    """The same, with keys that are noted."""
    if isinstance(value, dict):
        return {NotedKey(key): noting(one) for key, one in value.items()}
    return [noting(one) for one in value] if isinstance(value, list) else value


def looked_up(config):
    """The keys that any question looks up in a config."""
    NOTED.clear()
    with suppress(WeighbridgeError):
        ask_all(weighbridge.prepare(noting(config)))
    return set(NOTED)


def ask_all(model):
    for engine in ("transformers", "vllm", "sglang", "llama.cpp", "ollama", "mlx"):
        refusing(model.infer, engine=engine, context=512)
    for method in ("full", "lora", "qlora"):
        refusing(model.train, method=method)
    refusing(model.load)


def refusing(ask, **settings):
    """Ask a question that may have no answer."""
    with suppress(WeighbridgeError):
        ask(remedies=False, **settings)


def named():
    return [name for name in kinds() if dict(at_hand())[name].get("architectures")]


# What a config at hand is called, and what a list of irrelevant keys has (arch/config.py)
LOOKED_UP = {"_name_or_path", "initializer_range"}


@pytest.mark.slow
@pytest.mark.parametrize("name", Later(lambda: each(24, named())))
def test_no_question_looks_up_what_keys_leave_out(name):
    found = looked_up({**dict.fromkeys(LEFT_OUT, 0.5), **dict(at_hand())[name]})
    positions = set() if rotary(dict(at_hand())[name]) else {canonical.PAD}
    assert {key for key in found if dropped(key)} <= LOOKED_UP | positions


def test_the_test_of_looking_up_can_fail():
    found = looked_up({**LLAMA, "max_length": 20})
    assert found >= LLAMA.keys() - {"rope_theta"}
    assert "max_length" not in found
    NOTED.clear()
    assert dict(**noting({"text_config": {"max_length": 20}})["text_config"])["max_length"] == 20
    assert {"text_config", "max_length"} == NOTED


ASKED = ("models/arch", "models/checkpoint", "models/quantization", "memory/components", "engines")
ASKED += ("answers/estimate", "answers/remedies", "answers/verdict", "training")
READ = {  # who says what keys leave out, and why that decides no bytes
    ("models/checkpoint/gather.py", "_name_or_path"),  # what a config at hand is called
    ("engines/launch_line.py", "_name_or_path"),
    ("models/arch/config.py", "initializer_range"),  # in a list of what is irrelevant
    *(
        (f"models/arch/{file}.py", canonical.PAD)
        for file in ("longest", "families/bart", "families/speech")
    ),
    # arguments of a call to generate()
    ("engines/transformers/derived.py", "num_beams"),
    *(("engines/transformers/dialect.py", name) for name in ("max_length", "num_beams")),
}


def rotary(config):
    return any(name.startswith(canonical.ROTARY) for name in config)


def dropped(name):
    return name in canonical.DROPPED or bool(canonical.VALUES.search(name))


def texts(root):
    """(file, text) of each text in the rooms that answer."""
    for room in ASKED:
        for path in sorted((root / room).rglob("*.py")):
            for node in nodes(path.read_text(), ast.Constant):
                if isinstance(node.value, str):
                    yield path.relative_to(root).as_posix(), node.value


def read(root):
    return {(file, text) for file, text in texts(root) if dropped(text)}


@pytest.mark.house
def test_nobody_reads_what_keys_leave_out():
    assert read(ROOT) == READ


@pytest.mark.house
def test_the_test_of_reading_can_fail(tmp_path):
    (tmp_path / "models" / "arch").mkdir(parents=True)
    (tmp_path / "models" / "arch" / "new.py").write_text("def rows(c): return c.num('max_length')")
    assert read(tmp_path) == {("models/arch/new.py", "max_length")}


@pytest.mark.house
def test_what_is_left_out_is_no_other_name_of_what_is_read():
    """GPT-2 calls num_attention_heads n_head."""
    said = {text for _, text in texts(ROOT)}
    for known in map(classes._defaults().get, classes._defaults()):
        for meant, spelled in known.get("aliases", {}).items():
            assert meant not in said or dropped(meant) or not any(map(dropped, spelled)), meant
