"""The figures of evidence/: intervals and distances against values worked out by hand, what is kept, what is tabled."""
import json
import math
import random
from xml.etree import ElementTree

import numpy
import pytest
from evidence import by_lot, frechet, intervals, raw, rows, tables, variants
from playground.worlds import WORLDS
from scipy import linalg

CASE = numpy.repeat(range(4), 4)


def pictures(unwanted, wanted, odd=0.25, distances=(1.5, 0.25, 2.5, 0.5)):
    """raw.Pictures of 16: the first so many show the unwanted, the last so many the wanted."""
    order, seen = numpy.arange(16), numpy.eye(16, 9) > 0
    return raw.Pictures(order < unwanted, order >= 16 - wanted, numpy.full(16, odd), seen, distances, 1.5)


def some_raw(**further):
    base, nag = rows.Row("student", 2).key, rows.row("student", 2).key
    run = {"command": "python -m evidence paint flux", "comfyui": "1", "torch": "2", "device": "CPU", "rows": 2,
           "seconds": 3}
    notes = {"cases": [["a circle", "red"]] * 4, "facts": list("abcdefghi"), "runs": [run]}
    seeds = numpy.arange(16) + 70_000
    return raw.Raw(CASE, seeds, {base: pictures(12, 16), nag: pictures(4, 8), **further}, notes)


# ---------------------------------------------------------------- intervals
@pytest.mark.parametrize(("shown", "of", "expected"), [
    (10, 100, (0.1, 0.05523, 0.17437)),  # as in tables of Wilson's interval
    (0, 10, (0.0, 0.0, 0.27753)),
    (10, 10, (1.0, 0.72247, 1.0)),
    (384, 384, (1.0, 0.99010, 1.0)),
])
def test_proportions(shown, of, expected):
    share, low, high = intervals.proportion([True] * shown + [False] * (of - shown))
    assert (share, low, high) == pytest.approx(expected, abs=1e-5) and low <= share <= high


def flags(*cases):
    """A bool for each of 16 pictures: so many of each of the four prompts are true."""
    return numpy.concatenate([numpy.arange(4) < count for count in cases])


def test_beside_a_curve():
    """At half of the unwanted the curve has 3/4 of the wanted; its slope is 1/2 there."""
    curve = [(flags(4, 4, 4, 4), flags(4, 4, 4, 4)), (flags(0, 0, 0, 0), flags(2, 2, 2, 2))]
    unwanted, wanted = flags(2, 2, 2, 2), flags(4, 4, 4, 4)
    assert intervals.beside(curve, unwanted, wanted, CASE) == pytest.approx((0.25, 0.25, 0.25))
    assert intervals.beside(curve[::-1], unwanted, flags(3, 3, 3, 3), CASE) == pytest.approx((0, 0, 0))
    # that prompts differ in the unwanted widens it: by 1/2 of 1, 1/3, -1/3, -1 quarters and so on
    value, low, high = intervals.beside(curve, flags(4, 3, 1, 0), flags(3, 3, 3, 3), CASE)
    half = 3.18245 * math.sqrt((0.25**2 + 0.125**2) * 2 / 3) / 2
    assert (value, low, high) == pytest.approx((0, -half, half), abs=1e-5)
    assert intervals.beside(curve[:1], unwanted, wanted, CASE) is None, "no two points"


def test_means():
    assert intervals.mean([1, 2, 3, 4]) == pytest.approx((2.5, 2.5 - 1.26517, 2.5 + 1.26517), abs=1e-4)


def test_differences_go_by_the_prompts():
    """Two prompts, whose means differ by 1/2 and by 1: Student's t of one degree of freedom is 12.7062."""
    a, b, case = [1, 1, 1, 1], [1, 0, 0, 0], [7, 7, 3, 3]
    half = 12.7062 * math.sqrt(0.125 / 2)
    assert intervals.difference(a, b, case) == pytest.approx((0.75, 0.75 - half, 0.75 + half), abs=1e-3)
    many = intervals.difference(a * 50, b * 50, case * 50)
    assert many == pytest.approx((0.75, 0.75 - half, 0.75 + half), abs=1e-3), "more seeds are no more prompts"


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = numpy.random.default_rng(0).normal(size=12)
    value, half = intervals.jackknife(lambda kept: values[kept].mean(), range(12))
    assert (value, half) == pytest.approx((values.mean(), 2.20099 * values.std(ddof=1) / math.sqrt(12)), rel=1e-4)


