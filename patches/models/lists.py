"""The lists of a model that hold its blocks."""
import torch


def holder(model: torch.nn.Module, path: str) -> torch.nn.Module | None:
    """The module of a model's that has a list, or would have it."""
    for name in path.split(".")[:-1]:
        model = getattr(model, name, None)
    return model


def listed(model: torch.nn.Module, path: str) -> list[torch.nn.Module]:
    """The modules in a list, or a dict, of a model's; none where it has no such."""
    found = getattr(holder(model, path), path.rpartition(".")[2], None)
    return [] if found is None else [*found._modules.values()]


def put(blocks: list[torch.nn.Module], model: torch.nn.Module, path: str) -> None:
    """Put blocks into a list, or a dict, in the place of those that others may have put there.

    Args:
        model: a copy; of what lies on the way to the list, it gets copies.
    """
    *way, name = path.split(".")
    for each in way:
        model._modules[each] = copied(model._modules[each])
        model = model._modules[each]
    theirs = model._modules[name]
    named = isinstance(theirs, torch.nn.ModuleDict)
    model._modules[name] = torch.nn.ModuleDict(zip(theirs, blocks)) if named else torch.nn.ModuleList(blocks)


def copied(module: torch.nn.Module) -> torch.nn.Module:
    """A module with the same modules, of which others may take the place."""
    copy = torch.nn.Module.__new__(type(module))  # that of a class of FSDP's makes another, of the class it had before
    copy.__dict__.update(module.__dict__, _modules={**module._modules})
    return copy
