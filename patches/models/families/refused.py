"""Models that no text guides, by the names of their classes in comfy.model_base, and what each follows instead."""
import torch

PICTURE = "it follows an image and no text, so there is nothing that a negative prompt could change"
SOLID = "it makes a solid of an image and follows no text, so there is nothing that a negative prompt could change"
DETECTOR = "it finds things in an image and does not sample, so there is nothing that NAG could guide"
REFUSED = {
    "SVD_img2vid": PICTURE,
    "Stable_Zero123": PICTURE,
    "Lotus": "its text is the same for every image, so there is nothing that a negative prompt could change",
    "SeedVR2": "its texts are its own, the same for every video, so there is nothing that a prompt could change",
    "StableCascade_B": "it refines what Stable Cascade's stage C has made: put NAG on stage C",
    "Hunyuan3Dv2": SOLID,
    "Hunyuan3Dv2_1": SOLID,
    "Trellis2": SOLID,
    "TripoSplat": SOLID,
    "MiniMaxMusic3": "its sound follows notes that the text has become before, and attends to no text",
    "HiDreamO1": "a language model paints and reads the prompt by itself, so there is no encoded text to guide by",
    "RT_DETR_v4": DETECTOR,
    "DepthAnything3": DETECTOR,
    "SAM3": DETECTOR,
}


def refused(model: torch.nn.Module) -> str | None:
    """Why a comfy.model_base.BaseModel has nothing to guide, or None."""
    names = (cls.__name__ for cls in type(model).__mro__)
    return next((REFUSED[name] for name in names if name in REFUSED), None)
