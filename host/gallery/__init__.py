"""The shipped workflows, painted with and without NAG on the same seeds, by who has their models."""
