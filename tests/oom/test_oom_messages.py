"""Every message of the threads: its wording, its figures to the byte, and how often its cause."""

import json
from collections import Counter

import pytest

from tests.cases import all_of
from tests.oom.messages import heldout, messages
from weighbridge.base.words import entries
from weighbridge.files.oom.causes import judge
from weighbridge.files.oom.reading import read
from weighbridge.files.oom.record import ALWAYS

# What the rules reach at least, of the messages whose cause is known
ALONE = 87  # of 102, from the message as it was quoted
KNOWN = 89  # and with what the thread says of settings and the place
NAMED = 95  # the cause, or one of those said to be possible
HELD_OUT = 29  # of 29


def identity(row):
    return f"{row['wording']}-{row['source'].removeprefix('https://github.com/')}"


EVERY = all_of("row", [*messages(), *heldout()], ids=identity)


@EVERY
def test_wording_and_figures(row):
    found = read(row["message"])
    assert found.wording == row["wording"]
    assert {k: v for k, v in found.parsed.items() if v is not None} == row["parsed"]
    assert set(ALWAYS) <= found.parsed.keys()


@pytest.mark.slow
@EVERY
def test_figures_survive_a_terminal_and_a_log_collector(row):
    """Wrapped within words, behind a rank, within JSON, with CRLF: the same figures."""
    text = row["message"]
    collected = "\n".join(f"worker-1  | {line}" for line in text.splitlines())
    for changed in (
        wrapped(text, 79),
        collected,
        json.dumps({"log": text}),
        text.replace("\n", "\r\n"),
        f"\x1b[31m{text}\x1b[0m",
    ):
        assert read(changed).parsed == read(text).parsed


def wrapped(text, width):
    return "\n".join(
        line[at : at + width]
        for line in text.splitlines()
        for at in range(0, len(line) or 1, width)
    )


@pytest.mark.slow
@EVERY
def test_a_source_is_a_page(row):
    assert row["source"].startswith("https://github.com/")
    assert row["cause"] is None or f"cause.{row['cause']}" in entries("oom")


def test_the_messages_are_of_every_wording():
    counts = Counter(row["wording"] for row in messages())
    assert counts and "torch-2.1" in counts


def right(rows, judged):
    return sum(judged(row) == row["cause"] for row in rows if row["cause"])


def test_causes_of_the_messages_alone():
    known = [row for row in messages() if row["cause"]]
    assert known
    assert right(known, lambda row: judge(read(row["message"]), {}).cause) >= ALONE


def test_causes_with_what_the_thread_says():
    def cause(row):
        return judge(read(f"{row['where'] or ''}\n{row['message']}"), row["known"]).cause

    assert right(messages(), cause) >= KNOWN


def test_the_cause_is_named_or_said_to_be_possible():
    found = [(row["cause"], judge(read(row["message"]), {})) for row in messages() if row["cause"]]
    assert sum(cause in (j.cause, *j.others) for cause, j in found) >= NAMED


def test_causes_of_messages_that_the_rules_were_not_made_from():
    assert right(heldout(), lambda row: judge(read(row["message"]), {}).cause) >= HELD_OUT


def test_the_counts_above_can_fail():
    assert right(messages(), lambda row: "activations") < ALONE


@pytest.mark.parametrize("ends", ["", ".", " (GPU 0; 23.69 GiB total capacity", "\n"])
def test_a_message_that_was_cut_off_behind_its_first_size_is_read(ends):
    message = read(f"CUDA out of memory. Tried to allocate 2.00 GiB{ends}")
    assert message.wording.startswith("torch")
    assert message.parsed["requested_bytes"] == 2 << 30
