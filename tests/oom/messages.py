"""Messages of public threads, with what they say: our test data.

messages.jsonl  145 messages: `parsed` is what the text prints, in bytes; `cause` only where the
                thread or the numbers tell; `known` and `where` are what the thread says besides
heldout.jsonl   43 more, written down with their causes before the rules were tried on them; `batch`
                1 before anything was tuned to it, 2 after the first was
"""

import json
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


@cache
def rows(name):
    return [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text().splitlines()]


def messages():
    return rows("messages")


def heldout():
    return rows("heldout")


def saying(wording, number=0):
    """One message of a wording."""
    return [r for r in messages() if r["wording"] == wording][number]["message"]
