"""One run of a sampler: how NAG gets into it, whose rows are guided and by what, and what was seen of it."""
