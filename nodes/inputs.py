"""The inputs that NAG nodes share, with their tooltips."""
from comfy_api.latest import io

from ..patches.settings import RANGES, Options, Settings

AUTO = "auto"
# Of a schema: the id by which the editor knows a node, and that ComfyUI's cache tells it from one with the same inputs.
OWN_NAME = {"hidden": [io.Hidden.unique_id], "not_idempotent": True}
NagOptions = io.Custom("NAG_OPTIONS")
STOPS = "Not connected: NAG stops where that is recommended for the model, see this node's help."

_TOOLTIPS = {
    "nag_scale": "How far the attention is moved away from the negative. 1 is off; more is stronger; below 1 it moves "
    "towards the negative.",
    "nag_tau": "How large the moved features may grow, as a multiple of the positive's. Lower is tamer.",
    "nag_alpha": "How much of the moved features goes into the result. 0 is off, 1 takes them whole.",
    "nag_sigma_end": "NAG acts while sigma is at least this. 0: until the end. More: it stops early, which is faster.",
}


def strength_inputs() -> list[io.Input]:
    """nag_scale, nag_tau and nag_alpha, each a number or "auto"."""
    return [
        io.MultiType.Input(
            io.String.Input(
                name,
                default=AUTO,
                optional=True,
                tooltip=f"{_TOOLTIPS[name]} {AUTO}: what suits the model, see this node's help; the recommended "
                "settings below have those of variants, too. Or a number from {:g} to {:g}.".format(*RANGES[name]),
            ),
            types=[io.Float, io.Int],
        )
        for name in ("nag_scale", "nag_tau", "nag_alpha")
    ]


def number_input(name: str, default: float, step: float = 0.01) -> io.Input:
    """One of the settings as a plain number, as in the nodes of ComfyUI-NAG."""
    low, high = RANGES[name]
    return io.Float.Input(name, default=default, min=low, max=high, step=step, round=0.01, tooltip=_TOOLTIPS[name])


def negative_input(otherwise: str | None = None) -> io.Input:
    """NAG's negative, which must be there unless there is another to take its place."""
    tooltip = "What NAG moves the picture away from."
    if otherwise is None:
        return io.Conditioning.Input("nag_negative", tooltip=tooltip)
    return io.Conditioning.Input("nag_negative", optional=True, tooltip=f"{tooltip} Not connected: {otherwise}.")


def options_input(otherwise: str = "") -> io.Input:
    """otherwise: what holds where it is not connected, a sentence."""
    what = "From NAG Options: when NAG acts, how Flux computes its image stream, and statistics."
    return NagOptions.Input("options", optional=True, tooltip=f"{what} {otherwise}".rstrip())


def unused_latent_input() -> io.Input:
    return io.Latent.Input(
        "latent_image", optional=True, tooltip="Not needed. It is here so that graphs made with ComfyUI-NAG still load."
    )


def settings(
    nag_scale: float | str | None = AUTO,
    nag_tau: float | str | None = AUTO,
    nag_alpha: float | str | None = AUTO,
    nag_sigma_end: float | None = None,
    options: Options | None = None,
) -> Settings:
    """The settings that widgets stand for. None is "auto", too: before a prompt runs, ComfyUI has it for every value
    that another node is to bring. Without nag_sigma_end and options NAG stops where that is recommended.

    Raises:
        ValueError: a value is neither a number nor "auto", or out of range; the options are not of NAG Options.
    """
    if options is None:
        options = Options()
    elif nag_sigma_end is None:
        nag_sigma_end = 0.0
    if not isinstance(options, Options):
        raise ValueError(f"options must come from a NAG Options node, and is {options!r}.")
    return Settings(
        nag_scale=_number("nag_scale", nag_scale),
        nag_tau=_number("nag_tau", nag_tau),
        nag_alpha=_number("nag_alpha", nag_alpha),
        nag_sigma_end=nag_sigma_end,
        options=options,
    )


def _number(name, value):
    if value is None or isinstance(value, str) and value.strip().lower() == AUTO:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is a tensor's
        raise ValueError(f'{name} must be a number or "{AUTO}", not {value!r}.') from None


def number_inputs() -> list[io.Input]:
    """The strength as ComfyUI-NAG's nodes have it: four plain numbers."""
    return [
        number_input("nag_scale", 5.0, step=0.1),
        number_input("nag_tau", 2.5, step=0.1),
        number_input("nag_alpha", 0.25),
        number_input("nag_sigma_end", 0.0),
    ]


def cfg_input(default: float = 1.0) -> io.Input:
    return io.Float.Input(
        "cfg",
        default=default,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip="Classifier-free guidance beside NAG. 1 is off, and half the work.",
    )
