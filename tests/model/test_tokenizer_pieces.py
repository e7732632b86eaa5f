"""Both kinds of tokenizers: prompts in pieces have the ids of the whole text, and a tokenizer without it is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from model_folders import write_llama, write_qwen2
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot
from collm.errors import DataError
from collm.model.hf_tokenizer import HfTokenizer
from collm.prompt.encode import PromptEncoder
from collm.prompt.template import clean_title

TITLE = st.text(alphabet=st.sampled_from("aeH1995 (),.:'\"!?-ü映☃<>/  "), max_size=14)
ANY_TITLE = st.text(max_size=8)
# Words of a template: some with several spaces in a row, some with none.
WORDS = st.sampled_from(
    ["a user liked: ", "and  then ", " titled ", ". New: ", "? ", "(", "  ", " x\n y ", "\n", "?\n\n"]
)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HfTokenizer]:
    folders = {"sentencepiece": write_llama, "byte-level": write_qwen2}
    return {
        name: HfTokenizer(AutoTokenizer.from_pretrained(write(tmp_path_factory.mktemp(name))))
        for name, write in folders.items()
    }


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["sentencepiece", "byte-level"]),
    titles=st.lists(TITLE | ANY_TITLE, min_size=3, max_size=5),
    words=st.tuples(WORDS, WORDS, WORDS),
    join=st.sampled_from([", ", " | ", "; "]),
    n_history=st.integers(0, 3),
)
def test_pieces_have_the_ids_of_the_whole(tokenizers, kind, titles, words, join, n_history) -> None:
    tokenizer = tokenizers[kind]
    before, between, after = words
    segments = (Text(f"#Question {before}"), HistoryTitles(), Text(f"{between} so"), TargetTitle(), Text(f"{after}#A:"))
    # Two fields with no single space between them are cut at the field: that is how such a template is read.
    assume(re.search(r"(?<!\s) (?!\s)", f"{between} so"))
    template = PromptTemplate(
        hybrid=(*segments[:-1], UserSlot(), ItemSlot(), segments[-1]), text=segments, title_join=join
    )
    encoder = PromptEncoder(template, tokenizer, ["", *titles], max_tokens=4000)
    history = np.arange(1, n_history + 1)[None]
    prompt = encoder.encode(np.array([len(titles)]), history, "text").prompt(0).tolist()
    clean = ["", *(clean_title(title).strip() for title in titles)]
    shown = join.join(f'"{clean[item]}"' for item in history[0]) or "none"
    whole = f'#Question {before}{shown}{between} so"{clean[-1]}"{after}#A:'
    assert prompt == [*tokenizer.bos_ids, *tokenizer.encode(whole)]


def bpe(tokens: list[str], merges: list[tuple[str, str]], *, splits: bool) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with some merges, with or without splitting a text into words first."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*letters, *tokens])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splits)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def test_a_token_that_reaches_over_a_space_is_refused_where_it_is_made() -> None:
    tokens, merges = ["bĠ", "bĠa"], [("b", "Ġ"), ("bĠ", "a")]
    with pytest.raises(DataError, match=r"its token 'b ' spans a space, so prompts cannot be encoded in pieces"):
        HfTokenizer(bpe(tokens, merges, splits=False))
    # Here words are split first, so that no text ever becomes such a token.
    tokenizer = HfTokenizer(bpe(tokens, merges, splits=True))
    assert tokenizer.encode("ab ab") == tokenizer.encode("ab") + tokenizer.encode(" ab")
