"""What the user is to know of a run: each line once, as a warning and in the report."""

import warnings


class Notes:
    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, line: str) -> None:
        if line not in self.told:
            self.told.append(line)
            warnings.warn(line, stacklevel=3)
