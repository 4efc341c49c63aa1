"""Folders with a file that says nothing without others: what to give in its place."""

import json

import pytest

import weighbridge
from weighbridge.base.errors import AwayError, GatedError, HubError, WeighbridgeError
from weighbridge.models.checkpoint.gather import naming


@pytest.mark.parametrize("more", [{}, {"README.md": "words"}])
@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("adapter_config.json", {"base_model_name_or_path": "a/b"}, "or its base, 'a/b'"),
        ("model_index.json", {"_class_name": "Pipeline"}, "the parts that it names"),
    ],
)
def test_a_file_that_is_alone(tmp_path, more, name, raw, says):
    for other, text in (more | {name: json.dumps(raw)}).items():
        (tmp_path / other).write_text(text)
    with pytest.raises(WeighbridgeError, match=says) as found:
        weighbridge.load(tmp_path)
    assert "give its folder" not in str(found.value)


@pytest.mark.parametrize(
    ("error", "hinted"), [(GatedError, False), (HubError, False), (AwayError, True)]
)
def test_an_answer_of_the_hub_names_no_other_models(error, hinted):
    said = str(naming("org/llama-3.1-8b", error("it refuses")))
    assert ("the built-in catalogue has" in said) is hinted
