"""Make all figures of the evidence anew, in their order: margins, pins, the page and both README.

    python -m tools.figures

Four to five minutes of one processor: each answer is made once for all of them. By hand it is
`python tools/fit_intervals.py`, `python tools/pin_accuracy.py` and `python -m tools.evidence`.
"""

import sys

from tools import evidence, fit_intervals, pin_accuracy

from weighbridge.answers.bounds import accuracy, fitted


def main() -> int:
    sys.argv = sys.argv[:1]
    fit_intervals.main()
    fitted.cache_clear()
    accuracy.coverage.cache_clear()
    pin_accuracy.main()
    return evidence.main()


if __name__ == "__main__":
    sys.exit(main())
