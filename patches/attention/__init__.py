"""Attention over two prompts and one image: the override, its masks, and attention that tells its log-sum-exps."""
