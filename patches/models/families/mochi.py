"""Mochi 1."""
import dataclasses

from torch.nn.functional import silu

from ..doors import Door, Doors
from ..modulation import Branch, DoneOver
from ..transformer import NOBODYS, Transformer

EPSILON = 1e-6


def _normed(tokens):
    from comfy.ldm.common_dit import rms_norm

    return rms_norm(tokens, eps=EPSILON)


def _branch(entrance, end, scale, out=None):
    """scale: where the modulation has what the tokens are scaled by, and then what they are gated by."""
    modulated = lambda block, tokens, modulation: _normed(tokens) * (1 + modulation[scale])
    added = lambda tokens, z, modulation: tokens + _normed(z) * modulation[scale + 1].tanh()
    return Branch(entrance, end, modulated, added, out=out)


ATTENTION, MLP = _branch("attn.qkv_y", "attn", 0, out=1), _branch("mlp_y", "mlp_y", 2)
LAST = dataclasses.replace(ATTENTION, added=lambda tokens, z, modulation: tokens)  # which makes nothing of the text


def _within(visit, call, model):
    made = DoneOver(visit, "y", 1, "mod_y", 4, (ATTENTION, MLP), silu)
    last = DoneOver(visit, "y", 1, "mod_y", 1, (LAST,), silu)
    return lambda block: (made if block.update_y else last).hooks(block)


# What modulates text and image is pooled by the model itself, of the text.
MOCHI_1 = Transformer(
    families={"Mochi": NOBODYS},
    text_encoder="T5-XXL (CLIPLoader, type mochi)",
    needed=("comfy.ldm.common_dit:rms_norm",),
    parts=("attn.qkv_y", "mod_y", "mlp_y"),
    doors=Doors(
        (Door("blocks", text="y", out=1, attended="crop_y", vector="c", within=_within),),
        image_first=lambda model: True,
        patch_will_do=True,
    ),
    width="t5_yproj",
    text_inputs=("attention_mask", "num_tokens"),
    needed_inputs={"num_tokens": "attention mask"},
)
MOCHI = {"comfy.ldm.genmo.joint_model.asymm_models_joint.AsymmDiTJoint": MOCHI_1}
