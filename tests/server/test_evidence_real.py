"""Evidence on real models: the command on the playground's workflow, and each judge on a tiny model of its kind."""
import argparse
import csv
import json
import random
import re

import pytest
import safetensors.torch
import torch
from evidence.real import command, eyes, judges, tables
from evidence.real import pairs as listed
from evidence.real import playground as of_playground
from evidence.real.pairs import Pair
from evidence.real.rows import BASE, NAG, BadWorkflow, Row, understood
from graphs import node, painting
from host.gallery import media, prompts
from host.inside import COMFYUI
from host.shipped import api_path, graphs
from PIL import Image
from playground import judge
from playground.worlds import WORLDS

CASES = "prompt,negative\na circle on white,red\na red circle,white\na square on black,blue\n"
ROWS = [BASE, "CFG 2", "CFG 3", NAG]
PAIR = Pair(1, "a red circle", "white")


def prompt_of(name):
    return json.loads(api_path(name).read_text(encoding="utf-8"))


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.main(parser.parse_args([str(each) for each in arguments]))


@pytest.fixture(scope="module")
def nodes(server):
    from host.client import Client

    return Client(server.url).object_info()


@pytest.fixture
def small(tmp_path):
    """The playground's workflow with two pictures in a batch, as a user's file, and three pairs."""
    prompt = prompt_of("playground")
    for inner in prompt.values():
        if inner["class_type"] == "EmptyLatentImage":
            inner["inputs"]["batch_size"] = 2
    (tmp_path / "small.json").write_text(json.dumps(prompt), encoding="utf-8")
    (tmp_path / "pairs.csv").write_text(CASES, encoding="utf-8")
    return ["--workflow", tmp_path / "small.json", "--pairs", tmp_path / "pairs.csv", "--folder", tmp_path / "made"]


@pytest.fixture
def untrained(tmp_path, monkeypatch):
    """The playground's judges, untrained, by world's name."""
    monkeypatch.setattr(judge, "WEIGHTS", tmp_path / "judges")
    (tmp_path / "judges").mkdir()
    torch.manual_seed(0)
    made = {name: judge.Judge(world) for name, world in WORLDS.items()}
    for each in made.values():
        safetensors.torch.save_file(each.state_dict(), judge.path_of(each.world))
    return made


# ---------------------------------------------------------------- the lists
def test_our_lists():
    pictures, videos = listed.read(listed.PICTURES), listed.read(listed.VIDEOS)
    assert len(pictures) == 50 == len({pair.prompt for pair in pictures}) and len(videos) >= 10
    assert {pair.kind for pair in pictures} == {"object", "colour", "style", "background", "time", "text", "people"}
    for pair in pictures + videos:  # a prompt that asks for it could not be painted without
        assert not set(pair.negative.lower().split()) & set(re.findall(r"\w+", pair.prompt.lower())), pair


@pytest.mark.parametrize("text, said", {
    "prompt;negative\na;b": "names the columns prompt and negative",
    "": "names the columns",
    "prompt,negative\na cat, asleep,fur": 'pair 1.*stands in "quotes"',
    "prompt,negative\na cat": "pair 1: not as many columns",
    "prompt,negative\na cat,fur\na dog, ": "pair 2: the prompt or the negative is empty",
}.items())  # fmt: skip
def test_a_bad_list_is_refused(tmp_path, text, said):
    file = tmp_path / "pairs.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(listed.BadPairs, match=said):
        listed.read(file)


# ---------------------------------------------------------------- where texts and cfg go
@pytest.mark.parametrize("name", sorted(graphs().keys() - {"nag_grid", "regional"}))
def test_of_each_shipped_workflow_texts_and_cfg_are_found(nodes, name):
    """As their titles say, which the links that are followed know nothing of."""
    prompt = prompt_of(name)
    if {inner["class_type"] for inner in prompt.values()} - nodes.keys():
        pytest.skip("This ComfyUI lacks nodes of it.")
    workflow = understood(prompt, nodes)
    titled = lambda start: {key for key, inner in workflow.prompt.items() if prompts.TEXTS and any(
        isinstance(inner["inputs"].get(text), str) for text in prompts.TEXTS)
        and inner["_meta"]["title"].startswith(start)}
    assert {key for key, _ in workflow.positive} == titled("Prompt")
    assert {key for key, _ in workflow.negative} == titled("Negative prompt")
    samplers = {key for key, inner in workflow.prompt.items() if "cfg" in inner["inputs"]}
    assert {key for key, _ in workflow.cfg} == samplers and bool(samplers) == (name != "flux_dev")

    made = workflow.painting(Row(NAG, 1.0, True), "a prompt", "a negative", 77)
    for key, inner in made.items():
        for each, value in inner["inputs"].items():
            before = workflow.prompt[key]["inputs"][each]
            assert value == before or value in ("a prompt", "a negative", 77, 1.0), (key, each)
    assert prompts.seeded(made, 77) == made != prompts.without_nag(made, nodes)


