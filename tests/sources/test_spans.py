"""Which bytes a read means, what a browser leaves out of an answer, and paths that leave a model."""

import pytest

from tests.cases import all_of
from weighbridge.base.errors import BadFileError
from weighbridge.models.sources import browser
from weighbridge.models.sources.base import inside, span


@all_of(
    ("start", "stop", "means"),
    [
        (0, 4, (0, 4)),
        (0, 10, (0, 10)),
        (0, 11, (0, 10)),  # no more than there is
        (4, 4, (4, 4)),
        (6, 4, (6, 6)),  # nothing
        (10, 12, (10, 10)),
        (11, 12, (10, 10)),
        (-4, 0, (6, 10)),  # the end of it
        (-1, 99, (9, 10)),
        (-10, 0, (0, 10)),
        (-11, 0, (0, 10)),
    ],
)
def test_the_bytes_that_a_read_means_of_ten(start, stop, means):
    assert span(start, stop, 10) == means


@all_of(
    ("path", "stays"),
    [
        ("config.json", True),
        ("unet/config.json", True),
        ("a:b", False),  # a drive of Windows
        ("ab:c", True),
        ("", False),
        ("..", False),
        ("a/../b", False),
        ("a//b", False),
        ("/a", False),
        ("./a", False),
        ("a\\b", False),
        ("a\0b", False),
        ("..a/b..", True),
    ],
)
def test_paths_that_stay_below_the_root(path, stays):
    if stays:
        assert inside(path) == path
    else:
        with pytest.raises(BadFileError, match="leaves the folder"):
            inside(path)


@all_of(
    ("found", "status", "wanted", "filled"),
    [
        ({"content-encoding": "gzip"}, 200, "", {"content-length": "7"}),
        ({"content-length": "3"}, 200, "", {"content-length": "7"}),
        ({}, 206, "bytes=10-99", {"content-range": "bytes 10-16/*"}),
        ({}, 206, "bytes=-7", {"content-range": "bytes 0-6/*"}),
        ({"content-range": "bytes 1-7/9"}, 206, "bytes=1-9", {"content-range": "bytes 1-7/9"}),
        ({}, 404, "bytes=1-9", {}),
    ],
)
def test_headers_that_a_page_may_not_see(found, status, wanted, filled):
    assert browser._filled(found, status, wanted, 7) == filled
