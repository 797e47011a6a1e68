"""What is painted: rows of pictures that differ in nothing but how they are guided, and the tables that they stand in.

To try something else, add a line here; painting, tables and figures go by these lists alone.
"""
from dataclasses import dataclass

MODELS = ("flux", "sd3", "unet", "wan", "emoji")
WITH_PAG = ("unet",)  # ComfyUI's PerturbedAttentionGuidance perturbs a UNet's middle block
WITH_TWO_STREAMS = ("flux", "emoji")
BY_CROSS_ATTENTION = ("unet", "wan")  # to the text alone; the others attend to text and image at once
CFG, PAG = 3.0, 3.0
FEW, MANY = (1, 2, 4), 20
ABLATED = 2  # steps of the student in which the equation is taken apart
FEW_STEPS = (("student", ABLATED), ("student", FEW[-1]), ("teacher", FEW[-1]))  # where equations are compared
CFGS = (1.25, 1.5, 2.0, 3.0, 4.0)
SWEEPS = {
    "nag_scale": (1.5, 2.0, 3.0, 5.0, 8.0, 11.0, 16.0, 24.0),
    "nag_tau": (1.0, 1.25, 1.5, 2.0, 2.5, 3.5, 6.0),
    "nag_alpha": (0.0625, 0.125, 0.25, 0.35, 0.5, 0.75, 1.0),
    "strength": (0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.0),
}
LARGE, SMALL = (1.5, 2.0, 3.0, 5.0, 8.0, 16.0), (1.1, 1.25, 1.5, 2.0, 3.0, 5.0)
ABLATIONS = {  # settings of each, and the nag_scales at which it is tried: unblended, little is much
    "no cap": ({"variant": "no cap"}, LARGE),
    "no blend": ({"nag_alpha": 1.0}, SMALL),
    "neither": ({"variant": "no cap", "nag_alpha": 1.0}, SMALL),
    "L2 for L1": ({"variant": "L2"}, LARGE),
}
SHARE = "by share of attention"
TOKEN_WISE = ("by angle", "by root of angle", "by difference", "against difference", SHARE)
SCALES_OF = {name: (1.25, 1.5, 2.0, 3.0, 5.0) for name in ("vsf", "nasa")}  # nag_scales; auto is 1.25 or 2
OFFSETS = {1.0: (1.75, 2.5, 4.0), 3.0: (6.0, 11.0, 21.0)}  # vsf_offset, nag_scales: s e^-offset is about 1/4, 1/2 and 1
STRONG = 2.0  # the dial at its end: what the cap and the blend are for shows where NAG is pushed
STRONG_TAU = f"nag_tau at strength {STRONG:g}"


@dataclass(frozen=True)
class Row:
    """How a row of pictures is painted, by euler and the simple schedule.

    Args:
        weights: "student" or "teacher".
        steps: of the sampler.
        cfg: 1 is without CFG.
        nag: settings of NAG Model and NAG Options by name, as pairs; None: without NAG. Others are "auto" or default.
        pag: scale of ComfyUI's PerturbedAttentionGuidance; 0: without.
        variant: of the equation, by its name in variants.py; "" is what the pack ships.
    """

    weights: str
    steps: int
    cfg: float = 1.0
    nag: tuple[tuple[str, object], ...] | None = None
    pag: float = 0.0
    variant: str = ""

    @property
    def key(self):
        """Its name in the file of results."""
        nag = self.nag is not None and " ".join(["nag", *(f"{name}={value}" for name, value in self.nag)])
        parts = (_title(self.weights, self.steps).lower(), self.cfg != 1 and f"cfg {self.cfg:g}", nag,
                 self.pag and f"pag {self.pag:g}", self.variant)
        return ", ".join(part for part in parts if part)


def row(weights, steps, cfg=1.0, pag=0.0, variant="", **nag):
    """A Row with NAG, of these settings."""
    return Row(weights, steps, cfg, tuple(sorted(nag.items())), pag, variant)


@dataclass(frozen=True)
class Block:
    """Rows of one table that are compared with its first.

    Args:
        title: of the block. rows: by their labels.
        beside: curves, each its rows from the weakest on; at equal suppression each row is compared with the first that
            reaches as far.
    """

    title: str
    rows: dict[str, Row]
    beside: tuple[tuple[Row, ...], ...] = ()


