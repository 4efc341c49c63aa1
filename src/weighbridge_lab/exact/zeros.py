"""A repository's folder without its weights: the config, a small tokenizer, and zeros in a file
that takes no room on a disk that keeps holes (a sparse file).

`from_pretrained` reads it as it reads any folder; scripts run over it as over the real one.
"""

import copy
import json
import os
import struct
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence

OF_FILES = ("auto_map", "quantization_config", "transformers_version", "model_type")
ALIGNED = 8  # bytes: alignment of the end of a safetensors header
NAMES = {  # of dtypes, as safetensors writes them
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
WORDS = ("<pad>", "<eos>", "<unk>")
CHAT = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def config_of(raw: Mapping[str, Any]) -> Any:
    """Return the config object for a config.json."""
    values = {k: v for k, v in copy.deepcopy(dict(raw)).items() if k not in OF_FILES}
    return transformers.AutoConfig.for_model(raw["model_type"], **values)


def write_zeros(cls: Any, config: Any, dtype: torch.dtype, folder: str) -> None:
    """Write the config and the weights of a class, tied weights once."""
    config.save_pretrained(folder)
    with torch.device("meta"):
        model: nn.Module = cls._from_config(config, dtype=dtype)
    write_holes(model, os.path.join(folder, "model.safetensors"))


def write_holes(model: nn.Module, path: str) -> None:
    """Write a file of safetensors with a model's tensors, all zeros, each of them once."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    seen: set[int] = set()
    end = 0
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            start, end = end, end + tensor.numel() * tensor.element_size()
            header[name] = {
                "dtype": NAMES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [start, end],
            }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNED)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def write_tokenizer(folder: str, *, longest: int | None = None) -> None:
    """Write a tokenizer with few words, for programs that bring their own ids or need one id per
    word of a prompt. `longest`: the `model_max_length` that it states."""
    try:
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import Whitespace
    except ImportError:
        raise UnsupportedError(sentence("exact.needs", names="tokenizers")) from None
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[2]))
    words.pre_tokenizer = Whitespace()
    small = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=WORDS[0],
        eos_token=WORDS[1],
        unk_token=WORDS[2],
        chat_template=CHAT,
        **({"model_max_length": longest} if longest else {}),
    )
    small.save_pretrained(folder)


def fill(model: nn.Module) -> None:
    """Fill floating-point parameters with random numbers, in place: MoE routers choose by them."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dtype in (torch.float32, torch.float16, torch.bfloat16):
                parameter.normal_(0, SPREAD)


SPREAD = 0.02  # as classes of transformers initialise theirs
