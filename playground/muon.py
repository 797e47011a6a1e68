"""Muon (Jordan et al., 2024), all matrices of a shape at once: few kernels, and no number that waits for the host.

torch.optim.Muon steps one matrix after another and takes its rate from the host, so that a CUDA graph would keep it.
"""
import torch

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5  # of the Newton-Schulz iteration, as published
SMALLEST = 64  # a matrix with fewer rows or columns, such as a network's first and last, is none of Muon's


def matrices(model):
    """The parameters of a Module that Muon is for: matrices, and convolutions as such, but no embeddings."""
    embeddings = {id(part.weight) for part in model.modules() if isinstance(part, torch.nn.Embedding)}
    return [p for p in model.parameters()
            if p.ndim >= 2 and id(p) not in embeddings and min(p.flatten(1).shape) >= SMALLEST]


class Muon(torch.optim.Optimizer):
    """params: matrices, or convolutions' weights. lr: a tensor or a number."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.shapes = []
        for group in self.param_groups:
            shapes = {}
            for parameter in group["params"]:
                shapes.setdefault(tuple(parameter.flatten(1).shape), []).append(parameter)
            self.shapes.append([(same, torch.zeros(len(same), *shape, device=same[0].device))
                                for shape, same in shapes.items()])

    @torch.no_grad()
    def step(self):
        for group, shapes in zip(self.param_groups, self.shapes):
            for same, average in shapes:
                gradient = torch.stack([_gradient(parameter).flatten(1) for parameter in same])
                average.lerp_(gradient, 1 - group["momentum"])
                change = orthogonal(gradient.lerp(average, group["momentum"]))
                change *= max(1, change.shape[1] / change.shape[2]) ** 0.5 * group["lr"]
                torch._foreach_mul_(same, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_sub_(same, [part.view_as(p) for part, p in zip(change, same)])


def _gradient(parameter):
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def orthogonal(x):
    """(N, rows, columns), each replaced by about the nearest matrix with orthogonal rows or columns."""
    a, b, c = COEFFICIENTS
    turned = x.shape[1] > x.shape[2]
    x = x.mT if turned else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if turned else x
