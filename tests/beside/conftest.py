"""Where ComfyUI's loaders look for what other nodes load."""
import pytest


@pytest.fixture
def loras(monkeypatch, tmp_path):
    """The only folder in which ComfyUI's loaders find LoRAs."""
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    return tmp_path
