"""Which tiny models stand for each family of the README, and what they are compared with."""
from door_families import BY_NAME as BY_DOOR
from families import BY_NAME
from oracle import lockstep

ROWS = BY_NAME | BY_DOOR
TESTED_BY = {
    "Stable Diffusion XL": ("sdxl",),
    "Stable Diffusion 1.5 and 2": ("sd15", "sd2"),
    "Stable Diffusion 3 and 3.5": ("sd35_large", "sd35_medium", "sd3_context_processor"),
    "Flux": ("flux_dev", "flux_schnell", "flux_fill", "flux_kontext"),
    "Flux.1 Kontext": ("flux_kontext",),
    "Wan": ("wan21_t2v", "wan21_i2v", "wan22_i2v", "wan21_vace"),
    "Wan 2.1 1.3B": ("wan21_t2v",),
    "Wan 2.1 14B with CausVid": ("wan21_t2v",),
    "Z-Image": ("z_image", "z_image_pixel"),
    "Z-Image base": ("z_image",),
    "Lumina 2": ("lumina2",),
    "Qwen-Image": ("qwen_image", "qwen_image_edit", "qwen_image_edit_2511", "qwen_image_layered"),
    "MageFlow": ("mage_flow",),
    "Chroma": ("chroma",),
    "Chroma Radiance": ("chroma_radiance", "chroma_radiance_with_places"),
    "Flux.2 Klein": ("flux2_klein",),
    "Flux.2": ("flux2_dev",),
    "LongCat-Image": ("longcat",),
    "Ovis-Image": ("ovis",),
    "Krea 2": ("krea2", "krea2_edit"),
    "Ideogram 4": ("ideogram4",),
    "OmniGen2": ("omnigen2", "omnigen2_edit"),
    "Boogu": ("boogu", "boogu_edit"),
    "AuraFlow": ("auraflow",),
    "CogVideoX": ("cogvideox", "cogvideox_i2v"),
    "PixelDiT": ("pixeldit",),
    "PiD": ("pid",),
    "Lens": ("lens",),
    "JoyImage": ("joyimage", "joyimage_edit"),
    "LTX-Video": ("ltxv",),
    "LTX-2": ("ltx2", "ltx2_raw"),
    "LTX-2.3": ("ltx23", "ltx23_raw"),
    "Cosmos Predict2": ("cosmos_predict2",),
    "Anima": ("anima",),
    "Cosmos 1": ("cosmos1",),
    "Stable Audio 1": ("stable_audio1",),
    "ACE-Step 1": ("ace_step1",),
    "Kandinsky 5": ("kandinsky5_video", "kandinsky5_image"),
    "HunyuanVideo": ("hunyuan_video", "hunyuan_video_i2v", "hunyuan_video_skyreels"),
    "HunyuanVideo 1.5": ("hunyuan_video_15", "hunyuan_video_15_i2v", "hunyuan_video_15_sr"),
    "HunyuanImage 2.1": ("hunyuan_image", "hunyuan_image_distilled", "hunyuan_image_refiner"),
    "HiDream": ("hidream", "hidream_without_experts", "hidream_e1"),
    "Mochi": ("mochi",),
    "MiniMax H3": ("minimax_h3",),
    "PixArt": ("pixart_sigma", "pixart_alpha"),
    "Hunyuan-DiT": ("hunyuan_dit", "hunyuan_dit1"),
    "Stable Audio 3": ("stable_audio3", "stable_audio3_without_pads"),
    "Stable Cascade": ("stable_cascade",),
    "SANA": ("sana", "sana_sprint"),
    "ERNIE-Image": ("ernie_image",),
    "ACE-Step 1.5": ("ace_step15", "ace_step15_without_codes", "ace_step15_timbre"),
}


def compared_with(family: str) -> str:
    """The oracle of a family, in the README's words."""
    oracles = {ROWS[name].oracle for name in TESTED_BY[family]}
    return "itself in lockstep" if oracles == {lockstep} else "a float64 oracle"
