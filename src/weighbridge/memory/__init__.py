"""Components of memory and the records of an answer."""
