"""The latents of the playground, and a VAE that has nothing to learn.

A latent pixel holds 2x2 pixels of a 32x32 picture, or of each picture of a clip; decoded, each of those is 4x4 pixels.
"""
import comfy.latent_formats
import comfy.model_management
import comfy.pixel_space_convert
import comfy.sd
import torch

FOLD = 2  # pixels of the drawn picture per latent pixel, each way; older hosts take no other patches than 2x2
ENLARGE = 4  # pixels of the decoded picture per pixel of the drawn one
CHANNELS = 3 * FOLD**2


def to_latent(pictures):
    """(B, 3, 32, 32) pictures from -1 to 1 to (B, 12, 16, 16) latents: the same numbers, folded.

    (B, 3, F, 32, 32) clips become (B, 12, F, 16, 16).
    """
    return _each(torch.nn.functional.pixel_unshuffle, pictures)


def to_picture(latents):
    """(B, 12, 16, 16) latents to (B, 3, 32, 32) pictures, those of clips likewise."""
    return _each(torch.nn.functional.pixel_shuffle, latents)


def _each(fold, x, by=FOLD):
    if x.ndim == 4:
        return fold(x, by)
    return fold(x.transpose(1, 2), by).transpose(1, 2)


class PlaygroundLatent(comfy.latent_formats.LatentFormat):
    """Latents are the folded picture; previews show the mean of the 2x2 pixels and need no decoder."""

    latent_channels = CHANNELS
    latent_rgb_factors = [
        [1 / FOLD**2 if channel // FOLD**2 == colour else 0.0 for colour in range(3)] for channel in range(CHANNELS)
    ]


class ClipLatent(PlaygroundLatent):
    latent_dimensions = 3
    temporal_downscale_ratio = 4  # of the length that the nodes for empty videos ask for, not of the decoded clip


class Enlarger(comfy.pixel_space_convert.PixelspaceConversionVAE):
    """Latents to large smooth pictures and back."""

    def decode(self, samples, *args, **kwargs):
        """(B, 12, H, W) to (B, 3, 8H, 8W), from -1 to 1, up to a little overshoot that the VAE clamps."""
        return torch.nn.functional.interpolate(to_picture(samples), scale_factor=ENLARGE, mode="bicubic")

    def encode(self, pixels, *args, **kwargs):
        """(B, 3, 8H, 8W) to (B, 12, H, W)."""
        return to_latent(torch.nn.functional.avg_pool2d(pixels, ENLARGE))


class ClipEnlarger(Enlarger):
    """The same for each picture of a clip: (B, 12, F, H, W) and (B, 3, F, 8H, 8W)."""

    def decode(self, samples, *args, **kwargs):
        return _in_rows(super().decode, samples)

    def encode(self, pixels, *args, **kwargs):
        return _in_rows(super().encode, pixels)


def _in_rows(function, clips):
    return function(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(clips), -1)).transpose(1, 2)


def build_vae(frames=1):
    """A comfy.sd.VAE for to_latent()'s latents, 8 pixels wide each as with any image VAE. It has no weights.

    frames: 1 for pictures; for more, those of clips, a latent frame each.
    """
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
    vae.first_stage_model = (Enlarger if frames == 1 else ClipEnlarger)().eval()
    stock = vae.patcher
    vae.patcher = type(stock)(vae.first_stage_model, load_device=stock.load_device,
                              offload_device=stock.offload_device)
    vae.latent_channels = CHANNELS
    vae.upscale_ratio = vae.downscale_ratio = FOLD * ENLARGE
    if frames > 1:
        vae.latent_dim = 3
        vae.upscale_ratio = vae.downscale_ratio = (_as_many, FOLD * ENLARGE, FOLD * ENLARGE)
        vae.upscale_index_formula = vae.downscale_index_formula = vae.upscale_ratio
    vae.memory_used_encode = vae.memory_used_decode = _memory_used
    return vae


def _as_many(frames):
    return frames


def _memory_used(shape, dtype):
    """Bytes that decoding or encoding one (1, channels, ..., H, W) latent or picture takes, generously."""
    return 1024 * shape[2:].numel() * comfy.model_management.dtype_size(dtype)
