"""HiDream I1 and E1: each block is handed Llama's tokens of a layer of its own."""
from ..doors import Door, Doors
from ..modulation import Branch, DoneOver
from ..transformer import NOBODYS, Transformer


def _branch(module, norm, shift, argument=0, out=None):
    """shift: where the modulation has what the tokens are shifted by, scaled by and gated by."""

    def modulated(block, tokens, modulation):
        normed = block.get_submodule(norm)(tokens).to(tokens.dtype)
        return normed * (1 + modulation[shift + 1]) + modulation[shift]

    added = lambda tokens, z, modulation: modulation[shift + 2] * z + tokens
    return Branch(module, module, modulated, added, argument, out)


TWO_STREAMS = (
    _branch("block.attn1", "block.norm1_t", 6, argument=2, out=1),
    _branch("block.ff_t", "block.norm3_t", 9),
)
ONE_STREAM = (_branch("block.attn1", "block.norm1_i", 0), _branch("block.ff_i", "block.norm3_i", 3))
LAYER = "block.adaLN_modulation"


def _in_two_streams(visit, call, model):
    return DoneOver(visit, "text_tokens", 1, LAYER, 12, TWO_STREAMS).hooks


def _in_one_stream(visit, call, model):
    return DoneOver(visit, "image_tokens", None, LAYER, 6, ONE_STREAM).hooks


HIDREAM_I1 = Transformer(
    families={"HiDream": NOBODYS},
    text_encoder="CLIP-L, CLIP-G, T5-XXL and Llama 3.1 8B (QuadrupleCLIPLoader)",
    parts=("block.adaLN_modulation", "block.attn1", "block.ff_i", "block.ff_t", "block.norm1_t", "block.norm3_t"),
    doors=Doors(
        (
            Door(
                "double_stream_blocks",
                text="text_tokens",
                out=1,
                places="rope",
                vector="adaln_input",
                within=_in_two_streams,
            ),
            Door("single_stream_blocks", sequence="image_tokens", places="rope", within=_in_one_stream),
        ),
        image_module="x_embedder",
        image_first=lambda model: True,
        own="caption_projection",
    ),
    width=lambda model: (model.caption_projection[-1].linear.in_features,),
    pooled="p_embedder.pooled_embedder.linear_1",
    text_inputs=("encoder_hidden_states_llama3",),
    needed_inputs={"encoder_hidden_states_llama3": "text of llama3"},
    made=lambda model, n: 3 * n,  # Llama's of the last layer, and of a block's, as many as T5's
)
HIDREAM = {"comfy.ldm.hidream.model.HiDreamImageTransformer2DModel": HIDREAM_I1}
