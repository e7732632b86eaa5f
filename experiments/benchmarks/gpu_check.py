"""Measures everything that one GPU can tell in one call, and prints it as one JSON.

Run:      make gpu-check CHECK='--data ml-1m-released-split.zip --tokenizer smollm2-135m'
Time:     at most 8 minutes on one data-centre GPU (--minutes); what no longer fits is left out and named
Data:     --data is the split published with the paper; without it made-up ratings. --tokenizer is a model folder whose
          tokenizer is used, its weights are not needed; without it prompts are about twice as long. Weights are drawn
Shows:    tests marked gpu; trees beside plain rows in float32 and bfloat16; both ways to attend over a tree; speed,
          share of the measured peak and memory of three shapes beside the plain loop; seconds for a whole test set
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from collm.bench.cases import Amount, scorer
from collm.bench.machine import Clock
from collm.bench.measure import BenchOptions, measure
from collm.bench.plain import PlainLoop
from collm.bench.subject import Subject, open_subject
from collm.bench.training_steps import TrainingSteps
from collm.component import BuildContext
from collm.data.prepared import Rows
from collm.engine.device import choose_device, prepare_machine
from collm.model.parameters import lora_parameters
from collm.model.prefix.run import AttentionWay, attention_way
from collm.registry import Registry, default_registry
from collm.runs.environment import describe_environment
from collm.spec.model import ResolvedSpec
from collm.spec.resolve import load_spec

HERE = Path(__file__).resolve().parent
SMOLLM2 = {
    "name": "random-shape",
    "dtype": "bfloat16",
    "architecture": "llama",
    "hidden_size": 576,
    "n_layers": 30,
    "n_heads": 9,
    "n_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocabulary_size": 49152,
    "tied_embeddings": True,
}
SHAPES = ("smollm2", "qwen2-1.5b-shape", "vicuna-7b-shape")
PARITY_ROWS = 64
REPETITIONS = 3


@dataclass(frozen=True)
class Check:
    """What is checked and where.

    Attributes:
        device: Where models run.
        data: The published split; None = made-up ratings.
        tokenizer: A model folder; None = the tokenizer of `tiny`.
        shapes: Names of benchmark specs beside this file.
        rows: Test rows that are scored per shape.
        deadline: When no further part begins, as `time.monotonic()`.
        scratch: A folder for what is written.
        registry: Where components come from.
    """

    device: torch.device
    data: Path | None
    tokenizer: Path | None
    shapes: Sequence[str]
    rows: int
    deadline: float
    scratch: Path
    registry: Registry

    def spec(self, shape: str, **changes: str) -> ResolvedSpec:
        """Returns a benchmark's spec with the data and tokenizer given, and further overrides of its backbone."""
        given = [f"dataset.path={self.data}"] if self.data else ["dataset={name: tiny, n_users: 400}"]
        if shape == "smollm2":
            given.append(f"backbone={json.dumps(SMOLLM2)}")
        if shape in SHAPES:
            folder = self.tokenizer and _tokenizer_folder(self.tokenizer, self.scratch / "tokenizer")
            given.append(
                f"backbone.tokenizer_of={{name: hf, path: {folder}}}" if folder else "backbone.tokenizer_of=null"
            )
        given += [f"backbone.{name}={value}" for name, value in changes.items()]
        return load_spec(HERE / f"{shape}.yaml", given, self.registry, cwd=Path.cwd())

    @contextmanager
    def subject(self, spec: ResolvedSpec) -> Iterator[Subject]:
        """Opens a spec's data and model, and clears them away."""
        with TemporaryDirectory(dir=self.scratch) as folder:
            context = BuildContext(cache_dir=self.scratch / "cache", find=self.registry.get)
            yield open_subject(spec, self.registry, context=context, device=self.device, folder=Path(folder))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _tokenizer_folder(given: Path, made: Path) -> Path:
    """Returns a folder that has a model's tokenizer and no weights worth loading: they are drawn."""
    if not made.is_dir():
        made.mkdir(parents=True)
        for path in given.glob("*.json"):
            shutil.copy(path, made)
        save_file({"unused": torch.zeros(1)}, str(made / "model.safetensors"))
    return made


def ways_of(device: torch.device) -> tuple[AttentionWay, ...]:
    """Returns the ways to attend that a device has, its usual one first."""
    return ("levels", "flex") if device.type == "cuda" else ("blocks", "levels")


