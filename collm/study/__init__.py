"""Optuna studies: sample a point, override the base spec, resolve it, run it in a process of its own."""
