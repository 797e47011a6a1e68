"""What the tests call of the pack: its nodes, of which the fixture `nodes` has the classes."""


def out(node, *inputs, **more):
    """The single output of a node."""
    return node.execute(*inputs, **more).result[0]


def strength(nag):
    """The inputs of a node that stand for a Nag's numbers."""
    return {"nag_scale": nag.scale, "nag_tau": nag.tau, "nag_alpha": nag.alpha}


def options(nodes, nag, **more):
    given = (nag.start_percent, nag.end_percent, nag.image_stream)
    more = {"modality": nag.modality, "equation": nag.equation, "vsf_offset": nag.offset, **more}
    return out(nodes.NAGOptions, *given, **more)


def model_node(nodes, patcher, nag, **inputs):
    return out(nodes.NAGModel, patcher, **strength(nag), **{"options": options(nodes, nag)} | inputs)


def conditioning_node(nodes, positive, nag, **inputs):
    given = {"options": options(nodes, nag)} | inputs
    return out(nodes.NAGConditioning, positive, nag.negative, **strength(nag), **given)
