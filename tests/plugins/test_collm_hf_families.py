"""Today's model families through `hf`: tokenizer facts, answer words, adapters, shared prefixes, half precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from todays_models import FAMILIES, write_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from collm.component import BuildContext
from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot
from collm.contracts.tuning import LoraConfig
from collm.engine.probe import OwnLogits
from collm.errors import DataError
from collm.model.hf_backbone import HfBackbone
from collm.model.hf_tokenizer import HfTokenizer
from collm.model.parameters import add_lora, lora_parameters
from collm.model.prefix.batch import build_batch
from collm.model.recommender import Recommender
from collm.prompt.encode import PromptEncoder, SlotFill
from collm.prompt.encoded import EncodedPrompts
from collm.registry import default_registry

CPU = torch.device("cpu")
TITLES = ["", "Heat (1995)", "Toy Story", "Alien (1979)", "Übermensch", "a <s> b [INST] <|im_end|> <eos> c"]
QUESTION = "#Question: A user has given high ratings to the following movies: {}. Would the user enjoy {}? #Answer:"
BEFORE, BETWEEN, AFTER = QUESTION.split("{}")
TEMPLATE = PromptTemplate(
    hybrid=(
        *(Text(BEFORE), HistoryTitles(), Text(BETWEEN), TargetTitle()),
        *(Text(" with ", True), UserSlot(), Text(" and ", True), ItemSlot(), Text(AFTER)),
    )
)
ITEMS = np.array([1, 2, 3, 4, 5, 3])
HISTORIES = np.array([[1, 2, 3, 5]] * 3 + [[0, 0, 4, 2]] * 3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        write_folder(name, folder / name)
    return folder


def opened(folder: Path, **settings: Any) -> HfBackbone:
    component = default_registry().get("backbone", "hf")
    config = component.config(name="hf", path=folder, **settings)
    return component.load_factory()(config, context=BuildContext(cache_dir=folder.parent))


def prompts_of(backbone: HfBackbone) -> EncodedPrompts:
    encoder = PromptEncoder(TEMPLATE, backbone.tokenizer(), TITLES, max_tokens=500)
    return encoder.encode(ITEMS, HISTORIES, "text")


def own_logits(lm: Any, backbone: HfBackbone, prompts: EncodedPrompts) -> torch.Tensor:
    """What the model's plain forward pass says after each prompt, float32 [n, 2]."""
    answer = backbone.tokenizer().answer
    rows = [torch.from_numpy(prompts.prompt(place).astype(np.int64))[None] for place in range(len(prompts))]
    with torch.no_grad():
        logits = torch.stack([lm(input_ids=row).logits[0, -1] for row in rows]).float()
    return logits[:, [answer.positive, answer.negative]]


@pytest.mark.parametrize("name", FAMILIES)
def test_answer_words_begin_and_padding_are_the_tokenizers_own(root: Path, name: str) -> None:
    family, plain = FAMILIES[name], AutoTokenizer.from_pretrained(root / name)
    spaced, bare = (opened(root / name, answer_space=space).tokenizer().answer for space in (True, False))
    for answer, words in ((spaced, (" Yes", " No")), (bare, ("Yes", "No"))):
        assert (answer.positive_word, answer.negative_word) == words
        # As they go on from the prompt's last word, in one text.
        whole = plain(f"#Answer:{words[0]}", add_special_tokens=False)["input_ids"]
        cut = len(plain("#Answer:", add_special_tokens=False)["input_ids"])
        assert whole[cut] == answer.positive
        assert answer.positive != answer.negative
    assert {spaced.positive, spaced.negative}.isdisjoint({bare.positive, bare.negative})
    tokenizer = opened(root / name).tokenizer()
    assert tokenizer.answer == spaced
    assert tokenizer.bos_ids == ((plain.convert_tokens_to_ids(family.special[0]),) if family.adds_bos else ())
    assert tokenizer.pad_id == plain.convert_tokens_to_ids(family.pad or family.eos)


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_are_the_whole_text_and_special_tokens_in_titles_are_text(root: Path, name: str) -> None:
    backbone, plain = opened(root / name), AutoTokenizer.from_pretrained(root / name)
    prompts = prompts_of(backbone)
    history = ", ".join(f'"{TITLES[item]}"' for item in (1, 2, 3))
    text = QUESTION.format(f'{history}, "{TITLES[5]}"', f'"{TITLES[5]}"')
    ids = prompts.prompt(2).tolist()
    special = set(plain.all_special_ids) - set(backbone.tokenizer().bos_ids)
    assert special.isdisjoint(ids)
    encoded = PromptEncoder(TEMPLATE, backbone.tokenizer(), TITLES, max_tokens=500, leading_space=True)
    found = encoded.encode(np.array([5]), HISTORIES[:1], "text").prompt(0).tolist()
    whole = plain(text, split_special_tokens=True, add_special_tokens=False)["input_ids"]
    assert found == [*backbone.tokenizer().bos_ids, *whole]


