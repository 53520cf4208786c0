# SPDX-License-Identifier: Apache-2.0
"""Medians, geometric means and intervals of interleaved rounds."""
import math
import random
import statistics

RESAMPLES = 2000
SEED = 1  # the same rounds always give the same intervals


def geomean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def ratio(ours, theirs):
    """(ratio of medians, low, high): 95 % by bootstrap over rounds, the pairs of a round together
    because they share what the machine did meanwhile."""
    chance = random.Random(SEED)
    pairs = list(zip(ours, theirs))

    def of(sample):
        return statistics.median(a for a, _ in sample) / statistics.median(b for _, b in sample)

    seen = sorted(of(chance.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return of(pairs), seen[int(0.025 * RESAMPLES)], seen[int(0.975 * RESAMPLES)]


def geomean_ratio(scenes):
    """The same over many scenes; scenes: [(ours, theirs)]. Rounds are resampled as a whole."""
    chance = random.Random(SEED)
    rounds = min(len(ours) for ours, _ in scenes)

    def of(chosen):
        return geomean([statistics.median(ours[i] for i in chosen) /
                        statistics.median(theirs[i] for i in chosen) for ours, theirs in scenes])

    seen = sorted(of(chance.choices(range(rounds), k=rounds)) for _ in range(RESAMPLES))
    return of(range(rounds)), seen[int(0.025 * RESAMPLES)], seen[int(0.975 * RESAMPLES)]