def test_the_jackknife_leaves_out_groups():
    kept = []
    intervals.jackknife(lambda mask: kept.append(mask.tolist()) or 0.0, [5, 5, 9])
    assert kept == [[True] * 3, [False, False, True], [True, True, False]]


# ---------------------------------------------------------------- the distance
def test_distance_of_axes():
    """|1 2|^2 + (3 - 1)^2 + (2 - 5)^2, turned or not."""
    a, b = (numpy.zeros(2), numpy.diag([9.0, 4.0])), (numpy.array([1.0, 2.0]), numpy.diag([1.0, 25.0]))
    turn = numpy.array([[0.6, -0.8], [0.8, 0.6]])
    turned = [(turn @ mean, turn @ covariance @ turn.T) for mean, covariance in (a, b)]
    assert frechet.distance(a, b) == pytest.approx(5 + 4 + 9)
    assert frechet.distance(*turned) == pytest.approx(5 + 4 + 9)
    assert frechet.distance(a, a) == pytest.approx(0, abs=1e-9)


def test_distance_of_others():
    a, b = (frechet.moments(numpy.random.default_rng(seed).normal(size=(40, 6)) * range(1, 7)) for seed in (0, 1))
    root = linalg.sqrtm(a[1] @ b[1]).real
    expected = numpy.square(a[0] - b[0]).sum() + numpy.trace(a[1] + b[1] - 2 * root)
    assert frechet.distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_moments():
    mean, covariance = frechet.moments([[0, 0], [2, 4]])
    assert mean.tolist() == [1, 2] and covariance.tolist() == [[2, 4], [4, 8]]


# ---------------------------------------------------------------- what is kept
def test_what_is_kept_comes_back(tmp_path):
    kept = some_raw()
    kept.save(tmp_path / "flux.npz")
    found = raw.Raw.load(tmp_path / "flux.npz")
    assert found.notes == kept.notes and list(found.rows) == list(kept.rows)
    assert found.case.tolist() == kept.case.tolist() and found.seed.tolist() == kept.seed.tolist()
    for key, row in kept.rows.items():
        for name in ("unwanted", "wanted", "seen", "odd", "right"):
            assert numpy.array_equal(getattr(found.rows[key], name), getattr(row, name)), name
        assert (found.rows[key].distances, found.rows[key].seconds) == (row.distances, row.seconds)


def test_rows_of_a_later_run_replace_those_before():
    before, later = some_raw(), some_raw(more=pictures(1, 2))
    nag = rows.row("student", 2).key
    later.rows = {key: later.rows[key] for key in (nag, "more")}
    both = later.onto(before)
    assert len(both.rows) == 3 and both.rows[nag] is later.rows[nag] and len(both.notes["runs"]) == 2
    assert len(before.rows) == len(later.rows) == 2 and later.onto(None) is later


@pytest.mark.parametrize("change", [
    lambda other: other.seed.__iadd__(1),
    lambda other: other.notes["cases"].pop(),
    lambda other: other.notes["facts"].pop(),
])
def test_other_pictures_do_not_mix(change):
    kept, other = some_raw(), some_raw()
    change(other)
    with pytest.raises(ValueError, match="begin a new file"):
        kept.onto(other)


# ---------------------------------------------------------------- rows
@pytest.mark.parametrize("model", rows.MODELS)
def test_each_row_has_a_name_of_its_own(model):
    found = rows.all_rows(model, ("orthogonal",))
    assert len({row.key for row in found}) == len(found) > 60
    assert any(row.pag for row in found) == (model == "unet")
    assert any(("image_stream", "separate") in (row.nag or ()) for row in found) == (model in ("flux", "emoji"))
    assert {row.variant for row in found} == {"", *variants.VARIANTS} - (
        {rows.SHARE} if model in ("unet", "wan") else set())