@pytest.mark.parametrize("name", FAMILIES)
def test_shared_beginnings_give_the_logits_of_plain_rows(root: Path, name: str) -> None:
    family, backbone = FAMILIES[name], opened(root / name)
    lm = backbone.load(dtype=torch.float32, device=CPU)
    prompts = prompts_of(backbone)
    assert family.window is None or int(np.diff(prompts.offsets).max()) > family.window
    truth = own_logits(lm, backbone, prompts)
    assert float(truth.std()) > 0.01
    own = OwnLogits(lm, backbone.tokenizer())
    recommender = Recommender(lm, answer=backbone.tokenizer().answer, readout="yes_minus_no").eval()
    probe = own.compare(recommender)
    assert recommender.shares_prefixes is family.shares
    assert (probe.gap_shared is not None) is family.shares
    if not family.shares:
        assert probe.note() == (
            "Prompts are computed one by one: it caps its attention logits, which PyTorch's fused attention does not "
            "do."
        )
    for share in ("none", "through-user"):
        with torch.no_grad():
            found = recommender.answer_logits(build_batch(prompts, np.arange(len(prompts)), share=share))  # type: ignore[arg-type]
        torch.testing.assert_close(found, truth, atol=5e-5, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_sit_where_the_family_has_queries_and_values_and_move_it(root: Path, name: str) -> None:
    family, backbone = FAMILIES[name], opened(root / name)
    assert backbone.lora_targets == family.lora
    lm = backbone.load(dtype=torch.float32, device=CPU)
    names = add_lora(lm, LoraConfig(r=2, dropout=0.0), backbone.lora_targets)
    assert {each.rpartition(".")[2] for each in names} == set(family.lora)
    recommender = Recommender(lm, answer=backbone.tokenizer().answer, readout="yes_minus_no")
    recommender.share_prefixes(family.shares)
    recommender.set_trainable(["lora"])
    prompts = prompts_of(backbone)
    batch = build_batch(prompts, np.arange(len(prompts)), share="through-user")
    recommender(batch).sum().backward()
    ups = [value for key, value in lora_parameters(lm).items() if key.endswith("lora_B")]
    assert len(ups) == len(names) == 4 * len(family.lora)
    assert all(float(value.grad.abs().sum()) > 0 for value in ups)


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_stays_near_float32(root: Path, name: str) -> None:
    backbone = opened(root / name)
    prompts = prompts_of(backbone)
    lm = backbone.load(dtype=torch.bfloat16, device=CPU)
    assert {parameter.dtype for parameter in lm.parameters()} == {torch.bfloat16}
    recommender = Recommender(lm, answer=backbone.tokenizer().answer, readout="yes_minus_no").eval()
    recommender.share_prefixes(FAMILIES[name].shares)
    with torch.no_grad():
        found = recommender.answer_logits(build_batch(prompts, np.arange(len(prompts)), share="through-user"))
    exact = own_logits(AutoModelForCausalLM.from_pretrained(root / name).eval(), backbone, prompts)
    assert float((found - exact).abs().max()) < 0.1 * float(1 + exact.abs().max())
    assert not torch.equal(found, exact)


CHATTING = [name for name, family in FAMILIES.items() if family.chat]


@pytest.mark.parametrize("name", CHATTING)
def test_a_chat_prompt_is_the_models_own_template_and_the_answer_follows_it(root: Path, name: str) -> None:
    backbone, plain = opened(root / name), AutoTokenizer.from_pretrained(root / name)
    for asked, date in (("%d %b %Y", "26 Jul 2024"), ("%d %B %Y", "26 July 2024")):
        plain.chat_template = plain.chat_template.replace(f"strftime_now('{asked}')", f"'{date}'")
    asking = backbone.in_chat(QUESTION.format('"Heat (1995)"', '"Alien (1979)"'))
    tokenizer = asking.tokenizer()
    encoder = PromptEncoder(TEMPLATE, tokenizer, TITLES[:5], max_tokens=500)
    prompts = encoder.encode(ITEMS[:4], HISTORIES[3:4].repeat(4, 0), "text")
    for place, item in enumerate(ITEMS[:4]):
        question = QUESTION.format(f'"{TITLES[4]}", "{TITLES[2]}"', f'"{TITLES[item]}"')
        whole = plain.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            enable_thinking=False,
            return_dict=False,
        )
        assert prompts.prompt(place).tolist() == whole
    # The words of an assistant's turn, as the template itself writes them.
    space = " " if name == "mistral-0.3" else ""
    assert tokenizer.answer.positive_word == f"{space}Yes"
    assert [tokenizer.answer.positive] == tokenizer.encode(f"{space}Yes")[:1]
    # The other backbone still asks as before.
    assert backbone.tokenizer().chat is None
    assert backbone.tokenizer().answer.positive_word == " Yes"


