"""Patterns of files: what they mean, alike for a file that is named and for one that is found."""

import pytest

from weighbridge.files.runfiles.patterns import below, matches

FILES = ("a.yml", "configs/iss.yml", "configs/x/y/deep.yml", "configs/x/note.txt", "other/z.yml")


@pytest.mark.parametrize(
    ("pattern", "means"),
    [
        ("configs/**/*.yml", {"configs/iss.yml", "configs/x/y/deep.yml"}),
        ("**/*.yml", {"a.yml", "configs/iss.yml", "configs/x/y/deep.yml", "other/z.yml"}),
        ("*.yml", {"a.yml"}),
        ("*/*.yml", {"configs/iss.yml", "other/z.yml"}),
        ("configs/**", {"configs/iss.yml", "configs/x/y/deep.yml", "configs/x/note.txt"}),
        ("configs/**/y/*", {"configs/x/y/deep.yml"}),
        ("./configs/is?.[xy]ml", {"configs/iss.yml"}),
        ("iss.yml", set()),
        ("configs", set()),
    ],
)
def test_a_pattern_means_the_files_that_it_finds(tmp_path, pattern, means):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert set(below(tmp_path, [pattern])) == means
    assert {name for name in FILES if matches(name, [pattern])} == means


def test_a_file_beside_the_folder_is_none_of_it():
    assert not matches("../a.yml", ["**/*.yml"])
