"""A slow and obviously correct NAG to compare the pack with.

Nothing here comes from the pack. Everything runs in float64; each prompt's text is a stream of its own, and every
attention is written out. The models' weights, their norms, MLPs and other layers that treat tokens one by one are
ComfyUI's own; how text and image meet is not.

One file a family, with a function `forward(net, x, t, cond, negative, nag)`:
    net       the diffusion model, in float64
    x         (batch, channels, ...), its input, with the channels that some models concatenate
    t         (batch,), the timestep, in float32 as the model gets it
    cond      what else it gets, by ComfyUI's names: c_crossattn, y, guidance, ...
    negative  a Prompt, or None for the model without NAG
    nag       a Nag, the settings
It returns what the model would.
"""
