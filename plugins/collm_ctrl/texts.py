"""What the text side reads: one sentence per item and one per user. Knows titles and rows, nothing of models."""

from __future__ import annotations

from collm.contracts.encoder import EncoderData, TrainRows

NO_HISTORY = "This is a user without a history."


def item_texts(data: EncoderData) -> list[str]:
    """Returns a sentence per dense item id, "" for padding."""
    return ["", *(f'This is an item titled "{title.strip()}".' for title in list(data.titles)[1:])]


def user_texts(data: EncoderData, *, max_titles: int) -> list[str]:
    """Returns a sentence per dense user id, "" for padding: the latest liked items of the training rows, oldest first.

    Args:
        data: Titles and training rows. Rows of one second keep the order of the source.
        max_titles: Titles per user at most.
    """
    liked = _liked_items(data.train)
    texts = [""]
    for user in range(1, data.n_users + 1):
        titles = ", ".join(f'"{data.titles[item].strip()}"' for item in liked.get(user, [])[-max_titles:])
        texts.append(f"This is a user who liked {titles}." if titles else NO_HISTORY)
    return texts


def _liked_items(train: TrainRows) -> dict[int, list[int]]:
    """Items of positive rows by user, in time order."""
    found: dict[int, list[int]] = {}
    positive = train.label == 1
    rows = zip(train.timestamp[positive], train.row[positive], train.user[positive], train.item[positive], strict=True)
    for _, _, user, item in sorted(rows):
        found.setdefault(int(user), []).append(int(item))
    return found