@pytest.mark.parametrize("name, rows", {
    "flux_schnell": ROWS,
    "flux_dev": [BASE, NAG],
    "sd35_large": [BASE, "CFG 2", "CFG 3", "CFG 4", NAG, "CFG 4 and NAG"],
}.items())  # fmt: skip
def test_rows(nodes, name, rows):
    workflow = understood(prompt_of(name), nodes)
    assert [row.name for row in workflow.rows([3.0, 2.0])] == rows


def test_several_prompts_are_to_be_named(nodes):
    regional = prompt_of("regional")
    with pytest.raises(BadWorkflow, match=r"several prompts, .*3\.text.*--prompt NODE\.INPUT"):
        understood(regional, nodes)
    workflow = understood(regional, nodes, positive=["3.text", "5.text"])
    assert workflow.positive == (("3", "text"), ("5", "text"))
    assert workflow.negative == (("4", "text"), ("6", "text"))
    assert workflow.cfg == ()  # its negative is zeroed out: CFG would have nothing to work with
    with pytest.raises(BadWorkflow, match=r"3\.seed is no text of it\. It has 3\.text, "):
        understood(regional, nodes, positive=["3.seed"])


def test_an_empty_negative_is_refused(nodes):
    prompt = painting()
    prompt["negative"] = node("ConditioningZeroOut", conditioning=["prompt", 0])
    with pytest.raises(BadWorkflow, match="Its negative is no text that can be set"):
        understood(prompt, nodes)
    with pytest.raises(BadWorkflow, match="No NAG node has a part"):
        understood(painting(guided=False), nodes)


def test_a_text_from_a_primitive_node(nodes):
    prompt = painting()
    prompt["words"] = node("PrimitiveStringMultiline", value="a circle")
    prompt["prompt"]["inputs"]["text"] = ["words", 0]
    prompt["guidance"] = node("PrimitiveFloat", value=1.0)
    prompt["sampler"]["inputs"]["cfg"] = ["guidance", 0]
    workflow = understood(prompt, nodes)
    assert (workflow.positive, workflow.cfg) == ((("words", "value"),), (("guidance", "value"),))


