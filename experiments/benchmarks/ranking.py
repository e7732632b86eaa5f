"""Ranks a catalogue of a million items for ten thousand users, and says how long it took and how much memory.

Run:      python experiments/benchmarks/ranking.py [--items 1000000] [--users 10000] [--size 64]
Time:     about a minute on 2 processor cores
Shows:    evaluate.ranking keeps no users x items anywhere: blocks of matrix products, the best items, exact ranks
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import torch

from collm.data.candidates import ItemLists
from collm.engine.ranking import CatalogueRanking, FactorScores, Ties


def main() -> None:
    """Draws vectors, ranks, and prints seconds beside those of the matrix products alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64, help="length of a vector")
    parser.add_argument("--met", type=int, default=100, help="items per user that are left out")
    given = parser.parse_args()
    draw = np.random.default_rng(0)
    users, items = torch.randn(given.users, given.size), torch.randn(given.items + 1, given.size)
    positives = ItemLists.of([draw.integers(1, given.items + 1, 1) for _ in range(given.users)])
    met = [np.unique(draw.integers(1, given.items + 1, given.met)) for _ in range(given.users)]
    left_out = ItemLists.of([np.setdiff1d(each, positives[place]) for place, each in enumerate(met)])
    scores = FactorScores(users, items)
    start = time.perf_counter()
    ties = Ties.drawn(np.arange(given.users))
    ranks = CatalogueRanking(scores, given.items, positives, left_out, ties, depth=20).ranks()
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    for low in range(0, given.users, scores.lists_per_block):
        for at in range(1, given.items + 1, scores.items_per_block):
            scores(
                slice(low, low + scores.lists_per_block), slice(at, min(at + scores.items_per_block, given.items + 1))
            )
    products = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    said = [f"{given.users:,} users x {given.items:,} items: {seconds:.1f} s, the products alone {products:.1f} s"]
    said.append(f"{memory:.2f} GB at most; mean rank of a random positive {ranks.chosen_rank.mean():,.0f}")
    sys.stdout.write("\n".join(said) + "\n")


if __name__ == "__main__":
    main()