@dataclass(frozen=True)
class Table:
    title: str
    blocks: tuple[Block, ...]


def tables(model, equations=(), by_lot=False):
    """The tables of a model.

    equations: those that NAG Options offers beside the paper's. by_lot: those of prompts drawn by lot.
    """
    if by_lot:
        return (prompts_by_lot(model, equations),)
    found = (few_steps(model), many_steps(model), ablation(model), sweeps(model), early_stopping(model),
             image_streams(model), other_equations(model, equations), token_wise(model))
    return tuple(table for table in found if table.blocks)


def all_rows(model, equations=(), titles=("",), by_lot=False):
    """Each Row that a table of the model asks for, once. titles: parts of titles, of the tables that count."""
    asked = [table for table in tables(model, equations, by_lot) if any(title in table.title for title in titles)]
    return list(dict.fromkeys(row for table in asked for block in table.blocks for row in block.rows.values()))


# ---------------------------------------------------------------- the tables
def few_steps(model):
    return Table("Few steps, alone", tuple(
        Block(_title(weights, steps), {
            "base": Row(weights, steps),
            "CFG 2": Row(weights, steps, 2.0),
            "CFG 3": Row(weights, steps, 3.0),
            "NAG": row(weights, steps),
        })
        for weights in ("student", "teacher") for steps in FEW))


def many_steps(model):
    rows = {
        "base": Row("teacher", MANY),
        "NAG": row("teacher", MANY),
        f"CFG {CFG:g}": Row("teacher", MANY, CFG),
        f"CFG {CFG:g} + NAG": row("teacher", MANY, CFG),
        "CFG 2": Row("teacher", MANY, 2.0),
        "CFG 2 + NAG": row("teacher", MANY, 2.0),
        f"CFG {CFG:g} + NAG at half strength": row("teacher", MANY, CFG, strength=0.5),
    }
    if model in WITH_PAG:
        rows |= {
            f"PAG {PAG:g}": Row("teacher", MANY, pag=PAG),
            f"PAG {PAG:g} + NAG": row("teacher", MANY, pag=PAG),
            f"CFG {CFG:g} + PAG {PAG:g}": Row("teacher", MANY, CFG, pag=PAG),
            f"CFG {CFG:g} + PAG {PAG:g} + NAG": row("teacher", MANY, CFG, PAG),
        }
    return Table("Many steps, with CFG and with PAG", (Block(_title("teacher", MANY), rows),))


def ablation(model):
    settings = {"as recommended": {}, f"at strength {STRONG:g}": {"strength": STRONG}}
    parts = {"NAG": {}} | {name: changes for name, (changes, _) in ABLATIONS.items()}
    return Table("Ablation", tuple(
        Block(f"{_title('student', ABLATED)}, {name}",
              {"base": Row("student", ABLATED)} | {
                  part: row("student", ABLATED, **strength, **changes) for part, changes in parts.items()})
        for name, strength in settings.items()))


def sweeps(model):
    swept = labelled(curves_of(model) | ablation_curves())
    return Table("Sweeps", (Block(_title("student", ABLATED), {"base": Row("student", ABLATED)} | swept),))


def early_stopping(model):
    ranges = {"all the way": {}, "until 0.25": {"end_percent": 0.25}, "until 0.5": {"end_percent": 0.5},
              "from 0.25 on": {"start_percent": 0.25}, "from 0.5 on": {"start_percent": 0.5}}
    return Table("Early stopping", tuple(
        Block(_title(weights, steps), {"base": Row(weights, steps)} | {
            name: row(weights, steps, **when) for name, when in ranges.items()})
        for weights, steps in (("student", FEW[-1]), ("teacher", MANY))))


def image_streams(model):
    if model not in WITH_TWO_STREAMS:
        return Table("Image stream", ())
    return Table("Image stream", tuple(
        Block(_title(weights, steps), {
            "base": Row(weights, steps),
            "shared": row(weights, steps),
            "separate": row(weights, steps, image_stream="separate"),
        })
        for weights, steps in (("student", ABLATED), ("student", FEW[-1]), ("teacher", MANY))))


