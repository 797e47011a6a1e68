"""What a prompt leaves, as files, and as pictures: a picture is one frame, a video several, a sound none."""
from pathlib import Path

from PIL import Image, ImageSequence

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif"}
VIDEOS = {".mp4", ".webm", ".mkv", ".mov"}
MOST_FRAMES = 24  # of a video, spread over all of it


def files_of(history: dict) -> list[dict]:
    """What a finished prompt has written, in order, as the server's /view takes it."""
    kinds = [kind for output in history["outputs"].values() for kind in output.values() if isinstance(kind, list)]
    return [file for kind in kinds for file in kind if isinstance(file, dict) and "filename" in file]


def frames_of(path: Path) -> list[Image.Image]:
    """Raises ValueError or OSError if it can't be read."""
    if path.suffix in PICTURES:
        with Image.open(path) as picture:
            return _spread([frame.convert("RGB") for frame in ImageSequence.Iterator(picture)])
    return _spread(_decoded(path)) if path.suffix in VIDEOS else []


def _decoded(path):
    import av  # ComfyUI brings it, and writes its videos by it

    with av.open(str(path)) as video:
        return [frame.to_image() for frame in video.decode(video=0)]


def _spread(frames):
    count = min(len(frames), MOST_FRAMES)
    return [frames[i * len(frames) // count] for i in range(count)]
