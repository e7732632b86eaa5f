"""Answered training rows that come before every question (`tuning.examples`)."""

from __future__ import annotations

import numpy as np

from collm.contracts.backbone import PromptTokenizer
from collm.data.prepared import PreparedData, Rows
from collm.engine.device import derive_seed
from collm.engine.prompt_lists import PromptLists
from collm.errors import DataError
from collm.prompt.encode import PromptEncoder

_BETWEEN = "\n\n"


def draw_examples(rows: Rows, n: int, seed: int) -> Rows:
    """Draws training rows, as many liked as disliked ones (one more liked where `n` is odd), of different users.

    Args:
        rows: Training rows.
        n: How many, at least 1.
        seed: Decides rows and order.

    Raises:
        DataError: If there are not that many users with such rows.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(rows))
    wanted, chosen, users = {1: n - n // 2, 0: n // 2}, [], set()
    for place in order:
        user, label = int(rows.user[place]), int(rows.label[place])
        if wanted[label] and user not in users:
            chosen.append(place)
            users.add(user)
            wanted[label] -= 1
    if len(chosen) < n:
        raise DataError(f"tuning.examples: {n} wanted, but training rows of different users give {len(chosen)} at most")
    return rows.take(generator.permutation(np.array(chosen, dtype=np.int64)))


def examples_preamble(
    data: PreparedData, encoder: PromptEncoder, tokenizer: PromptTokenizer, *, n: int, lists: PromptLists, seed: int
) -> list[int]:
    """Returns the token ids of `n` text prompts about training rows, each with its answer and an empty line behind it.

    Args:
        data: Prepared data.
        encoder: Encodes text prompts, without a preamble of its own.
        tokenizer: The encoder's.
        n: How many; 0 gives nothing.
        lists: What prompts list of the past.
        seed: The run's seed.

    Raises:
        DataError: If the training rows give too few.
    """
    if not n:
        return []
    rows = draw_examples(data.rows("train"), n, derive_seed(seed, "examples"))
    prompts = encoder.encode(rows.item, lists.read(data, rows), "text")
    words = tokenizer.encode_many([tokenizer.answer.negative_word, tokenizer.answer.positive_word])
    between, leading = tokenizer.encode_many([_BETWEEN])[0], len(tokenizer.bos_ids)
    ids: list[int] = []
    for place in range(n):
        ids += [*prompts.prompt(place)[leading:].tolist(), *words[int(rows.label[place])], *between]
    return ids
