"""Rows of a table decide together: the first that holds, by a key that the file is told of."""

import pytest
import yaml
from tests.cases import all_of

from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.reading import reading

TABLE = """
[values]
attention   flash   kernel = fa2
[rules]
precision   bf16            pure_bf16
precision   bf16-mixed      mixed = bf16 | bfloat16
precision   ~fp32           mixed = -
loss        cce             plugins ~ cross_entropy & !plain
shard       hsdp            copies > 1
dtype       ~float16        .shard = hsdp
attention   values          kernel *
lora_r      {}=8            rank *
lora_alpha  =16; own alpha  alpha = - | $
seq_len     ?               packing
-           {0:.4} is odd    method = other
!           it is no run    stage != - | sft
!           it is late      late
read        lora_*          method = full
"""


def decided(**data):
    (document,) = documents(yaml.safe_dump(data), "yaml")
    keys = reading(document, TABLE)
    return rules.decide(keys, "prog"), keys


@all_of(
    ("data", "settings"),
    [
        ({}, {"precision": "fp32", "lora_r": 8, "lora_alpha": 16}),
        ({"pure_bf16": True, "mixed": "bf16"}, {"precision": "bf16"}),
        ({"mixed": "BFloat16"}, {"precision": "bf16-mixed"}),
        ({"plugins": ["a.cut_cross_entropy"]}, {"loss": "cce"}),
        ({"copies": 2}, {"shard": "hsdp", "dtype": "float16"}),
        ({"kernel": "fa2", "rank": 4}, {"attention": "flash", "lora_r": 4}),
        ({"alpha": "${A}"}, {"lora_alpha": 16}),
    ],
)
def test_the_first_row_of_a_setting_that_holds_decides_it(data, settings):
    _, keys = decided(**data)
    assert settings.items() <= keys.settings.items()


@pytest.mark.parametrize("data", [{"copies": 1}, {"copies": "2"}, {"plugins": ["a"]}, {"mixed": 1}])
def test_a_row_that_does_not_hold_decides_nothing(data):
    _, keys = decided(**data)
    assert not {"shard", "loss", "dtype"} & keys.settings.keys()


def test_a_key_is_told_of_by_the_row_that_it_decides():
    refused, keys = decided(
        mixed="bf16", packing=True, method="other", stage="ppo", late=True, kernel="fa9"
    )
    assert refused == "it is no run"
    assert [(one.key, one.setting) for one in keys.understood] == [
        ("mixed", "precision"),
        ("packing", "seq_len"),
    ]
    assert [(one.key, one.why) for one in keys.unread] == [("method", "othe is odd")]
    assert [why for _, _, why in keys.defaults] == ["prog's own rank", "prog's own alpha"]


def test_keys_that_count_as_read_are_not_told_of():
    _, keys = decided(method="full", lora_r=4, other=1)
    assert [one.key for one in keys.run("m").unread] == ["other"]
