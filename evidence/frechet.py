"""The Fréchet distance between two sets of pictures, in the features of a judge (Heusel et al., arXiv 1706.08500)."""
import numpy


def moments(features):
    """(mean, covariance) of (pictures, features), in float64."""
    features = numpy.asarray(features, dtype=numpy.float64)
    return features.mean(0), numpy.cov(features, rowvar=False)


def distance(a, b):
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), of two pairs of moments()."""
    (mean_a, a), (mean_b, b) = a, b
    values, vectors = numpy.linalg.eigh(a)
    root = (vectors * numpy.sqrt(values.clip(0))) @ vectors.T
    # A B and root B root have the same eigenvalues; the latter is symmetric, so that they come out real.
    between = numpy.sqrt(numpy.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return float(numpy.square(mean_a - mean_b).sum() + numpy.trace(a) + numpy.trace(b) - 2 * between)
