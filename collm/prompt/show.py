"""One row's prompt for people: text with its slots marked, tokens, lengths, for both variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from collm.contracts.backbone import PromptTokenizer
from collm.contracts.prompt import Variant
from collm.prompt.encode import EncodedPrompts, PromptEncoder

Array = np.ndarray[Any, Any]


def show_prompts(encoder: PromptEncoder, item: int, history: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Encodes one row as tuning and scoring do, and turns it back into text.

    Args:
        encoder: The encoder.
        item: Target item.
        history: Item ids, oldest first, left-padded with 0.

    Returns:
        Variant -> JSON-able facts, see `describe_prompt`.
    """
    items, histories = np.array([item]), np.array([list(history)], dtype=np.int64)
    return {
        variant: describe_prompt(encoder.encode(items, histories, variant), 0, encoder.tokenizer)
        for variant in get_args(Variant)
    }


def describe_prompt(prompts: EncodedPrompts, index: int, tokenizer: PromptTokenizer) -> dict[str, Any]:
    """Returns the facts about one encoded prompt, JSON-able.

    Args:
        prompts: Encoded prompts.
        index: Which of them.
        tokenizer: The tokenizer that they were encoded with.

    Returns:
        `text` with the slots as `<user>` and `<item>`, `n_tokens`, `tokens` (`[id, text]` each), `slots` (side ->
        positions), `history_titles`, `shared` and `before_user` (leading tokens).
    """
    ids = [int(number) for number in prompts.prompt(index)]
    sides = {"user": prompts.user_slot[index], "item": prompts.item_slot[index]}
    marks = {int(at): f"<{side}>" for side, slots in sides.items() for at in slots}
    return {
        "text": marked_text(ids, marks, tokenizer),
        "n_tokens": len(ids),
        "tokens": [[number, marks.get(at) or tokenizer.decode([number])] for at, number in enumerate(ids)],
        "slots": {side: [int(at) for at in slots] for side, slots in sides.items()},
        "history_titles": int(prompts.n_history_used[index]),
        "shared": int(prompts.shared[index]),
        "before_user": int(prompts.before_user[index]),
    }


def marked_text(ids: Sequence[int], marks: Mapping[int, str], tokenizer: PromptTokenizer) -> str:
    """Decodes the stretches between slots; a slot's placeholder id means nothing and is never decoded.

    Args:
        ids: Token ids of one prompt.
        marks: Position -> what is shown there.
        tokenizer: The tokenizer that the ids come from.
    """
    parts: list[str] = []
    start = 0
    for at in sorted(marks):
        before = tokenizer.decode(list(ids[start:at]))
        # The vector stands for a word with its space.
        parts += [before, " " if before[-1:].isalnum() else "", marks[at]]
        start = at + 1
    return "".join([*parts, tokenizer.decode(list(ids[start:]))])
