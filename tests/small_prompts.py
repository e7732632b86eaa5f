"""A small prompt with every kind of segment."""

from __future__ import annotations

from collm.contracts.prompt import (
    HistoryItems,
    HistoryTitles,
    ItemSlot,
    PromptTemplate,
    TargetTitle,
    Text,
    UserSlot,
)


def small_template(history: HistoryTitles | HistoryItems) -> PromptTemplate:
    """A question about a film; titles of the history alone, or with their slots."""
    return PromptTemplate(
        hybrid=(
            Text("#Question: liked "),
            history,
            Text("."),
            Text(" Taste ", collaborative=True),
            UserSlot(),
            Text(".", collaborative=True),
            Text(" New: "),
            TargetTitle(),
            Text(" with ", collaborative=True),
            ItemSlot(),
            Text("? #Answer:"),
        )
    )
