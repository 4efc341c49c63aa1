"""Roles of parameters, read from their names: the one place where names are guessed.

    role("model.layers.3.self_attn.q_proj.weight")    "q"
    layer_of("model.layers.3.self_attn.q_proj.weight")    3
    expert("model.layers.3.mlp.experts.17.w2.weight")    ("model.layers.3.mlp.experts.", 17, ...)

Code that splits a matrix among ranks, renames it for another format, joins it with its neighbours
or asks how a class computes, calls `role_of`: the builder of a parameter may set the role, and for
all other parameters the name decides.

A name is looked up by its last three words, then two, then the last: "mlp.w2" before "w2".

Source: the modules of transformers 5.23 models/*/modeling_*.py and of the classes that come with
checkpoints; gguf 0.19 gguf/constants.py (TENSOR_NAMES) for the names in GGUF files.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import Param, ParamKind

ROLES: Mapping[str, str] = {
    role: names
    for role, _, names in (r.partition(" ") for r in lines_beside(__file__, "roles.txt"))
}
VOCAB = frozenset(("embedding", "head", "output"))  # matrices with a row per vocabulary entry
_ROLE_OF = {name: role for role, names in ROLES.items() for name in names.split()}
# Modules around a Linear: of adapters that are stored with it, of towers that clip their inputs
WRAPPERS = ("base_layer", "linear")

# A layer by the words that classes and files number their layers with ("blk" is GGUF's)
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|blk|layer)\.(\d{1,9})\.")
# The first number of a path, whatever is numbered: longer ones are hashes
_FIRST = re.compile(r"(?:^|\.)(\d{1,9})\.")
_EXPERT = re.compile(r"^(.*?experts\.)(\D*)(\d{1,9})\.(.*)$")
_NUMBERS = re.compile(
    r"(?<![^.])\d+(?![^.])"
)  # numbers that are steps of a path: "w1" is another matrix than "w2"


class Numbered(NamedTuple):
    """A name split at a number: "model.layers", 3, "mlp.up_proj.weight"."""

    path: str
    number: int
    below: str


class Expert(NamedTuple):
    """The name of one expert's parameter, split: "mlp.experts.", "expert_", 17, "wi.weight"."""

    path: str
    word: str  # text between the path and the number: "" but for Switch Transformers
    number: int
    below: str


def role_of(param: Param) -> str:
    """Return a parameter's role: the builder's if it sets one, else by the parameter's name."""
    return param.role or role(param.name)


@lru_cache(maxsize=1 << 16)
def role(name: str) -> str:
    """Return the role that a parameter's name suggests; "" for an unknown name."""
    words = [word for word in module(name).split(".") if not word.isdigit()]
    if not words:
        return ""
    if words[-1] not in _ROLE_OF:
        words[-1] = words[-1].removesuffix("_bias")
    endings = (".".join(words[-count:]) for count in (3, 2, 1))
    return next((_ROLE_OF[ending] for ending in endings if ending in _ROLE_OF), "")


def module(name: str) -> str:
    """Return the path of the module that holds a parameter: "a.b.q_proj" for
    "a.b.q_proj.base_layer.weight"."""
    path = name.removesuffix(".weight").removesuffix(".bias").split(".")
    if path[-1] in WRAPPERS and len(path) > 1 and not path[-2].isdigit():
        path.pop()
    return ".".join(path)


def names(role: str) -> tuple[str, ...]:
    """Return the module names that have `role`."""
    return tuple(ROLES[role].split())


def layer_of(name: str) -> int | None:
    """Return the layer number in a parameter's name; None without one."""
    number = _LAYER.search(name)
    return int(number[1]) if number else None


@lru_cache(maxsize=1 << 15)
def below_layer(name: str) -> Numbered | None:
    """Return a name split at its layer number; None without one."""
    return _split_at(_LAYER, name)


@lru_cache(maxsize=1 << 15)
def below_number(name: str) -> Numbered | None:
    """Return a name split at its first number, of a layer or another list; None without one."""
    return _split_at(_FIRST, name)


def _split_at(pattern: re.Pattern[str], name: str) -> Numbered | None:
    match = pattern.search(name)
    if match is None:
        return None
    return Numbered(name[: match.start()], int(match[1]), name[match.end() :])


def expert(name: str) -> Expert | None:
    """Return a parameter's name split at its expert's number; None if it has none, or all experts
    in a stack."""
    match = _EXPERT.match(name)
    return Expert(match[1], match[2], int(match[3]), match[4]) if match else None


