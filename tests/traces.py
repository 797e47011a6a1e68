"""What a run could leave a trace in."""
import torch

OF_COSMOS = ("affline_scale_log_info", "affline_emb", "crossattn_emb")  # which its forward() leaves on it at each call


class Failure(Exception):
    """Raised inside the model."""


def contents(value):
    """Something that is equal as long as nothing in the value is added, removed, replaced or changed."""
    if isinstance(value, dict):
        return {key: contents(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [contents(item) for item in value]
    if torch.is_tensor(value):
        return id(value), value.clone().tolist()
    return id(value)


def state_of_modules(model):
    """Attributes and hooks of every module."""
    state = {}
    for name, module in model.named_modules():
        state[name] = type(module), {
            key: contents(value) if key.endswith("_hooks") else id(value)
            for key, value in vars(module).items()
            if key not in OF_COSMOS
        }
    return state


def state_of_patcher(patcher):
    names = ("model_options", "wrappers", "callbacks", "patches", "object_patches", "attachments", "injections")
    return {name: contents(getattr(patcher, name)) for name in names}


class Everything:
    """All that a run could leave a trace in, as it is now."""

    def __init__(self, patcher, *conditionings):
        self.patcher, self.conditionings = patcher, conditionings
        self.before = self.state()

    def state(self):
        return (
            state_of_modules(self.patcher.model.diffusion_model),
            state_of_patcher(self.patcher),
            contents(self.conditionings),
        )

    def is_as_before(self):
        return self.state() == self.before
