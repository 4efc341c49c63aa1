"""Configs of models so small that all questions about one take a tenth of a second; and programs
that stand in for the answering one, as a process of its own imports them."""

import json
import os
import signal
import time
from unittest.mock import patch

from tests.tiny import NAMED as LLAMA
from weighbridge.faces.scan import weigher


def configs():
    sizes = {f"llama-{n}": {**LLAMA, "num_hidden_layers": n} for n in range(1, 8)}
    return {
        **sizes,
        "somebody/a-tune": {**sizes["llama-2"], "_name_or_path": "x", "eos_token_id": 7},
        "of-no-type": {"model_type": "no-such-type"},
        "of-no-sizes": {"model_type": "llama", "hidden_size": "many"},
    }


def texts():
    return {
        **{name: json.dumps(config) for name, config in configs().items()},
        "broken": "{",
        "listed": "[]",
    }


MODELS, KEYS, UNREAD, REFUSED = 12, 9, 2, 2
QUESTIONS = 4


def ended(config, questions):
    """Is killed over models of three layers, as by the system where memory ran out."""
    if json.loads(config).get("num_hidden_layers") == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return weigher.answered(config, questions)


def endless(config, questions):
    if json.loads(config).get("num_hidden_layers") == 3:
        time.sleep(3600)
    return weigher.answered(config, questions)


def greedy(config, questions):
    """Takes 10 GB over models of three layers."""
    if json.loads(config).get("num_hidden_layers") != 3:
        return weigher.answered(config, questions)

    def opened(*_):
        return [bytearray(1 << 26) for _ in range(160)]

    with patch("weighbridge.answers.questions.prepared.opened", opened):
        return weigher.answered(config, questions)