def unnumbered(name: str) -> str:
    """Return the name with a star for each number, so that layers and experts compare equal."""
    return _NUMBERS.sub("*", name)


# Heads


# The linear that makes logits, as it is called in the classes of all families.
_LOGITS = re.compile(
    r"""(?:^|\.)(?:lm_head(?:\.decoder|\.linear)?|embed_out|output_layer|output_projection|lm_loss
        |predictions\.decoder|vocab_projector|pred_layer\.proj|transformer\.ff_out)\.weight$
      |^(?:proj_out|head|decoder|output|generator_lm_head|codec_head|layers\.\d+\.linear)\.weight$""",
    re.VERBOSE,
)
_LABELS = re.compile(
    r"""(?:^|\.)(?:score|classifier(?:\.out_proj|\.linear_out|\.classifier|\.\d)?
        |classification_head\.out_proj|qa_outputs(?:\.out_proj|\.start_logits\.dense)?|logits_proj
        |start_logits\.dense|seq_relationship|itm_head|dense_prediction|summary
        |\w+_classifier|cls\.output)\.weight$
      |^out_proj\.weight$""",
    re.VERBOSE,
)


def makes_logits(name: str) -> bool:
    """Return whether a weight, by its name, belongs to a head that predicts tokens."""
    return _LOGITS.search(name) is not None


def makes_labels(name: str) -> bool:
    """Return whether a weight, by its name, belongs to the head of a classifier, a reranker, or for
    spans."""
    return _LABELS.search(name) is not None


# Feed-forwards, where two matrices tell by each other's names what they are


# (the matrix back, those before it), as the modules of all families call them. The first pair of
# which a module has both decides: Qwen 1 has w1 and w2 before c_proj, Mixtral w1 and w3 before w2.
LEADS = tuple(
    (back, frozenset(before))
    for back, *before in map(str.split, lines_beside(__file__, "pairs.txt"))
)
# Modules that mix tokens have such names too: the output of BERT's attention, RWKV's keys.
_ATTENDS = re.compile(r"(?:^|\.)\w*(?:attention|attn|Attention|mamba|rg_lru)\w*(?:\.|$)")
# Two words for one module: BERT's `intermediate.dense` and `output.dense` lie side by side.
_TWO_WORDS = re.compile(r"(?:^|(?<=\.))(intermediate|output)(_query)?\.(dense|conv1d)$")
_EVERY_TOKEN = re.compile(r"shared_expert|shared_mlp|_shexp")
# What mixes tokens without attention; a feed-forward of Nemotron-H is a `mixer`, too
_MIXES = re.compile(r"mixer|(?:^|\.)(?:conv|temporal_block)\.")


@lru_cache(maxsize=4096)
def feeding(name: str) -> str | None:
    """Return an MLP weight's name below the layer, with two-part module names joined; None if its
    module mixes tokens."""
    return None if _ATTENDS.search(name) else _TWO_WORDS.sub(r"\1\2_\3", name)


def every_token(name: str) -> bool:
    """Return whether an MLP, by its name, is a shared expert, which every token uses."""
    return _EVERY_TOKEN.search(name) is not None


def mixes(name: str) -> bool:
    """Return whether a parameter, by its name, is in attention, or in a module that takes
    attention's place."""
    return _ATTENDS.search(name) is not None or _MIXES.search(name) is not None


# Kinds of modules


# The kind of a stored parameter, from its name: the first that fits. Only quantization asks.
_KINDS: tuple[tuple[str, ParamKind], ...] = (
    (r"bias$", "bias"),
    (r"norm|(^|\.)ln_|layrnorm|\.bn\d*\.", "norm"),
    (r"embed|(^|\.)w[tp]e\.|token_type|position", "embedding"),
    (r"experts\.\d+\.|_exps\.", "expert"),
    (r"experts", "experts"),
    (r"(router|gate|gate_inp)\.weight$", "router"),
)


def kind_of(name: str, rank: int) -> ParamKind:
    """Return the likely kind of a parameter with `rank` dimensions, by its name. Names that differ
    only in numbers get equal kinds."""
    for pattern, kind in _KINDS:
        if re.search(pattern, name):
            return kind if rank > 1 or kind in ("bias", "norm") else "other"
    if rank == 2 and name.endswith("weight"):
        return "linear"
    return "conv" if 3 <= rank <= 5 and name.endswith("weight") else "other"
