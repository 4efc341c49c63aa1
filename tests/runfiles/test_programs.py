"""Every program of programs.toml is told alike in command, image, log, message and words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cases import all_of

from weighbridge.engines.launch.programs import launched, release_of
from weighbridge.engines.stand_ins import STAND_INS
from weighbridge.engines.table import ENGINES
from weighbridge.files.oom.reading import engine_of, stated_in, wordings
from weighbridge.files.oom.reading import read as reading
from weighbridge.files.oom.record import table
from weighbridge.files.programs import config_starts, log_lines, programs, told_by
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.in_words import programs as named
from weighbridge.files.runfiles.kinds import kinds
from weighbridge.files.runfiles.kinds import named as named_kind
from weighbridge.files.runfiles.pieces import is_command, only_commands
from weighbridge.files.runfiles.serving.containers import by_image
from weighbridge.files.runfiles.serving.lines import serves
from weighbridge.files.runfiles.serving.start_logs import starts
from weighbridge.files.runfiles.text import LAUNCH, other
from weighbridge.training.frameworks import FRAMEWORKS
from weighbridge.workload.train import LEARNERS

TABLE = programs()
LETTERS = st.characters(codec="ascii", exclude_categories=["Cc"])


def names(face, task=""):
    return [each.name for each in told_by(face, task)]


def document(text):
    return documents(text, "text")[0]


def lines(engine):
    """Yield the lines that start an engine, as its own record has its programs."""
    for program, verbs in ENGINES[engine].programs.items():
        first = f"python3 -m {program}" if "." in program and engine != "mlx" else program
        for verb in verbs or ("",):
            yield " ".join((first, verb)).strip()


def test_every_engine_that_a_line_starts_stands_in_the_table():
    """ik_llama.cpp's programs are called as llama.cpp's: its flags tell it."""
    assert {e.name for e in ENGINES.values() if e.programs} - TABLE.keys() == {"ik_llama.cpp"}


STARTING = [(name, line) for name in TABLE if name in ENGINES for line in lines(name)]


@all_of(("name", "line"), STARTING)
def test_a_line_that_starts_an_engine_is_a_command_and_is_found_among_words(name, line):
    line += " org/name" if name == "vllm" and line.endswith("serve") else " --model org/name"
    assert launched(line).engine == name
    assert is_command(line)
    assert only_commands(line)
    assert LAUNCH.search(f"it dies with {line}")[0].endswith(line)


@all_of("name", [name for name in names("images") if any(TABLE[name].images.values())])
def test_an_image_starts_what_its_name_says(name):
    for part, line in TABLE[name].images.items():
        image = f"registry.local/my-{part}-build:3"
        assert serves(image)
        assert by_image(image, ["--port", "1"]) == f"{line} --port 1"
        assert launched(f"{line} org/name").engine == name


@all_of("name", names("image"))
def test_a_published_image_is_its_program(name):
    assert release_of(f"{TABLE[name].image}:v1.2.3", name) == "1.2.3"
    assert launched(f"{TABLE[name].module} --model org/name").engine == name


@all_of("name", names("signs"))
def test_a_sign_of_a_message_is_of_one_program(name):
    assert {engine_of("torch", f"x {sign} y") for sign in TABLE[name].signs} == {name}


def test_an_engine_that_writes_a_message_is_explained_by_rules():
    tools = {wording.tool for wording in wordings()}
    assert tools & TABLE.keys() <= {*names("rules"), *STAND_INS}


def test_what_writes_a_log_is_an_engine_of_the_table():
    assert {line.program for line in log_lines()} == set(names("rules"))
    assert {TABLE[name].rules for name in names("rules")} <= ENGINES.keys()


@all_of("name", names("words"))
def test_a_name_in_words_tells_one_program(name):
    said = "HF Trainer" if name == "trainer" else TABLE[name].title
    assert [each.program.name for each in named(document(f"I use {said} here"))] == [name]


def test_who_is_named_in_words_can_be_asked_about():
    assert set(names("words", "infer")) <= {*ENGINES, *STAND_INS}
    kinds_of = {each.name for each in kinds()}
    trained = {name if name in kinds_of else name.lower() for name in names("words", "train")}
    assert trained <= {*FRAMEWORKS, *LEARNERS, *kinds_of}


@all_of("word", [*config_starts()])
def test_a_command_that_starts_a_config_is_one_of_a_kind_that_trains(word):
    start = config_starts()[word]
    kind = named_kind(start.kind)
    first = f"python3 -m {word}" if word.count(".") and not word.endswith(".sh") else word
    words = [*start.verbs[:1], *([f"--{start.flag}"] if start.flag else []), "run.yaml"]
    line = " ".join((first, *words))
    assert is_command(line)
    (run,) = read(line, "start.sh").runs
    assert run.refused == "it starts run.yaml, which is not here"
    assert "yaml" in kind.syntaxes or kind.name == "torchtitan"


@pytest.mark.slow
@all_of("face", ["commands", "script", "refused"])
@given(data=st.data())
def test_a_program_is_told_by_each_of_its_patterns(data, face):
    program = data.draw(st.sampled_from([*told_by(face)]))
    patterns = program.commands if face == "commands" else (getattr(program, face),)
    text = data.draw(
        st.from_regex(data.draw(st.sampled_from(patterns)), fullmatch=True, alphabet=LETTERS)
    )
    if face == "commands":
        assert is_command(f"{text} x")
    elif face == "refused":
        assert other(text) is not None
    else:
        (run,) = read(f"#!/bin/bash\npython3 -m {text} a=b\n", "run.sh", "unanswered").runs
        assert run.refused.endswith("is not answered yet")


MESSAGE = (
    "ValueError: To serve at least one request with the models's max seq len (221000), (10.12 GiB "
    "KV cache is needed, which is larger than the available KV cache memory (5.59 GiB). Based on "
    "the available memory, the estimated maximum model length is 122080."
)


def test_a_message_that_both_rooms_read_tells_them_the_same():
    (start,) = starts(document(MESSAGE))
    figures = reading(MESSAGE).parsed
    assert start.counts["context"] == figures["max_model_len"] == 221_000
    assert start.size("needed") == figures["needed_kv_bytes"] == round(10.12 * 2**30)
    assert start.size("kv_cache") == figures["available_kv_bytes"] == round(5.59 * 2**30)


@all_of("said", ["--max-model-len 4096", "max_model_len=4096", "max_seq_len: 4096", "n_ctx = 4096"])
def test_a_length_is_stated_alike_in_every_room(said):
    log = f"{said}, Available KV cache memory: 8.5 GiB\nCUDA out of memory. Tried to allocate 1 GiB"
    (start,) = starts(document(log))
    assert start.counts == {"context": 4096}
    assert start.size("kv_cache") == 8.5 * 2**30
    assert reading(log).stated["context"] == 4096
    assert stated_in(f"a{said}b").get("context") is None


def test_a_message_of_llama_cpp_has_the_length_of_llama_cpp():
    log = "max_model_len=4096\nn_ctx = 8192\nallocating 1024.00 MiB on device 0: cudaMalloc failed"
    assert reading(log).parsed["n_ctx"] == 8192
    assert reading(log).stated["context"] == 4096


def test_the_figures_of_an_engine_stand_in_its_lines_alone():
    groups = {figure["group"] for figure in table("figures")}
    assert groups.isdisjoint({line.program for line in log_lines()})
    assert {line.program for line in log_lines()} <= TABLE.keys()
    assert all(line.part or line.figure for line in log_lines())
