"""The inputs that NAG nodes share, with their tooltips."""
from comfy_api.latest import io

from ..patches.settings import RANGES, Options, Settings

AUTO = "auto"
# Of a schema: the id by which the editor knows a node, and that ComfyUI's cache tells it from one with the same inputs.
OWN_NAME = {"hidden": [io.Hidden.unique_id], "not_idempotent": True}
NagOptions = io.Custom("NAG_OPTIONS")
STOPS = "Not connected: NAG stops where that suits the model."

_TOOLTIPS = {
    "nag_scale": "How far the picture is moved away from the negative. 1 is off, more is stronger.",
    "nag_tau": "How large the moved features may grow. Lower is tamer.",
    "nag_alpha": "How much of the moved features goes into the picture. 0 is off.",
    "nag_sigma_end": "NAG stops once sigma is below this. 0: it acts until the end.",
}
_STEPS = {"nag_scale": 0.1, "nag_tau": 0.1, "nag_alpha": 0.01, "nag_sigma_end": 0.01}
STRENGTH = ("nag_scale", "nag_tau", "nag_alpha")
# Where nobody says what suits the model: Flux's, which most families have, and as ComfyUI-NAG's nodes begin.
_DEFAULTS = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25, "nag_sigma_end": 0.0}


class Limit(float):
    """The least or the most of a number that may be "auto" as well, for an input's min or max.

    ComfyUI compares a prompt's values with them before anything runs, and names the one input that is wrong. What a
    validate_inputs refuses it would say once for each input that was looked at.
    """

    def __gt__(self, value):
        return _lies_outside(value, lambda number: not number >= float(self))  # nan, too

    def __lt__(self, value):
        return _lies_outside(value, lambda number: not number <= float(self))

    def __format__(self, _):
        return f'{float(self):g}, and not "{AUTO}"'


def _lies_outside(value, is_outside):
    try:
        found = number("", value)
    except ValueError:
        return True
    return found is not None and is_outside(found)


def strength_inputs(*more: str) -> list[io.Input]:
    """nag_scale, nag_tau, nag_alpha, and more of the settings by name, each a number or "auto"."""
    return [
        number_or_auto(name, _DEFAULTS[name], _STEPS[name], f"{_TOOLTIPS[name]} {AUTO}: what suits the model.")
        for name in (*STRENGTH, *more)
    ]


def dial_input() -> io.Input:
    """`strength`. It comes last: a saved graph carries its widgets' values as a list."""
    return number_or_auto(
        "strength",
        1.0,
        0.05,
        "How strong NAG is on the whole: 0 is off, 1 as the numbers say, 2 the most. It turns nag_alpha first, "
        "then nag_scale.",
    )


def number_or_auto(name: str, default: float, step: float, tooltip: str, optional: bool = True) -> io.Input:
    """One of the settings. default: what the widget begins with, which on a new node stands for "auto"."""
    low, high = map(Limit, RANGES[name])
    widget = io.Float.Input(
        name, default=default, min=low, max=high, step=step, round=0.001, optional=optional, tooltip=tooltip
    )
    return io.MultiType.Input(widget, types=[io.String, io.Int])


def plain_numbers(given: dict) -> dict[str, float]:
    """The numbers of `given`, by name, for a node that knows no "auto": in its place they are Flux's."""
    numbers = {name: number(name, given.get(name)) for name in _DEFAULTS}
    return {name: _DEFAULTS[name] if number is None else number for name, number in numbers.items()}


def number_inputs() -> list[io.Input]:
    """The numbers as ComfyUI-NAG's samplers have them."""
    return [
        io.Float.Input(
            name, default=default, min=RANGES[name][0], max=RANGES[name][1], step=_STEPS[name], round=0.01,
            tooltip=_TOOLTIPS[name],
        )
        for name, default in _DEFAULTS.items()
    ]  # fmt: skip


def negative_input(otherwise: str | None = None) -> io.Input:
    """NAG's negative, which must be there unless there is another to take its place."""
    tooltip = "What NAG moves the picture away from."
    if otherwise is None:
        return io.Conditioning.Input("nag_negative", tooltip=tooltip)
    return io.Conditioning.Input("nag_negative", optional=True, tooltip=f"{tooltip} Not connected: {otherwise}.")


def options_input(otherwise: str = "") -> io.Input:
    """otherwise: what holds where it is not connected, a sentence."""
    what = "From NAG Options: when NAG acts, in which blocks, by which equation, and statistics."
    return NagOptions.Input("options", optional=True, tooltip=f"{what} {otherwise}".rstrip())


def settings(
    nag_scale: float | str | None = AUTO,
    nag_tau: float | str | None = AUTO,
    nag_alpha: float | str | None = AUTO,
    nag_sigma_end: float | str | None = AUTO,
    options: Options | None = None,
    strength: float | str | None = None,
) -> Settings:
    """The settings that widgets stand for: each a number, also as text, or "auto", which None and an empty text are,
    too. Where neither nag_sigma_end nor the options say when, NAG stops where that is recommended. "auto" as a strength
    is 1.

    Raises:
        ValueError: a value is neither a number nor "auto", or out of range; the options are not of NAG Options.
    """
    sigma_end, strength = number("nag_sigma_end", nag_sigma_end), number("strength", strength)
    options = Options() if options is None else options
    if not isinstance(options, Options):
        raise ValueError(f"options must come from a NAG Options node, and is {options!r}.")
    if sigma_end is None and options.end_percent is not None:
        sigma_end = 0.0
    return Settings(
        nag_scale=number("nag_scale", nag_scale),
        nag_tau=number("nag_tau", nag_tau),
        nag_alpha=number("nag_alpha", nag_alpha),
        nag_sigma_end=sigma_end,
        options=options,
        strength=1.0 if strength is None else strength,
    )


def options(**given) -> Options:
    """The options that the widgets of NAG Options stand for, by name. What is None or left out is as by default.

    Raises:
        ValueError: a value is out of range, or no text of its kind.
    """
    given = {name: value for name, value in given.items() if value is not None}
    given["end_percent"] = number("end_percent", given.get("end_percent"))
    strengths = given.pop("strengths", "")
    if given.get("schedule") == "list":  # else nobody may see what is wrong with it
        given["strengths"] = numbers("strengths", strengths)
    return Options(**given)


def numbers(name: str, text: str) -> tuple[float, ...]:
    """Numbers with commas between, or with semicolons, and then with a decimal comma; none of a blank text.

    Raises:
        ValueError: one of them is no number; it says so of the input of this name.
    """
    parts = text.replace(",", ".").split(";") if ";" in text else text.split(",")
    try:
        return tuple(float(part) for part in parts if part.strip())
    except ValueError:
        raise ValueError(f'{name} must be numbers with commas between, such as "1, 0.8, 0.5", not {text!r}.') from None


def number(name: str, value: float | str | None) -> float | None:
    """A number, or None for "auto". A text may have blanks around it and a decimal comma.

    Raises:
        ValueError: it is neither; it says so of the input of this name.
    """
    text = value.strip().lower() if isinstance(value, str) else None
    if value is None or text in ("", AUTO):
        return None
    try:
        return float(value if text is None else text.replace(",", ".", 1))
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is a tensor's
        raise ValueError(f'{name} must be a number or "{AUTO}", not {value!r}.') from None


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
