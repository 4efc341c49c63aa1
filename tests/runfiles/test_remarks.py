"""What the words of a text tell beside its run: errors that are none of memory, steps, releases."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles.remarks import remarks


def found(text: str, *, explained: bool = False):
    return {one.key: one.values for one in remarks(text, explained=explained)}


@all_of(
    ("text", "error"),
    [
        ("RuntimeError: tensors are on two devices", "RuntimeError: tensors are on two devices"),
        ("[rank1]: torch.nn.SomeError: no.", "SomeError: no"),
        ("NotImplementedError Traceback (most recent call last)", "NotImplementedError"),
        ("ValueError: first\nKeyError: 'last'", "KeyError: 'last'"),
        ("ValueError: a\ntorch.OutOfMemoryError: CUDA out of memory", None),
        ("RuntimeError: not enough memory", None),
        ("ValueError: no available memory for the KV cache", None),
        ("an Error in a sentence", None),
    ],
)
def test_an_error_that_says_nothing_of_memory_is_told(text, error):
    told = found(f"qwen3-8b on a 4090\n{text}\nwhat now?")
    assert told.get("not_memory", {}).get("error") == error


def test_no_error_is_told_where_a_message_is_explained():
    assert not found("ValueError: a", explained=True)


@pytest.mark.parametrize(
    ("words", "times"),
    [
        ("--max-num-batched-tokens 65536", 8),
        ("max_num_batched_tokens=32768", 4),
        ("max_num_batched_tokens=32767", None),
        (
            "65536 and then 8192: --max-num-batched-tokens 65536, --max-num-batched-tokens 8192",
            None,
        ),
    ],
)
def test_a_step_is_large_against_the_usual(words, times):
    told = found(f"vLLM is out of memory with {words}").get("large_step", {})
    assert told.get("times") == times
    assert "large_step" not in found(f"vLLM with {words} is slow")


def test_a_flag_of_a_finding_can_be_pasted():
    text = "vllm serve org/none --max-num-batched-tokens 65536 is out of memory"
    told = str(weighbridge.weigh(f"I run\n`{text}`\n", name="a", offline=True))
    assert "--max-num-batched-tokens 8192" in told


def test_a_cache_of_nothing_is_told():
    line = "vLLM's KV Cache can use up to {} GB. Also swap space = 4 GB."
    assert "no_cache" in found(line.format("0.0"))
    assert found(line.format("2.5"))["small_cache"]["cache_bytes"] == 2.5 * 2**30


TABLE = """\
A machine with {ram} memory:
PID     MEM(GB) COMMAND
101     20.5    ray::a
102     19.5    ray::b
"""


@pytest.mark.parametrize(
    ("ram", "key"), [("45g", "full"), ("64GB", "room"), ("much", ""), ("47.5g", "")]
)
def test_a_table_of_processes_is_summed_beside_the_memory_of_the_machine(ram, key):
    told = found(TABLE.format(ram=ram))
    ((name, values),) = told.items()
    assert name == f"processes.{key}".rstrip(".")
    assert (values["count"], values["sum_bytes"]) == (2, 40 * 10**9)
