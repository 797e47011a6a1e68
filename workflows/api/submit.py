"""Submits a workflow in API format to a running ComfyUI and saves its pictures:

    python submit.py playground.json [--server http://127.0.0.1:8188] [--folder pictures] [--set 3.text="a red circle"]

It needs nothing but Python. --set changes an input of a node before the workflow is submitted: NODE.INPUT=VALUE.
"""
import argparse
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

PAUSE = 0.5  # seconds between two looks at the queue


def open_url(url, body=None):
    """The body of the answer to a GET, or to a POST of a JSON body."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as answer:
        return answer.read()


def submit(server, prompt):
    """Queue a prompt and give its id, or end with the server's reason why not."""
    try:
        answer = json.loads(open_url(f"{server}/prompt", {"prompt": prompt}))
    except urllib.error.HTTPError as refusal:
        answer = json.load(refusal)
    errors = answer.get("node_errors") or {}
    if errors or "prompt_id" not in answer:
        lines = [f"The server rejected the workflow: {answer.get('error', {}).get('message', 'a node is not right')}"]
        for node, found in errors.items():
            lines += [f"  node {node} ({found['class_type']}): {e['message']}: {e['details']}" for e in found["errors"]]
        sys.exit("\n".join(lines))
    return answer["prompt_id"]


def position(server, prompt_id):
    """Where a prompt is, in words."""
    queue = json.loads(open_url(f"{server}/queue"))
    if any(entry[1] == prompt_id for entry in queue["queue_running"]):
        return "running"
    waiting = sorted(entry[0] for entry in queue["queue_pending"])
    numbers = [entry[0] for entry in queue["queue_pending"] if entry[1] == prompt_id]
    return f"waiting behind {waiting.index(numbers[0])} others" if numbers else "finishing"


def wait(server, prompt_id):
    """Tell of progress until the prompt has run; give its outputs by node, or end with the error of the node."""
    told = None
    while not (history := json.loads(open_url(f"{server}/history/{prompt_id}"))):
        now = position(server, prompt_id)
        if now != told:
            print(now, "...", flush=True)
            told = now
        time.sleep(PAUSE)
    for kind, details in history[prompt_id]["status"]["messages"]:
        if kind == "execution_error":
            sys.exit(f"node {details['node_id']} ({details['node_type']}) failed: {details['exception_message']}")
        if kind == "execution_interrupted":
            sys.exit("The workflow was interrupted.")
    return history[prompt_id]["outputs"]


def save(server, outputs, folder):
    """Fetch every picture or video of the outputs into a folder; give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [(node, file) for node, output in outputs.items() for files in output.values() if isinstance(files, list)
             for file in files if isinstance(file, dict) and "filename" in file]
    paths = []
    for node, file in files:
        paths.append(folder / f"{node}_{file['filename']}")
        paths[-1].write_bytes(open_url(f"{server}/view?{urllib.parse.urlencode(file)}"))
    return paths


def change(prompt, setting):
    """Set an input of a prompt to another value: "NODE.INPUT=VALUE"; numbers and true or false are read as such."""
    place, _, value = setting.partition("=")
    node, _, name = place.partition(".")
    if name not in prompt.get(node, {}).get("inputs", {}):
        sys.exit(f"--set {setting}: the workflow has no such input.")
    try:
        value = json.loads(value)
    except ValueError:
        pass  # a text
    prompt[node]["inputs"][name] = value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workflow", type=Path, help="a graph in ComfyUI's API format")
    parser.add_argument("--server", default="http://127.0.0.1:8188", help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("pictures"), help="where to save, default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="change an input first")
    arguments = parser.parse_args()
    prompt = json.loads(arguments.workflow.read_text(encoding="utf-8"))
    for setting in arguments.set:
        change(prompt, setting)
    try:
        prompt_id = submit(arguments.server, prompt)
        print(f"queued as {prompt_id}")
        paths = save(arguments.server, wait(arguments.server, prompt_id), arguments.folder)
    except (urllib.error.URLError, ConnectionError) as error:  # a ConnectionError, when it goes down meanwhile
        sys.exit(f"{arguments.server} does not answer: {getattr(error, 'reason', error)}")
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
