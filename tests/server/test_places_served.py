"""A weight in the negative's text, and a mask on it, through a real server and the playground's model."""
import numpy
import pytest
from graphs import node, painting


def pictures(client, graph):
    images = client.images(client.follow(client.submit(graph)))["picture"]
    return numpy.stack([numpy.asarray(image.convert("RGB"), dtype=float) for image in images])


def in_the_left_half(graph):
    """The same, with a mask on NAG's negative."""
    graph["nothing"] = node("SolidMask", value=0.0, width=128, height=128)
    graph["half"] = node("SolidMask", value=1.0, width=64, height=128)
    graph["mask"] = node("MaskComposite", destination=["nothing", 0], source=["half", 0], x=0, y=0, operation="add")
    graph["masked"] = node("ConditioningSetMask", conditioning=["negative", 0], mask=["mask", 0], strength=1.0,
                           set_cond_area="default")
    graph["nag"]["inputs"]["nag_negative"] = ["masked", 0]
    return graph


def by(equation):
    graph = painting(options=["options", 0])
    graph["options"] = node("NAGOptions", start_percent=0.0, end_percent="auto", image_stream="shared",
                            equation=equation)  # fmt: skip
    return graph


@pytest.mark.parametrize("equation", ["nag", "vsf", "nasa"])
def test_a_mask_on_the_negative(client, equation):
    """NAG acts in its half; in the other, what attention carries over alone."""
    plain, half, whole = (
        pictures(client, graph)
        for graph in (painting(guided=False), in_the_left_half(by(equation)), by(equation))
    )
    moved = numpy.abs(half - plain)
    left, right = moved[:, :, :64].mean(), moved[:, :, 64:].mean()
    print(f"NAG's effect: left {left:.3f}, right {right:.3f}, without a mask {numpy.abs(whole - plain).mean():.3f}")
    assert left > 3 * right
    assert left > 0.5 * numpy.abs(whole - plain)[:, :, :64].mean()


def test_a_weight_in_the_text(client):
    """ComfyUI's own (word:1.3)."""
    one, other, without = (pictures(client, painting(text)) for text in ("red", "(red:1.3)", "(red:1.0)"))
    assert (one != other).any()
    assert (one == without).all()