# ---------------------------------------------------------------- painting
def test_the_command_paints_judges_and_goes_on(server, client, small, untrained, tmp_path, capsys):
    arguments = [*small, "--server", server.url, "--judge", "playground", "--seeds", "0", "3", "--cfg", "3"]
    run(*arguments)
    made = tmp_path / "made" / "small"
    with open(made / "playground.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 3 * 2 * 2  # rows, pairs, seeds, batch
    assert list(dict.fromkeys(line["row"] for line in lines)) == [BASE, "CFG 3", NAG]
    page = (made / "playground.md").read_text(encoding="utf-8")
    assert "3 prompts, 36 pictures" in page and "| CFG 3 | 12 | " in page and "| a red circle | white | " in page

    def pixels(row):
        return [frame.tobytes() for path in sorted((made / "pictures" / "1" / "3" / row).glob("*.png"))
                for frame in media.frames_of(path)]

    for row, cfg in ((BASE, 1.0), ("CFG 3", 3.0)):
        plain = painting(prompt="a circle on white", negative="red", guided=False)
        del plain["nag"]
        plain["sampler"]["inputs"] |= {"seed": 3, "cfg": cfg}
        assert pixels(row) == [image.tobytes() for image in client.run(plain)["picture"]]
    guided = painting(prompt="a circle on white", negative="red")
    guided["sampler"]["inputs"]["seed"] = 3
    assert pixels(NAG) == [image.tobytes() for image in client.run(guided)["picture"]] != pixels(BASE)

    files = {path: path.stat().st_mtime_ns for path in (made / "pictures").rglob("*.png")}
    for path in (made / "pictures" / "2" / "0" / NAG).iterdir():
        path.unlink()
    capsys.readouterr()
    run(*arguments)
    anew = {path for path in files if path.stat().st_mtime_ns != files[path]}
    assert anew == set((made / "pictures" / "2" / "0" / NAG).glob("*.png")) and len(anew) == 2
    assert (made / "playground.md").read_text(encoding="utf-8") == page


BAD = {
    "workflow": (["--workflow", "flux_fast"], "No workflow flux_fast. There are playground"),
    "models": (["--workflow", "flux_schnell"], "It lacks models/checkpoints/flux1-schnell-fp8.safetensors https://"),
    "sound": (["--workflow", "ace_step_15_turbo"], "judges of pictures only"),
    "edit": (["--workflow", "qwen_image_edit"], "name yours with --pairs"),
    "grid": (["--workflow", "nag_grid"], "No NAG node has a part"),
    "place": (["--prompt", "3.words"], "3.words is no text of it. It has 3.text, 4.text"),
    "count": (["--count", "0"], "--count is at least 1"),
    "judge": (["--judge", "./nobody"], "./nobody is no folder"),
    "words": (["--pairs", listed.PICTURES, "--judge", "playground"], "does not know the pair \"portrait of an old"),
    "word": (["--pairs", listed.PICTURES], "ComfyUI can't paint this. CLIPTextEncode #"),
    "playground": (["--workflow", "flux_schnell", "--judge", "playground"], "pictures of the playground's models only"),
    "votes": (["--votes", "votes.json"], "paint first"),
    "server": (["--server", "http://127.0.0.1:1"], "refused"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_before_anything_is_painted(server, small, untrained, tmp_path, case):
    arguments, said = BAD[case]
    with pytest.raises(SystemExit) as ended:
        run(*small[:2], *small[4:], "--server", server.url, *arguments)
    assert said in str(ended.value)
    assert not list(tmp_path.rglob("*.png"))


def test_a_graph_of_the_editor_is_no_prompt(tmp_path):
    file = tmp_path / "graph.json"
    for content, said in ((graphs()["playground"], "Export (API)"), ([1], "no prompt"), ({"3": {}}, "no prompt")):
        file.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(BadWorkflow, match=re.escape(said)):
            command.workflow_of(str(file))


# ---------------------------------------------------------------- eyes
def test_eyes_vote_blind(server, small, tmp_path):
    arguments = [*small, "--server", server.url, "--seeds", "0", "--count", "2", "--blind"]
    run(*arguments)
    made = tmp_path / "made" / "small"
    page = (made / eyes.PAGE).read_text(encoding="utf-8")
    data = json.loads(re.search(r"const data = (.*)", page)[1])
    assert not any(f">{row}<" in page or f'"{row}"' in page for row in ROWS)
    key = json.loads((made / eyes.KEY).read_text(encoding="utf-8"))["order"]
    assert len(data["sets"]) == len(key) == 4 and all(sorted(order) == sorted(ROWS) for order in key.values())
    for name, order in key.items():
        pair, seed, number = name.split("-")
        for letter, row in zip("ABCD", order):
            file = next(each["file"] for group in data["sets"] for each in group["pictures"]
                        if each["name"] == f"{name}-{letter}")  # fmt: skip
            with Image.open(made / file) as shown:
                painted = media.frames_of(made / "pictures" / pair / seed / row / f"{number}.png")[0]
                assert (shown.size, shown.info.get("prompt")) == (painted.size, None)
                mean = lambda image: torch.tensor(list(image.convert("RGB").resize((1, 1)).tobytes())).float()
                assert (mean(shown) - mean(painted)).abs().max() < 4
    run(*arguments)
    assert json.loads((made / eyes.KEY).read_text(encoding="utf-8"))["order"] == key

    votes = tmp_path / "votes.json"
    said = {f"{name}-{'ABCD'[order.index(row)]}": {"unwanted": row != NAG, "wanted": row != "CFG 3"}
            for name, order in key.items() for row in ROWS}
    said |= {"1-0-0-A": {"unwanted": True}}  # half a vote, which does not count
    votes.write_text(json.dumps({"votes": said}), encoding="utf-8")
    run(*arguments[:2], *arguments[4:], "--votes", votes)
    lines = {line.split(" | ")[0]: line for line in (made / "eyes.md").read_text(encoding="utf-8").splitlines()[::-1]}
    for row in ROWS:
        count = 4 - (key["1-0-0"][0] == row)
        shares = ["100%" if row != without else "0%" for without in (NAG, "CFG 3")]
        assert re.match(rf"\| {row} \| {count} \| {shares[0]} .* \| {shares[1]} ", lines[f"| {row}"])
    votes.write_text(json.dumps({"votes": {"9-0-0-A": {"unwanted": True, "wanted": True}}}), encoding="utf-8")
    with pytest.raises(SystemExit, match="9-0-0-A, which is not in"):
        run(*arguments[:2], *arguments[4:], "--votes", votes)
    votes.write_text("[]", encoding="utf-8")
    with pytest.raises(SystemExit, match="no file that the page's button"):
        run(*arguments[:2], *arguments[4:], "--votes", votes)


# ---------------------------------------------------------------- judges
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TINY, "image_size": 32, "patch_size": 8}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder with a CLIP of random weights, as transformers saves it."""
    import transformers as hf

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    hf.CLIPModel(hf.CLIPConfig(text_config=TINY, vision_config=VISION, projection_dim=16)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    tokenizer = hf.CLIPTokenizer.from_pretrained(COMFYUI / "comfy" / "sd1_tokenizer")
    hf.CLIPProcessor(hf.CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A folder with a LLaVA of random weights that knows a few words."""
    import tokenizers
    import transformers as hf

    folder = tmp_path_factory.mktemp("llava")
    words = ["<pad>", "<unk>", "<image>", "USER", "ASSISTANT", "Yes", "No", "yes", "no", "a", "red", "circle", "white",
             "Does", "this", "picture", "show", "Please", "answer", "or", "?", ".", ":", '"']  # fmt: skip
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", unk_token="<unk>",
                                           additional_special_tokens=["<image>"])
    template = ("{% for message in messages %}USER: {% for part in message['content'] %}"
                "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
                "{% endfor %}{% endfor %} ASSISTANT:")
    images = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    hf.LlavaProcessor(images, tokenizer, patch_size=8, vision_feature_select_strategy="default", image_token="<image>",
                      chat_template=template, num_additional_image_tokens=1).save_pretrained(folder)
    config = hf.LlavaConfig(hf.CLIPVisionConfig(**VISION), hf.LlamaConfig(**TINY, vocab_size=len(words)),
                            image_token_index=2, vision_feature_layer=-1)
    torch.manual_seed(0)
    hf.LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


def ready(folder):
    judge = judges.named(str(folder), {}, cpu=True)
    judge.check([PAIR])
    return judge


def picture(seed):
    pixels = torch.randint(256, (48, 48, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.frombytes("RGB", (48, 48), pixels.numpy().tobytes())


def test_clip_says_how_near_a_picture_is_to_each_text(clip):
    import transformers as hf

    judge, model = ready(clip), hf.CLIPModel.from_pretrained(clip)
    processor = hf.CLIPProcessor.from_pretrained(clip)
    expected = []
    with torch.inference_mode():
        for seed in (0, 1):
            features = model.get_image_features(**processor(images=picture(seed), return_tensors="pt"))
            texts = [model.get_text_features(**processor(text=text, return_tensors="pt")) for text in PAIR[1:3]]
            expected.append([torch.cosine_similarity(features, text).item() for text in texts])
    one, both = judge.judge([picture(0)], PAIR), judge.judge([picture(0), picture(1)], PAIR)
    assert [one["clip_prompt"], one["clip_negative"]] == pytest.approx(expected[0], abs=1e-5)
    assert [both["clip_prompt"], both["clip_negative"]] == pytest.approx(
        [sum(each) / 2 for each in zip(*expected)], abs=1e-5)
    judge.judge([picture(0)], PAIR._replace(prompt="a very long prompt " * 99))  # is cut, as CLIP must


def test_a_vision_language_model_is_asked(llava):
    import transformers as hf

    judge = ready(llava)
    said = judge.judge([picture(0)], PAIR)
    model = hf.LlavaForConditionalGeneration.from_pretrained(llava)
    processor = hf.AutoProcessor.from_pretrained(llava)
    for text, name in ((PAIR.negative, "unwanted"), (PAIR.prompt, "wanted")):
        asked = f'USER: <image> Does this picture show "{text}"? Please answer yes or no. ASSISTANT:'
        with torch.inference_mode():
            chances = model(**processor(text=asked, images=picture(0), return_tensors="pt")).logits[0, -1].softmax(-1)
        yes, no = chances[[5, 7]].sum().item(), chances[[6, 8]].sum().item()  # Yes, yes; No, no
        assert said[f"p_{name}"] == pytest.approx(yes / (yes + no), abs=1e-5) and said[name] == (yes > no)
    assert 0 < said["answered"] < 1
    assert judge.judge([picture(0)] * 3, PAIR) == pytest.approx(said, abs=1e-5)
    assert judge.judge([picture(1)], PAIR)["p_wanted"] != said["p_wanted"]


def test_judges_that_cannot_judge_are_named(clip, llava, tmp_path, monkeypatch):
    import transformers as hf

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hf.BertConfig(**TINY).save_pretrained(tmp_path)
    with pytest.raises(judges.BadJudge, match="is a bert: neither of CLIP's kind nor"):
        judges.named(str(tmp_path), {})
    (tmp_path / "config.json").write_text((clip / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(judges.BadJudge, match="transformers can't load"):
        ready(tmp_path)
    for file in clip.iterdir():
        if file.suffix == ".json" or file.name == "merges.txt":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(judges.BadJudge, match="has no weights"):
        ready(tmp_path)
    mute = tmp_path / "mute"
    mute.mkdir()
    for file in llava.iterdir():
        if "template" not in file.name:
            (mute / file.name).write_bytes(file.read_bytes())
    with pytest.raises(judges.BadJudge, match="has no chat template"):
        ready(mute)


def test_the_command_with_a_clip(server, small, clip, tmp_path):
    arguments = [*small, "--server", server.url, "--judge", clip, "--seeds", "0", "--cfg"]
    run(*arguments)
    made = tmp_path / "made" / "small"
    with open(made / f"{clip.name}.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    at = {(line["pair"], line["number"], line["row"]): line for line in lines}
    assert {line["row"] for line in lines} == {BASE, NAG} and len(lines) == len(at) == 12
    for (pair, number, row), line in at.items():
        nearer = float(at[pair, number, BASE]["clip_negative"]) <= float(line["clip_negative"])
        assert line["farther"] == ("" if row == BASE else "0.0" if nearer else "1.0")
    page = (made / f"{clip.name}.md").read_text(encoding="utf-8")
    assert f"farther from the negative than {BASE}" in page
    said = json.loads((made / "pictures" / "1" / "0" / NAG / command.JUDGED).read_text(encoding="utf-8"))
    kept = made / "pictures" / "1" / "0" / NAG / command.JUDGED
    said[str(clip)][0]["clip_negative"] = -1.0
    kept.write_text(json.dumps(said), encoding="utf-8")
    run(*arguments)  # what is judged is not judged again
    with open(made / f"{clip.name}.csv", encoding="utf-8", newline="") as file:
        assert sum(line["clip_negative"] == "-1.0" for line in csv.DictReader(file)) == 1


@pytest.mark.parametrize("name", WORLDS)
def test_the_playgrounds_judge_sees_what_it_sees_in_drawn_pictures(untrained, name):
    """Enlarged as a VAE shows them, and in eight bits."""
    world, model = WORLDS[name], {"clips": "tiny Wan, distilled", "emoji": "tiny emoji"}.get(name, "tiny SD3.5")
    prompt = {"1": node(of_playground.LOADER, model=model)}
    assert of_playground.world_of(prompt) is world
    assert of_playground.world_of({"1": node(of_playground.LOADER)}) is WORLDS["shapes"]
    used, pairs, rng = judges.named("playground", prompt), of_playground.pairs_of(world), random.Random(0)
    used.check(pairs)
    assert len(pairs) >= 32
    for pair, case in zip(pairs[::4], world.CASES[::4]):
        drawn = world.draw([world.complete(case.scene, rng)], rng)
        eight = ((drawn + 1) * 127.5).round().byte()
        (seen,), _ = untrained[name].eval().read(eight / 127.5 - 1)
        frames = eight[0].reshape(3, -1, 32, 32).movedim(0, -1)
        said = used.judge([Image.fromarray(each.numpy()).resize((128, 128), Image.NEAREST) for each in frames], pair)
        assert said == {"unwanted": world.hints(seen, case.negative), "wanted": world.shows(seen, case.scene)}
    assert used.judge([Image.fromarray(each.numpy()) for each in frames] * 3, pair) == said


# ---------------------------------------------------------------- tables
def test_tables(tmp_path):
    said = lambda unwanted, wanted: {"unwanted": float(unwanted), "wanted": float(wanted)}
    pairs = [Pair(1, "a circle", "red", "colour"), Pair(2, "a square", "frame", "object")]
    judged = [tables.Judged(pair, seed, 0, row, said(row == BASE or (seed == 0 and pair.number == 2), row == BASE))
              for row in (BASE, NAG) for pair in pairs for seed in range(4)]
    page, _ = tables.write(tables.completed(judged), tmp_path, "A title", "table", ["A note."])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# A title\n\n2 prompts, 16 pictures.") and "\nA note.\n" in text
    assert "| no guidance | 8 | 100% (68 to 100) | 100% (68 to 100) | 0% (0 to 32) |" in text
    assert "| NAG | 8 | 12% (2 to 47) | 0% (0 to 32) | 0% (0 to 32) |" in text
    assert "| NAG | -88 (-246 to 71) | -100 (-100 to -100) | +0 (0 to 0) |" in text
    assert "| a square | frame | 100% / 100% | 25% / 0% |" in text and "| colour | 100% / 100% | 0% / 0% |" in text
