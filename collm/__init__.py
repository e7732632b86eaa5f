"""collm: an experiment harness for language models with collaborative signals (CoLLM)."""

__version__ = "0.2.0"
