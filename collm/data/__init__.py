"""From interactions to splits, dense ids and histories: polars and numpy, no torch."""
