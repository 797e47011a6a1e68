"""The set-up's own decisions, and what a server that does not come up says."""
import pytest
from host import environment
from host.server import ComfyServer, ServerFailed


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "cli_args.py").write_text('parser.add_argument("--cpu")\n')
    (tmp_path / "main.py").write_text("import sys\nsys.exit('no such GPU')\n")
    (tmp_path / "requirements.txt").write_text(
        "comfyui-frontend-package==1.49.6\ncomfyui-workflow-templates==1\n"
        "torch\n\nkornia>=0.7.1\nsimple_eval>=1 # why\n")
    return tmp_path


def test_a_checkout_names_its_frontend_and_what_more_it_needs(checkout):
    ours, further = environment.requirements_for(checkout)
    assert "comfyui-frontend-package==1.49.6" in ours and "kornia==0.7.4" in ours
    assert [line for line in ours if line.startswith("torch=")] == [
        line for line in environment.requirements_for(None)[0] if line.startswith("torch=")]
    assert further == ["simple_eval>=1"]


def test_a_server_that_ends_says_what_it_logged(checkout):
    base = checkout / "base"
    with pytest.raises(ServerFailed, match="no such GPU"), ComfyServer(base, checkout):
        pass
    assert not any(checkout.rglob("__pycache__"))
