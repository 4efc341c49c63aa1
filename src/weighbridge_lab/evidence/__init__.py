"""Published measurements, and how near our predictions come: figures with their citations."""
