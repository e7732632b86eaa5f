"""Metrics: pure functions on labels and scores, their intervals, and the evaluation of one slice."""
