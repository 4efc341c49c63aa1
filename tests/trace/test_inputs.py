import pytest

from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge_lab.trace.inputs import Input, read


@all_of(
    ("text", "inputs"),
    [
        ("8x3x224x224", [Input((8, 3, 224, 224))]),
        ("8x512:int", [Input((8, 512), "int64")]),
        ("3x32x32, int", [Input((3, 32, 32)), Input((), "int64")]),
        ("7", [Input((7,))]),
        ("2x4:bf16,2:bool", [Input((2, 4), "bfloat16"), Input((2,), "bool")]),
    ],
)
def test_shapes_are_read(text, inputs):
    assert list(read(text)) == inputs


@all_of("text", ["", "8x", "0x3", "axb", "8x3:half", "-1x2", "8x3,", "1e3"])
def test_what_is_no_shape_is_told(text):
    with pytest.raises(UsageError, match=r"^--data .*write a shape as 8x3x224x224"):
        read(text, "--data")


def test_a_batch_is_the_first_size():
    assert Input((8, 3)).with_batch(5) == Input((5, 3))
    assert str(Input((8, 3))) == "8x3" and str(Input((), "int64")) == "int64"


@pytest.mark.parametrize("text", ["8x3x224x224", "8x512:int", "3x32x32,int", "2x4:bf16,2:bool"])
def test_what_is_typed_is_read_as_the_same(text):
    inputs = read(text)
    assert read(",".join(one.typed for one in inputs)) == inputs