def test_rows_of_some_tables():
    found = rows.all_rows("unet", titles=("Few", "PAG"))
    assert {row.steps for row in found} == {1, 2, 4, 20} and all(row.variant == "" for row in found)
    assert found[:24] == rows.all_rows("unet", titles=("Few",)) and len(found) == 35


def test_curves_beside_the_dial_begin_with_base_and_rise():
    for block in rows.token_wise("flux").blocks:
        dial, alphas = block.beside
        assert dial[0].nag is alphas[0].nag is None
        assert [dict(row.nag).get("strength", 1) for row in dial[1:]] == [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
        assert [dict(row.nag)["nag_alpha"] for row in alphas[1:]] == sorted(rows.SWEEPS["nag_alpha"])
        assert set(dial) < set(block.rows.values())


def test_other_equations_come_by_their_names_alone():
    plain, further = rows.all_rows("sd3"), rows.all_rows("sd3", ("orthogonal", "vsf"))
    new = [dict(row.nag)["equation"] for row in further if row not in plain]
    assert set(new) == {"orthogonal", "vsf"} and min(new.count(name) for name in set(new)) > 3
    assert "Other equations" in [table.title for table in rows.tables("sd3", ("vsf",))]


@pytest.mark.parametrize("world", WORLDS.values(), ids=list(WORLDS))
def test_prompts_by_lot_are_new_and_leave_the_unwanted_to_habit(world):
    found = by_lot.cases(world, 16)
    texts = [(world.describe(case.scene), case.negative) for case in found]
    assert len(set(texts)) == 16 and not set(found) & set(world.CASES)
    assert by_lot.cases(world, 4) == found[:4]
    rng = random.Random(1)
    for case in found:
        shown = [world.hints(world.facts(world.complete(case.scene, rng)), case.negative) for _ in range(200)]
        assert 0.3 < sum(shown) / 200 < 0.95 and world.words_of(case.negative)


@pytest.mark.parametrize(("model", "by_share"), [("flux", True), ("unet", False)])
def test_rows_of_prompts_by_lot(model, by_share):
    """Equations and the dial in few steps, and what is compared with the dial."""
    found = rows.all_rows(model, ("vsf",), by_lot=True)
    assert {(row.weights, row.steps) for row in found} == {("student", 2), ("student", 4), ("teacher", 4)}
    assert {row.variant for row in found} == {"", rows.SHARE} if by_share else {""}
    assert {dict(row.nag or ()).get("vsf_offset", 0) for row in found} == {0, *rows.OFFSETS}
    (table,) = rows.tables(model, ("vsf",), by_lot=True)
    for block in table.blocks:
        assert len({(row.weights, row.steps) for row in (*block.rows.values(), *sum(block.beside, ()))}) == 1


# ---------------------------------------------------------------- tables
def test_a_line_of_a_table():
    kept = some_raw()
    first, nag = kept.rows.values()
    line = tables.cells("NAG", kept, nag, first)
    assert line[:4] == ["NAG", "25.0 (10.2 to 49.5)", "50.0 (28.0 to 72.0)", "50.0 (28.0 to 72.0)"]
    # prompt by prompt the unwanted falls by 0, 1, 1, 0: a mean of 1/2, a deviation of 1/sqrt(3), 3.1824 of it over 2
    assert line[4:7] == ["-50.0 ±91.9", "-50.0 ±91.9", "+25.0 ±79.6"]
    assert line[7:] == ["", "25.0 (25.0 to 25.0)", "1.50 ±0.25", "2.50 ±0.50"]
    assert tables.cells("base", kept, first, first)[4:7] == ["", "", ""]
    # by -1/2, 0, 1/2, 0 from the line between the two, whose slope is 1: a deviation of 1/sqrt(6)
    assert tables.cells("new", kept, pictures(8, 12), first, [[first], [first, nag]])[7] == "+0.0 ±65.0"
    assert tables.cells("NAG", kept, nag, first, [[first, nag]])[7] == "", "it is of the curve"
    assert tables.distance(183.79, 31.93) == "184 ±32" and tables.distance(18.379, 3.193) == "18.4 ±3.2"


def test_a_block_that_says_nothing_new_is_left_out():
    kept, shown = some_raw(), set()
    (block,) = rows.token_wise("flux").blocks
    assert tables.of_blocks(kept, [block, block], shown)[0] == "Student, 2 steps, swept:"
    assert shown == set(kept.rows) and not tables.of_blocks(kept, [block], shown)
    added = some_raw(**{rows.row("student", 2, variant="by angle").key: pictures(8, 12)})
    (line,) = [line for line in tables.of_blocks(added, [block], shown) if line.startswith("| by angle")]
    assert line.startswith("| by angle, strength 1 | 50.0") and "+0.0 ±65.0" in line


def test_results_begin_with_what_is_written_by_hand(tmp_path):
    import argparse

    kept = some_raw()
    kept.save(tmp_path / "flux.npz")
    (tmp_path / raw.BY_LOT).mkdir()
    some_raw(**{rows.row("teacher", 4).key: pictures(1, 2)}).save(tmp_path / raw.BY_LOT / "sd3.npz")
    (tmp_path / "cost.json").write_text(json.dumps({"about": "here", "models": {"flux": {"NAG": [1, 1.25, 1.5]}}}))
    options = argparse.Namespace(raw=tmp_path, out=tmp_path / "RESULTS.md")
    tables.main(options)
    text = options.out.read_text(encoding="utf-8")
    assert text.index(tables.FIRST.read_text(encoding="utf-8").strip()) < text.index("## flux")
    assert "4 prompts x 4 seeds = 16 pictures a row" in text
    assert "| NAG | 25.0 (10.2 to 49.5) |" in text and "| NAG | 1.25 (1.00 to 1.50) |" in text
    assert "\n## sd3" not in text, "nothing is known of it"
    assert "### sd3, prompts drawn by lot" in text and "Teacher, 4 steps, swept:" in text
    tables.main(options)
    assert options.out.read_text(encoding="utf-8") == text


def test_the_best_of_a_sweep():
    cfg, nag = rows.Row("student", 2, 4.0), rows.row("student", 2, nag_tau=1.5)
    line = tables.glance({"sd3": some_raw(**{nag.key: pictures(1, 15), cfg.key: pictures(16, 16)})})[-1]
    assert line == "| sd3 | 25.0 (75 / 100) | 50.0 (25 / 50) | 0.0 (100 / 100), cfg 4 | 93.8 (6 / 94), nag_tau 1.5 |"


def test_equations_are_found_by_what_is_kept():
    kept = some_raw(**{row.key: pictures(1, 1) for row in rows.all_rows("flux", ("vsf", "orthogonal"))})
    assert set(tables.equations_in(kept)) == {"vsf", "orthogonal"}


# ---------------------------------------------------------------- figures
@pytest.mark.parametrize(("further", "added", "drawn"), [
    ([], [], {"curves", "fidelity", "ablation", "few_steps"}),
    ([("student", 4), ("teacher", 4), ("teacher", 20)],
     [rows.row("student", 2, equation="vsf", nag_scale=2.0), rows.row("student", 2, variant="by angle")],
     set(tables.FIGURES)),
])
def test_figures(tmp_path, further, added, drawn):
    """With what is kept of one model, and little of it; and none is drawn of which nothing is known."""
    pytest.importorskip("matplotlib")
    import argparse

    from evidence import figures

    kept = {row.key: pictures(2, 3) for row in (
        rows.ablation_curves()["no cap, nag_scale"][3.0], *added, *(rows.Row(*each) for each in further))}
    some_raw(**kept).save(tmp_path / "flux.npz")
    if added:
        (tmp_path / raw.BY_LOT).mkdir()
        some_raw(**kept).save(tmp_path / raw.BY_LOT / "flux.npz")
    figures.main(argparse.Namespace(raw=tmp_path, out=tmp_path / "figures", format="svg"))
    found = {path.stem: path.read_text(encoding="utf-8") for path in (tmp_path / "figures").iterdir()}
    assert set(found) == drawn
    assert "NAG, auto" in found["curves"] and "2 steps" in found["few_steps"]
    for svg in found.values():
        assert "flux" in "".join(ElementTree.fromstring(svg).itertext()) and "<metadata>" not in svg