def other_equations(model, equations):
    """In few steps, at the number that is recommended for NAG; swept, in the student's two."""
    fixed = tuple(
        Block(_title(*painter), {"base": Row(*painter), "nag": row(*painter)} | {
            name: row(*painter, equation=name) for name in equations})
        for painter in FEW_STEPS)
    return Table("Other equations", (*fixed, beside_the_dial(equation_curves(equations))) if equations else ())


def token_wise(model):
    return Table("Token-wise strength", (beside_the_dial(token_wise_curves(model, TOKEN_WISE)),))


def prompts_by_lot(model, equations):
    """What was chosen by the other tables, tried on prompts that had no part in it."""
    curves = lambda *painter: {"nag_alpha": sweep("nag_alpha", *painter), **equation_curves(equations, *painter),
                               **token_wise_curves(model, (SHARE,), *painter)}
    return Table("Prompts drawn by lot", tuple(beside_the_dial(curves(*painter), *painter) for painter in FEW_STEPS))


def beside_the_dial(curves, weights="student", steps=ABLATED):
    """A block of curves, beside what NAG does over its dial and, farther, with more of nag_alpha."""
    base, nag, alphas = Row(weights, steps), dial(weights, steps), sweep("nag_alpha", weights, steps)
    return Block(f"{_title(weights, steps)}, swept", {"base": base} | labelled({"nag, strength": nag} | curves),
                 ((base, *nag.values()), (base, *alphas.values())))


# ---------------------------------------------------------------- curves
def curves_of(model):
    """The sweeps of the student, {name: {value: Row}}: CFG's, NAG's by each number."""
    curves = {"cfg": {cfg: Row("student", ABLATED, cfg) for cfg in CFGS}}
    curves |= {name: sweep(name) for name in SWEEPS}
    curves[STRONG_TAU] = {tau: row("student", ABLATED, nag_tau=tau, strength=STRONG) for tau in SWEEPS["nag_tau"]}
    return curves


def sweep(name, weights="student", steps=ABLATED):
    """One of NAG's numbers turned, {value: Row}."""
    return {value: row(weights, steps, **{name: value}) for value in SWEEPS[name]}


def dial(weights="student", steps=ABLATED, **changes):
    """The dial turned, {strength: Row}; at 1 as recommended."""
    return {value: row(weights, steps, **changes, **({"strength": value} if value != 1 else {}))
            for value in sorted((1.0, *SWEEPS["strength"]))}


def equation_curves(equations, weights="student", steps=ABLATED):
    """Other equations, by the dial or by SCALES_OF, and vsf with its OFFSETS, {name: {value: Row}}."""
    scaled = {name: {scale: row(weights, steps, equation=name, nag_scale=scale) for scale in scales}
              for name, scales in SCALES_OF.items()}
    curves = {f"{name}, nag_scale" if name in scaled else f"{name}, strength":
              scaled.get(name) or dial(weights, steps, equation=name) for name in equations}
    if "vsf" in equations:
        curves |= {f"vsf, vsf_offset {offset:g}, nag_scale": {
            scale: row(weights, steps, equation="vsf", nag_scale=scale, vsf_offset=offset) for scale in scales}
            for offset, scales in OFFSETS.items()}
    return curves


def token_wise_curves(model, measures, weights="student", steps=ABLATED):
    """nag_alpha weighted token by token, by what variants.py measures there, {name: {strength: Row}}."""
    return {f"{name}, strength": dial(weights, steps, variant=name) for name in measures
            if name != SHARE or model not in BY_CROSS_ATTENTION}


def labelled(curves):
    """The rows of curves, each by its curve's name and its value."""
    return {f"{name} {value:g}": row for name, curve in curves.items() for value, row in curve.items()}


def ablation_curves():
    """The student with parts of the equation left out, {name: {nag_scale: Row}}."""
    return {f"{name}, nag_scale": {scale: row("student", ABLATED, nag_scale=scale, **changes) for scale in scales}
            for name, (changes, scales) in ABLATIONS.items()}


def _title(weights, steps):
    return f"{weights.capitalize()}, {steps} step{'s' * (steps > 1)}"