def tests(check: Check) -> dict[str, Any]:
    """Runs the tests marked gpu in a process of their own."""
    if importlib.util.find_spec("pytest") is None:
        return {"left_out": "pytest is not installed"}
    folder = HERE.parents[1]
    # Options of the project's own settings need plugins that a bare machine lacks.
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-c", str(check.scratch / "pytest.ini")]
    (check.scratch / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    gpu\n", encoding="utf-8")
    done = subprocess.run(
        [*command, f"--rootdir={folder}", str(folder / "tests" / "model" / "test_gpu.py")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
    return {"exit_status": done.returncode, "summary": lines[-1] if lines else "", "output": lines[-30:]}


def parity(check: Check) -> dict[str, Any]:
    """Compares logits and gradients of trees with those of plain rows, in float32 and bfloat16."""
    found: dict[str, Any] = {}
    exact = None
    for dtype in ("float32", "bfloat16"):
        with check.subject(check.spec(check.shapes[0], dtype=dtype)) as subject:
            rows = subject.data.rows("test")
            rows = rows.take(np.arange(min(PARITY_ROWS, len(rows))))
            plain = PlainLoop(subject).score(rows, "hybrid")
            # Fresh adapters and mappings draw the same numbers in both formats, so float32 is what bfloat16 rounds.
            exact = plain if exact is None else exact
            found[dtype] = {"plain_loop": _differences(plain, exact)}
            for way in ways_of(check.device):
                with attention_way(way):
                    logits = scorer(subject, subject.source("hybrid"))(rows)
                    found[dtype][way] = _differences(logits, exact)
                    if way != "flex" or check.device.type == "cuda":
                        found[dtype][way]["gradient"] = _gradient_gap(subject, rows)
    return found


def _differences(logits: Any, exact: Any) -> dict[str, float]:
    gap = np.abs(logits - exact)
    return {"largest": float(gap.max()), "mean": float(gap.mean()), "spread_of_logits": float(np.std(exact))}


def _gradient_gap(subject: Subject, rows: Rows) -> float:
    """Returns the relative difference of the adapters' gradients between trees and padded rows, without dropout."""
    recommender, prompts = subject.recommender, subject.source("hybrid").encode(rows)
    batch = prompts.batch(np.arange(len(rows)))
    recommender.set_trainable(("lora", "projector"))
    recommender.eval()
    parameters = list(lora_parameters(recommender.lm).values())
    gradients = []
    for shares in (True, False):
        recommender.share_prefixes(shares)
        logits = recommender(batch)
        parts = torch.autograd.grad(
            (logits * torch.linspace(-1, 1, len(logits), device=logits.device)).sum(), parameters
        )
        gradients.append(torch.cat([part.reshape(-1).float() for part in parts]))
    recommender.share_prefixes(True)
    recommender.set_trainable(())
    return float((gradients[0] - gradients[1]).norm() / gradients[1].norm().clamp_min(1e-30))


def attention(check: Check) -> dict[str, Any]:
    """Times scoring and training steps with each way to attend, in turn, after a first run of each that compiles."""
    clock, found = Clock("wall", check.device), {}
    with check.subject(check.spec(check.shapes[0])) as subject:
        rows = subject.data.rows("test")
        rows = rows.take(np.arange(min(len(rows), check.rows)))
        score = scorer(subject, subject.source("hybrid"))
        step = subject.step("text")
        assert step is not None
        steps = TrainingSteps(subject, step, rows=subject.train_rows())
        batches = steps.batches(0, 2)
        work: dict[str, Callable[[], float]] = {
            "scoring_rows_per_s": lambda: len(rows) / clock.seconds(lambda: score(rows)),
            "text_step_samples_per_s": lambda: sum(len(p) for b in batches for p in b) / steps.run(batches, clock),
        }
        for name, rate in work.items():
            rates: dict[str, list[float]] = {way: [] for way in ways_of(check.device)}
            for _ in range(1 + REPETITIONS):
                for way in ways_of(check.device):
                    with attention_way(way):
                        rates[way].append(rate())
            found[name] = {way: sorted(each[1:]) for way, each in rates.items()}
    return found


def shape(check: Check, name: str) -> dict[str, Any]:
    """Measures one shape beside the plain loop, and says how long its whole test set takes."""
    options = BenchOptions(
        cache_dir=check.scratch / "cache",
        amount=Amount(rows=check.rows, users=6, repetitions=3),
        device=str(check.device),
    )
    result = measure(check.spec(name), check.registry, options)
    summary = result.summary()
    seconds = result.test_rows / summary["cases"]["scoring"]["ours_per_s"]
    return summary | {"test_rows": result.test_rows, "test_set_s": seconds, "peak_shape": list(result.peak.shape)}


def run(check: Check, output: Path | None) -> dict[str, Any]:
    """Does all parts that fit into the time, each with what it found, how long it took, or why it is missing.

    Args:
        check: What is checked and where.
        output: Written again after every part, so that a call that is cut short leaves what it found.
    """
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "tests": lambda: tests(check),
        "parity": lambda: parity(check),
        "attention": lambda: attention(check),
        **{f"shape {name}": lambda name=name: shape(check, name) for name in check.shapes},  # type: ignore[misc]
    }
    found: dict[str, Any] = {"environment": describe_environment(), "data": str(check.data and check.data.name)}
    if check.device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(check.device)
    for name, part in parts.items():
        started = time.monotonic()
        if started > check.deadline:
            found[name] = {"left_out": "the time was used up before it began"}
            continue
        sys.stderr.write(f"{name}\n")
        try:
            found[name] = part()
        except Exception as error:  # noqa: BLE001 - one part that fails must not cost the numbers of the others
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        found[name]["seconds"] = round(time.monotonic() - started, 1)
        if output is not None:
            output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the JSON; exit status 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="default: the first CUDA device, else the processor")
    parser.add_argument("--data", type=Path, help="the split published with the paper (a zip or its folder)")
    parser.add_argument("--tokenizer", type=Path, help="a model folder, or tokenizer.json and config.json alone")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="specs beside this file, separated by commas")
    parser.add_argument("--rows", type=int, default=2_000, help="test rows scored per shape")
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins later")
    parser.add_argument("--output", type=Path, help="also written there, after every part")
    given = parser.parse_args(arguments)
    prepare_machine(None)
    with TemporaryDirectory(prefix="collm-gpu-check-") as scratch:
        check = Check(
            device=choose_device(given.device),
            data=given.data and given.data.resolve(),
            tokenizer=given.tokenizer and given.tokenizer.resolve(),
            shapes=tuple(name for name in given.shapes.split(",") if name),
            rows=given.rows,
            deadline=time.monotonic() + 60 * given.minutes,
            scratch=Path(scratch),
            registry=default_registry(),
        )
        found = run(check, given.output)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    failed = [name for name, part in found.items() if isinstance(part, dict) and "failed" in part]
    return 1 if failed or found["tests"].get("exit_status", 0) not in (0, 5) else 0


if __name__ == "__main__":
    sys.exit(main())
