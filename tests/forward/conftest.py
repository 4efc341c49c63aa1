"""The laws of every program, as the tests of training have them."""

from tests.training.conftest import all_read, asserted, fits

__all__ = ["all_read", "asserted", "fits"]
