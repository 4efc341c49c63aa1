"""A release is one command: the version stands in each of its places, or nothing is written."""

import re
import shutil

import pytest
from tools.release import FORM, PLACES, ROOT, current, released

import weighbridge


@pytest.fixture
def copied(tmp_path):
    for path, _ in PLACES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def test_a_release_sets_every_place(copied):
    assert released(copied, "10.11.12") == []
    for path, before in PLACES:
        assert f"{before}10.11.12" in (copied / path).read_text()
    assert current(copied) == "10.11.12"


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("0.1", "'0.1' is no version: three numbers, as 0.3.0"),
        (weighbridge.__version__, "is not after"),
        ("0.0.9", "0.0.9 is not after"),
    ],
)
def test_a_version_that_cannot_be_released_is_named(copied, version, says):
    (fault,) = released(copied, version)
    assert says in fault
    assert current(copied) == weighbridge.__version__


def test_a_place_that_is_gone_writes_nothing(copied):
    place = copied / "action.yml"
    place.write_text(place.read_text().replace("default: weighbridge==", "default: another=="))
    (fault,) = released(copied, "10.11.12")
    assert fault.startswith("action.yml has 0 lines")
    assert current(copied) == weighbridge.__version__


def test_all_places_have_one_version():
    for path, before in PLACES:
        (version,) = re.findall(rf"^ *{re.escape(before)}({FORM})", (ROOT / path).read_text(), re.M)
        assert version == weighbridge.__version__, path


def test_the_newest_release_is_described():
    assert f"## {weighbridge.__version__} (" in (ROOT / "CHANGELOG.md").read_text()
