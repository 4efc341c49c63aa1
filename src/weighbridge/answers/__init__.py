"""An answer: estimates, intervals, verdicts, remedies, and the questions that ask for them."""