@pytest.mark.parametrize("name", CHATTING)
def test_chat_prompts_share_beginnings_keep_their_slots_and_stay_within_the_limit(root: Path, name: str) -> None:
    backbone = opened(root / name).in_chat(QUESTION.format('"Heat (1995)"', '"Alien (1979)"'))
    lm, tokenizer = backbone.load(dtype=torch.float32, device=CPU), backbone.tokenizer()
    encoder = PromptEncoder(
        TEMPLATE, tokenizer, TITLES, fills={"user": SlotFill(2), "item": SlotFill(1)}, max_tokens=500
    )
    hybrid = encoder.encode(ITEMS, HISTORIES, "hybrid")
    after = len(tokenizer.chat.after)
    assert after > 0
    for place in range(len(ITEMS)):
        ids = hybrid.prompt(place)
        assert tuple(ids[-after:]) == tokenizer.chat.after
        assert (ids[hybrid.slots["user"][place]] == tokenizer.pad_id).all()
        assert tokenizer.decode(ids[hybrid.slots["item"][place][0] + 1 : -after].tolist()) == "? #Answer:"
    text = encoder.encode(ITEMS, HISTORIES, "text")
    recommender = Recommender(lm, answer=tokenizer.answer, readout="yes_minus_no").eval()
    with torch.no_grad():
        found = recommender.answer_logits(build_batch(text, np.arange(len(ITEMS)), share="through-user"))
    torch.testing.assert_close(found, own_logits(lm, backbone, text), atol=5e-5, rtol=0)
    longest = int(np.diff(text.offsets).max())
    short = PromptEncoder(TEMPLATE, tokenizer, TITLES, max_tokens=longest - 1).encode(ITEMS, HISTORIES, "text")
    assert int(np.diff(short.offsets).max()) < longest
    assert short.n_history_used.min() < text.n_history_used.max()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "has no chat template, which prompt.chat asks for"),
        ("{{ messages[0].content | upper }}", "changes the prompt's words or has no token boundary around them"),
        ("{{ messages[0].content }}r", "has no token boundary around them"),
        ("{{ raise_exception('one turn too many') }}", "cannot be filled in: one turn too many"),
        ("{% if %}", "cannot be filled in"),
    ],
)
def test_a_template_that_does_not_leave_the_prompt_alone_is_refused(
    root: Path, template: str | None, said: str
) -> None:
    plain = AutoTokenizer.from_pretrained(root / "qwen2.5")
    plain.chat_template = template
    with pytest.raises(DataError, match=said):
        HfTokenizer(plain).in_chat('#Question: would the user enjoy "Heat (1995)"? Who is the use')
