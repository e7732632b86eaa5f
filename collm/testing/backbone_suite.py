"""The contract of backbones as tests: subclass `BackboneContract` and set `component`; a small model keeps it quick."""

from __future__ import annotations

from typing import Any

import torch

from collm.contracts.backbone import Backbone
from collm.testing.component_suite import ComponentContract, expect

TEXT = 'A user liked "Heat (1995)", "<unk> & <s>";\nAnswer:'
TOLERANCE = 1e-4


class BackboneContract(ComponentContract):
    """What every backbone promises: its tokenizer takes plain text, its model is frozen and takes embeddings."""

    def build(self) -> Backbone:
        """Builds the backbone; no weights are loaded."""
        backbone: Backbone = self.component.load_factory()(self.make_config(), context=self.context())
        return backbone

    def load(self) -> Any:
        """Loads the model in float32 on the processor."""
        return self.build().load(dtype=torch.float32, device=torch.device("cpu"))

    def test_tokenizer_takes_plain_text(self) -> None:
        """Text in pieces gives the ids of the whole, and no special token is recognised inside it."""
        tokenizer = self.build().tokenizer()
        ids = tokenizer.encode(TEXT)
        expect(tokenizer.encode_many([TEXT, TEXT]) == [ids, ids], "encode_many differs from encode")
        expect(tokenizer.decode(ids) == TEXT, f"decode(encode(text)) gives {tokenizer.decode(ids)!r}, not {TEXT!r}")
        special = set(tokenizer.bos_ids) & set(ids)
        expect(not special, f"encode puts special ids {sorted(special)} into plain text; bos_ids are added elsewhere")

    def test_answers_differ(self) -> None:
        """The answer words differ in their first token."""
        answer = self.build().tokenizer().answer
        expect(answer.positive != answer.negative, f"both answer words begin with token {answer.positive}")

    def test_content_hash_and_description(self) -> None:
        """The content hash is text that stays the same; the description is plain data."""
        one, two = self.build().content_hash(), self.build().content_hash()
        expect(isinstance(one, str) and bool(one) and one == two, f"content_hash gave {one!r}, then {two!r}")
        found = self.build().describe()
        expect(isinstance(found, dict) and bool(found), f"describe returned {found!r}; asked is a non-empty dict")

    def test_model_is_frozen_and_repeatable(self) -> None:
        """No parameter trains, the model is in eval mode, and loading twice gives equal answers."""
        backbone, model = self.build(), self.load()
        moving = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        expect(not moving, f"parameters that train: {', '.join(moving[:3])}; call requires_grad_(False)")
        expect(not model.training, "the model is in training mode; call eval()")
        ids = torch.tensor([backbone.tokenizer().encode(TEXT)])
        expect(bool(torch.equal(_logits(model, ids), _logits(self.load(), ids))), "two loads answer differently")

    def test_embeddings_fit(self) -> None:
        """Token embeddings have the declared width, reach every id in use, and stand for ids in a forward pass."""
        backbone, model = self.build(), self.load()
        table, tokenizer = model.get_input_embeddings().weight, backbone.tokenizer()
        expect(
            table.shape[1] == backbone.hidden_size,
            f"token embeddings are {table.shape[1]} wide, but hidden_size={backbone.hidden_size}",
        )
        ids = tokenizer.encode(TEXT)
        top = max(*ids, *tokenizer.bos_ids, tokenizer.pad_id, tokenizer.answer.positive, tokenizer.answer.negative)
        expect(top < len(table), f"the tokenizer uses id {top}, but there are {len(table)} token embeddings")
        with torch.no_grad():
            through = model(inputs_embeds=table[torch.tensor([ids])]).logits
        near = bool(torch.allclose(through, _logits(model, torch.tensor([ids])), atol=TOLERANCE, rtol=TOLERANCE))
        expect(near, "embeddings in place of ids give another answer")

    def test_lora_targets_exist(self) -> None:
        """Every name in `lora_targets` is that of a module."""
        backbone, model = self.build(), self.load()
        known = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        missing = [name for name in backbone.lora_targets if name not in known]
        expect(
            bool(backbone.lora_targets) and not missing, f"lora_targets name no module: {', '.join(missing) or '()'}"
        )


@torch.no_grad()
def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids).logits
    return logits
