"""How exact a figure is. All intervals are of 95 %."""
import math

import numpy
from scipy import stats

LEVEL = 0.95
Z = float(stats.norm.ppf(0.5 + LEVEL / 2))


def proportion(shown):
    """(share, low, high) of a list of bools, by Wilson's score: it also holds near 0 and 1.

    For pictures of fixed prompts, each of noise of its own, it is a little too wide if anything: prompts differ, and
    that they do is no chance.
    """
    n, share = len(shown), float(numpy.mean(shown))
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return share, min(share, middle - half), max(share, middle + half)  # equal at 0 and 1, but for rounding


def mean(values):
    """(mean, low, high) of numbers, by the normal distribution."""
    values = numpy.asarray(values, dtype=numpy.float64)
    half = Z * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def difference(a, b, case):
    """(mean of a - b, low, high), where a[i] and b[i] are of the same prompt and noise.

    case: the number of the prompt of each. The prompts are what was drawn by lot: Student's t over the means of each,
    so that the interval is one for other prompts of this kind.
    """
    difference = numpy.asarray(a, dtype=numpy.float64) - numpy.asarray(b, dtype=numpy.float64)
    case = numpy.asarray(case)
    means = numpy.array([difference[case == number].mean() for number in numpy.unique(case)])
    if len(means) < 2:
        return float(means.mean()), -math.inf, math.inf
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(means) - 1)) * means.std(ddof=1) / math.sqrt(len(means))
    return float(means.mean()), float(means.mean() - half), float(means.mean() + half)


def beside(curve, unwanted, shown, case):
    """(mean, low, high) of how many more pictures show something than those of a curve that suppress as much.

    Between two points of the curve lies a line: pictures of the one and of the other in such shares that the unwanted
    is as frequent. That other prompts would have it less or more often than the line is in the interval, by its slope.

    Args:
        curve: [(unwanted, shown)] of each point, bools of the same prompts and noise as here.
        unwanted, shown: bools of each picture. case: see difference().

    Returns:
        None where no two points of the curve have one less and one more of the unwanted.
    """
    share, points = numpy.mean(unwanted), sorted(curve, key=lambda point: -numpy.mean(point[0]))
    for (more, shown_more), (less, shown_less) in zip(points, points[1:]):
        high, low = numpy.mean(more), numpy.mean(less)
        if low <= share <= high and low < high:
            part = (high - share) / (high - low)
            slope = (numpy.mean(shown_more) - numpy.mean(shown_less)) / (high - low)
            gained = shown - (1 - part) * shown_more - part * shown_less
            gained = gained - slope * (unwanted - (1 - part) * more - part * less)
            return difference(gained, numpy.zeros(len(gained)), case)
    return None


def jackknife(statistic, groups):
    """(value, half of the interval's width) of a statistic of some pictures, by leaving out one group after the other.

    statistic: called with a bool for each picture, whether it counts. groups: the number of each picture's group.
    For a statistic such as the Fréchet distance, that resampled pictures, some of them twice, would raise.
    """
    groups = numpy.asarray(groups)
    names = numpy.unique(groups)
    value = statistic(numpy.ones(len(groups), dtype=bool))
    without = numpy.array([statistic(groups != name) for name in names])
    spread = (len(names) - 1) / len(names) * numpy.square(without - without.mean()).sum()
    return float(value), float(stats.t.ppf(0.5 + LEVEL / 2, len(names) - 1) * math.sqrt(spread))
