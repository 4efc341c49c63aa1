"""Classes of videos, as in cases_pictures.py."""

from tests.torch.picture_law import Case

CASES: dict[str, Case] = {}
