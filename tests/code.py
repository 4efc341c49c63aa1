"""Code as a tree, made once in a process: many tests look at the whole package."""

import ast
import gc
from functools import cache


@cache
def parsed(text):
    """Parse a module. The tree is kept, and the collector of garbage looks at it no more."""
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()
        gc.freeze()
