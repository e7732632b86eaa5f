"""The wordings of the paper and its code, and a user's own."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from collm.contracts.prompt import HistoryTitles, ItemSlot, Segment, TargetTitle, Text, UserSlot
from collm.prompt.encode import PromptEncoder
from collm.prompt.show import show_prompts
from collm.prompt.template import check_template
from collm.registry import default_registry
from collm.testing.fakes import FakeTokenizer
from collm_prompts.config import CustomConfig, DomainConfig
from collm_prompts.parse import parse_template
from collm_prompts.wordings import NOUNS, build_custom, build_domain

PLACEHOLDERS = {HistoryTitles: "<ItemTitleList>", TargetTitle: "<TargetItemTitle>"}
PLACEHOLDERS |= {UserSlot: "<UserID>", ItemSlot: "<TargetItemID>"}
CUSTOM = 'Liked {history}.[[ Taste {user}.]] Would they buy {target}[[, like {item}]]? {{"Yes" or "No"}} Answer:'


def words(segments: tuple[Segment, ...]) -> str:
    return "".join(each.text if isinstance(each, Text) else PLACEHOLDERS[type(each)] for each in segments)


def test_paper_wording_is_the_papers() -> None:
    template = build_domain(DomainConfig(name="item"))
    # Section 4.1.1.
    assert words(template.segments("hybrid")) == (
        "#Question: A user has given high ratings to the following items: <ItemTitleList>. Additionally, we have "
        "information about the user's preferences encoded in the feature <UserID>. Using all available information, "
        "make a prediction about whether the user would enjoy the item titled <TargetItemTitle> with the feature "
        '<TargetItemID>? Answer with "Yes" or "No". #Answer:'
    )
    assert words(template.segments("text")) == (
        "#Question: A user has given high ratings to the following items: <ItemTitleList>. Using all available "
        "information, make a prediction about whether the user would enjoy the item titled <TargetItemTitle>? "
        'Answer with "Yes" or "No". #Answer:'
    )
    assert template.empty_history == "none so far"


def test_reference_wording_is_that_of_the_published_files() -> None:
    template = build_domain(DomainConfig(name="movie", wording="reference"))
    # Facts 5, 6 and 9.
    assert words(template.segments("hybrid")) == (
        "#Question: A user has given high ratings to the following movies: <ItemTitleList>. Additionally, we have "
        "information about the user's preferences encoded in the feature <UserID>. Using all available information, "
        "make a prediction about whether the user would enjoy the movie titled <TargetItemTitle> with the feature "
        '<TargetItemID>? Answer with "Yes" or "No". \\n#Answer:'
    )
    assert words(template.segments("text")) == (
        "#Question: A user has given high ratings to the following movies: <ItemTitleList>. Leverage the information "
        "to predict whether the user would enjoy the movie titled <TargetItemTitle>? "
        'Answer with "Yes" or "No". \\n#Answer:'
    )
    assert (template.empty_history, template.strip_history_titles) == ("unkow", False)


@pytest.mark.parametrize("wording", ["paper", "reference"])
@pytest.mark.parametrize("name", NOUNS)
def test_every_domain_is_registered_sound_and_speaks_its_noun(name: str, wording: str) -> None:
    component = default_registry().get("prompt", name)
    template = component.load_factory()(component.config(name=name, wording=wording))
    check_template(template)
    singular, plural = NOUNS[name]
    for variant in ("text", "hybrid"):
        assert f"following {plural}: <" in words(template.segments(variant))
        assert f"the {singular} titled <" in words(template.segments(variant))


def test_custom_prompt() -> None:
    component = default_registry().get("prompt", "custom")
    config = CustomConfig(name="custom", template=CUSTOM, quote="'", title_join=" / ", empty_history="nothing")
    template = component.load_factory()(config)
    assert component.load_factory() is build_custom
    encoder = PromptEncoder(template, FakeTokenizer(bos=False), ["", "Heat", "Up"], max_tokens=100)
    shown = show_prompts(encoder, 2, [1, 2])
    assert shown["hybrid"]["text"] == (
        "Liked 'Heat' / 'Up'. Taste <user>. Would they buy 'Up', like <item>? {\"Yes\" or \"No\"} Answer:"
    )
    assert shown["text"]["text"] == "Liked 'Heat' / 'Up'. Would they buy 'Up'? {\"Yes\" or \"No\"} Answer:"
    assert "Liked nothing." in show_prompts(encoder, 2, [0, 0])["text"]["text"]


def test_custom_text_variant() -> None:
    config = CustomConfig(name="custom", template=CUSTOM, text_template="Buy {target}? Answer:")
    assert words(build_custom(config).segments("text")) == "Buy <TargetItemTitle>? Answer:"


def test_parts_keep_their_marks() -> None:
    assert parse_template("a {target}[[ b {item}]]c") == (
        Text("a "),
        TargetTitle(),
        Text(" b ", collaborative=True),
        ItemSlot(),
        Text("c"),
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{histroy} {target}?", r"character 1 .*unknown field '\{histroy\}'; did you mean '\{history\}'\?"),
        ("like {Target}?", r"character 6 .*unknown field '\{Target\}'; did you mean '\{target\}'\?"),
        ("like {}?", r"unknown field '\{\}'; fields: "),
        ("a } {target}", r"a single '\}'; write '\}\}'"),
        ("a { {target}", r"a single '\{'; write '\{\{'"),
        ("{target} [[ {user} {item}", r"'\[\[' is never closed"),
        ("{target} ]] x", r"'\]\]' without its pair"),
        ("{target} [[ [[ {user}]]]] x", r"'\[\[' without its pair; .* nested"),
        ("{target} {user} x", r"'\{user\}' must be inside \[\[...\]\]"),
        ("{target} x", "needs at least one user slot, got 0; .*at least one item slot, got 0"),
        ("[[{user} {item}]] x", "needs exactly one target title, got 0"),
        ("{target} [[{user} {item}]] ", "must end in words"),
        ("[[{target} {user} {item}]] x", "text variant: needs exactly one target title, got 0"),
    ],
)
def test_custom_mistakes_are_located(template: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CustomConfig(name="custom", template=template)


def test_mistakes_in_the_text_variant() -> None:
    with pytest.raises(ValidationError, match=r"text_template\n.*character 6 .*'\{user\}' must be inside"):
        CustomConfig(name="custom", template=CUSTOM, text_template="like {user} {target}?")
