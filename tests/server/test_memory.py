"""A server's memory, and the switches by which its users save it."""
import psutil
import pytest
from graphs import painting
from host.client import Client
from host.server import ComfyServer

SWITCHES = [("--cache-none", "--disable-smart-memory"), ("--cache-lru", "2", "--fast")]


def pictures(client, **inputs):
    return [image.tobytes() for image in client.run(painting(**inputs))["picture"]]


@pytest.mark.parametrize("switches", SWITCHES, ids=" ".join)
def test_the_same_pictures_by_every_switch(client, tmp_path, switches):
    expected = {negative: pictures(client, negative=negative) for negative in ("red", "frame")}
    with ComfyServer(tmp_path, arguments=switches) as server:
        saving = Client(server.url)
        for negative in ("red", "frame", "red"):
            assert pictures(saving, negative=negative) == expected[negative]


def resident(server):
    """Bytes that the server's process takes."""
    (process,) = (child for child in psutil.Process().children() if str(server.base) in child.cmdline())
    return process.memory_info().rss


def growth(server, client, guided):
    """Over forty prompts, none of which is answered from the cache, after ten to warm up."""
    for seed in range(50):
        if seed == 10:
            before = resident(server)
        graph = painting(guided=guided, nag_scale=5.0 + seed / 100)
        graph["sampler"]["inputs"]["seed"] = seed
        client.run(graph)
    return resident(server) - before


def test_fifty_prompts_leave_nothing_behind(server, client):
    """But what the allocator does with freed memory: 100 kB a prompt would show."""
    without, guided = growth(server, client, False), growth(server, client, True)
    assert guided < without + 4 * 2**20, f"{guided / 2**20:.1f} MB, {without / 2**20:.1f} MB without NAG"
