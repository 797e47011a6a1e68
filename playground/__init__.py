"""A tiny trained Flux-class model of coloured shapes: for the demo and the tests, not for art."""
