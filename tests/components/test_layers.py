import random

from weighbridge.memory.components.table import LayerIndex

NAMES = [
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.1.self_attn.q_proj.weight",
    "model.norm.weight",
    "lm_head.weight",
]


def test_a_block_is_kept_whole():
    layers = LayerIndex(NAMES, ["model.layers.*"])
    assert layers.largest([(NAMES[1], 5), (NAMES[2], 6), (NAMES[3], 9)]) == ("model.layers.0", 11)


def test_a_module_without_children_is_a_layer():
    layers = LayerIndex(NAMES, [])
    assert layers.largest((n, 7) for n in NAMES[:1]) == ("model.embed_tokens", 7)


def test_a_parameter_beside_modules_is_part_of_none():
    names = ["cls.bias", "cls.decoder.weight"]
    assert LayerIndex(names, []).largest([("cls.bias", 100), ("cls.decoder.weight", 1)]) == (
        "cls.decoder",
        1,
    )


def test_a_parameter_at_the_top_is_a_layer():
    assert LayerIndex(["logit_scale", "text.weight"], []).largest([("logit_scale", 4)]) == (
        "logit_scale",
        4,
    )


def test_the_first_of_equal_layers_is_named():
    layers = LayerIndex(NAMES, ["model.layers.*"])
    assert layers.largest([(NAMES[1], 5), (NAMES[3], 5)])[0] == "model.layers.0"


def test_the_first_pattern_that_fits_decides():
    """Names and patterns at random; a star stands for one name, whatever it is."""
    rng = random.Random(3)
    words = ["a", "b", "0", "1", "a.b", "b.0", "", "a+"]

    def block(name, patterns):
        path = name.split(".")
        for pattern in patterns:
            wanted = pattern.split(".")
            head = path[: len(wanted)]
            fits = (w in ("*", h) for w, h in zip(wanted, head, strict=False))
            if len(path) > len(wanted) and all(fits):
                return ".".join(head)
        return None

    for _ in range(500):
        patterns = [
            ".".join(rng.choices([*words, "*"], k=rng.randrange(1, 4)))
            for _ in range(rng.randrange(4))
        ]
        name = ".".join([*rng.choices(words, k=rng.randrange(4)), "weight"])
        expected = block(name, patterns)
        if expected is None:
            expected = name.rpartition(".")[0] or name
        assert LayerIndex([name], patterns).largest([(name, 1)])[0] == expected, (name, patterns)
