"""The Python API: frozen records, and errors that carry the exit code."""

import pytest

import weighbridge
from tests.packings import CONFIG, PARAMETERS


# Python
def test_the_api_returns_frozen_typed_records():
    report = weighbridge.load(CONFIG)
    assert isinstance(report, weighbridge.Report)
    assert report.peak.expected == report.to_dict()["devices"][0]["peak"]["driver"]["expected"]
    assert f"{PARAMETERS:,}" in str(report)
    assert report._repr_markdown_().count("| float32 |") == 1
    page = report._repr_html_()
    assert "float32" in page
    assert "<script" not in page
    with pytest.raises((AttributeError, TypeError)):
        report.task = "infer"
    with pytest.raises((AttributeError, TypeError)):
        report.model.parameters = 1


def test_a_name_of_a_stranger_is_text_in_html():
    page = weighbridge.load(
        CONFIG | {"_name_or_path": "<img src=x onerror=alert(1)>"}
    )._repr_html_()
    assert "<img" not in page


def test_errors_of_the_api_carry_the_exit_code():
    for error, code in (
        (weighbridge.UsageError, 2),
        (weighbridge.NotFoundError, 2),
        (weighbridge.BadFileError, 2),
        (weighbridge.HubError, 3),
        (weighbridge.GatedError, 3),
    ):
        assert issubclass(error, weighbridge.WeighbridgeError)
        assert error.code == code
