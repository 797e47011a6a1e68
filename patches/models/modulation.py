"""Hooks that more than one family needs."""
import torch


class PooledShift:
    """A forward hook on the module that embeds the pooled vector.

    After its call, `value`, (rows, features), is by how much the negative's embedding differs from the positive's:
    what has to be added to the modulation vector of the positive to get the negative's.
    """

    def __init__(self, pooled: torch.Tensor):
        self.pooled, self.value = pooled, None

    def __call__(self, module, args, embedded):
        # forward() itself, since calling the module would call this hook again.
        self.value = module.forward(self.pooled.to(args[0])) - embedded

    def both_vectors(self, module, args):
        """A hook in front of a modulation layer: (rows, 2, features), of the positive and the negative."""
        return (torch.stack((args[0], args[0] + self.value), 1),)
