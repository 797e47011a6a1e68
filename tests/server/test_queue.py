"""Prompts that wait in one queue and share one cached model do not rub off on each other."""
from graphs import painting

PROMPTS = {
    "negative red": painting("red"),
    "no NAG": painting("red", guided=False),
    "negative frame": painting("frame"),
}


def pictures(client, history):
    return [image.tobytes() for image in client.images(history)["picture"]]


def run_alone(client, prompt):
    """The pictures of a prompt for which the server loads and computes everything anew."""
    for _ in range(2):  # a prompt that comes before the server has emptied its cache is followed by the emptying
        client.post("/free", {"unload_models": True, "free_memory": True})
        history = client.follow(client.submit(prompt))
        if not dict(history["status"]["messages"])["execution_cached"]["nodes"]:
            return pictures(client, history)
    raise AssertionError("the server did not empty its cache")


def test_each_prompt_gets_its_own_negative(client):
    queued = {name: client.submit(prompt) for name, prompt in PROMPTS.items()}
    together = {name: pictures(client, client.follow(prompt_id)) for name, prompt_id in queued.items()}
    alone = {name: run_alone(client, prompt) for name, prompt in PROMPTS.items()}
    assert [name for name in PROMPTS if together[name] != alone[name]] == []
    assert len({tuple(images) for images in alone.values()}) == len(PROMPTS), "NAG or its negative had no effect"
