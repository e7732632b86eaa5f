"""Writes a spec for somebody's own files from what was guessed of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from collm.ingest.label_values import not_rated
from collm.scaffold.guess_columns import ColumnGuess

_PLAIN = re.compile(r"(\.\./)*[A-Za-z_][A-Za-z0-9_./-]*")
_BOOLEANS = {"y", "n"}  # to some readers of YAML
_ROLES = ("user", "item", "rating", "label", "timestamp", "title", "split", "items_key")


def split_rule(guess: ColumnGuess) -> tuple[str, str]:
    """Returns the split as YAML, and why it was chosen."""
    if "split" in guess.roles:
        return "{by: column}", "the file says which row belongs where"
    if "timestamp" in guess.roles and guess.split_by_time:
        return (
            "{by: quantiles, valid: 0.1, test: 0.1}",
            "test: the newest 10% of all rows; valid: the 10% before them",
        )
    why = "too many rows have the same time" if "timestamp" in guess.roles else "there are no times"
    return "{by: random, valid: 0.1, test: 0.1}", f"{why}, so rows are drawn at random"


def files_spec(interactions: Path, items: Path | None, guess: ColumnGuess, *, spec: Path) -> str:
    """Returns the text of a spec that `collm validate` accepts."""
    columns = {role: guess.roles[role].column for role in _ROLES if role in guess.roles}
    label, comment = _label(guess)
    rule, why = split_rule(guess)
    command = " ".join(["collm data init", interactions.name, *([items.name] if items else [])])
    lines = [
        f"# Own data, encoder alone. Written by `{_comment(command)}`: look over what it guessed, then",
        f"#   collm validate {_comment(spec.name)}",
        f"#   collm run {_comment(spec.name)}",
        f"name: {_text(_name(interactions))}",
        "dataset:",
        "  name: files",
        f"  interactions: {_text(_relative(interactions, spec))}",
        *([f"  items: {_text(_relative(items, spec))}"] if items else []),
        *([f"  encoding: {_text(guess.encoding)}  # of the lines that are not UTF-8"] if guess.encoding else []),
        f"  columns: {_flow(columns)}",
        *([f"  times: {guess.times}  # what the timestamps are, as you said"] if guess.times != "auto" else []),
        *([f"  # values looked at: {_comment(guess.values)}"] if guess.values else []),
        f"  label: {label}  # {_comment(comment)}",
        f"  split: {rule}  # {why}",
        "  max_bad_rows: 0  # rows that cannot be used stop the run; raise this to go on without them",
        "encoder: {name: mf-bias}",
        "# With a language model on top, add for example:",
        "# backbone: {name: smollm2-135m}",
        "# prompt: {name: movie}",
        "# tuning: {name: default}",
    ]
    return "\n".join(lines) + "\n"


def _label(guess: ColumnGuess) -> tuple[str, str]:
    rating = guess.rating
    if guess.negatives:
        rule = f"{{per_positive: 1, by: {guess.negatives}, seed: 0}}"
        return f"{{from: positives, negatives: {rule}}}", "every row is a positive; metrics depend on this rule"
    if rating is None:
        return "{from: label}", "a ready label, taken as it is"
    more = f", not_rated: {not_rated(rating.not_rated)}" if rating.not_rated else ""
    return f"{{from: rating, positive_above: {rating.positive_above:g}{more}}}", rating.why


def _relative(path: Path, spec: Path) -> str:
    try:
        relative = Path(os.path.relpath(path.absolute(), spec.absolute().parent)).as_posix()
        return path.absolute().as_posix() if relative.startswith("~") else relative  # a tilde would mean a home
    except ValueError:  # another drive
        return path.absolute().as_posix()


def _name(interactions: Path) -> str:
    stem = interactions.name.removesuffix(".gz").partition(".")[0]
    return (re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-.") or "own-data")[:100]


def _flow(mapping: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {_text(value)}" for key, value in mapping.items()) + "}"


def _comment(text: str) -> str:
    """Returns text on one line, without characters that YAML refuses."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))


def _text(value: str) -> str:
    """Quotes what YAML would read as something else than this text."""
    if _PLAIN.fullmatch(value) and value.lower() not in _BOOLEANS and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
