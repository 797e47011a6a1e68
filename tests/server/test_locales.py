"""The nodes' texts in four languages: English as the nodes say it, the others complete."""
import json

import pytest
from host.server import PACK

LOCALES = PACK / "locales"
TRANSLATIONS = ["ja", "ko", "zh"]
KEPT = {  # what the field calls by these names in every language, and nodes that people know by their id
    *("nag_scale", "nag_tau", "nag_alpha", "nag_sigma_end", "cfg"),
    *("KSamplerWithNAG", "KSamplerWithNAG (Advanced)", "SamplerCustomWithNAG"),
}


def texts_of(schema):
    """A node's texts in the form that the frontend reads; an output without a name of its own is called by its type."""
    inputs = {
        part.id: {"name": part.display_name or part.id, "tooltip": getattr(part, "input_override", part).tooltip}
        for part in schema.inputs
    }
    outputs = {
        str(index): {"name": part.display_name, "tooltip": part.tooltip} if part.display_name
        else {"tooltip": part.tooltip}
        for index, part in enumerate(schema.outputs)
    }  # fmt: skip
    return {
        "display_name": schema.display_name, "description": schema.description, "inputs": inputs, "outputs": outputs
    }  # fmt: skip


def flat(texts, *path):
    """{its keys joined by " > ": text}; node ids may have dots, spaces and brackets in them."""
    if not isinstance(texts, dict):
        return {" > ".join(path): texts}
    found = {}
    for key, inner in texts.items():
        found.update(flat(inner, *path, key))
    return found


def read(language):
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def said(nodes):
    """What the nodes say."""
    schemas = [node.GET_SCHEMA() for node in [*nodes.NODES, *nodes.BESIDE_RAYLIGHT]]
    return flat({schema.node_id: texts_of(schema) for schema in schemas})


@pytest.fixture(scope="module")
def english(said):
    """The names of the nodes are theirs alone, as they differ between ComfyUI's versions: see nodes/search.py."""
    return {**{key: text for key, text in said.items() if key.endswith("> display_name")}, **flat(read("en"))}


def test_english_is_what_the_nodes_say(said, english):
    """Else a translation may be of a text that has changed: where this fails, translate the texts that it names."""
    assert not any("display_name" in node for node in read("en").values()), "it would hide the nodes' own"
    stale = [
        f"{key}\n  nodes/:     {said.get(key)}\n  locales/en: {english.get(key)}"
        for key in sorted(said.keys() | english.keys())
        if said.get(key) != english.get(key)
    ]
    assert not stale, "change these in every language of locales/:\n" + "\n".join(stale)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_translation_is_complete(english, language):
    texts = flat(read(language))
    assert sorted(texts.keys() ^ english.keys()) == [], "missing, or too many"
    untranslated = [key for key, text in english.items() if text not in KEPT and texts[key].strip() in ("", text)]
    assert untranslated == []
    changed = [key for key, text in english.items() if text in KEPT and texts[key] != text]
    assert changed == []


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_one_text_has_one_translation(english, language):
    """Else the English was changed at one node, and its translation at another."""
    texts, translated = flat(read(language)), {}
    for key, text in english.items():
        translated.setdefault(text, set()).add(texts[key])
    assert {text: found for text, found in translated.items() if len(found) > 1} == {}


@pytest.mark.parametrize("language", ["en", *TRANSLATIONS])
def test_nothing_that_the_frontend_takes_for_its_own_syntax(language):
    """vue-i18n fills in braces, follows what comes after an @, and parts singular from plural at a |."""
    assert [key for key, text in flat(read(language)).items() if set(text) & set("{}@|")] == []


def test_the_server_hands_them_out(client):
    handed_out = json.loads(client.get("/i18n"))
    for language in ["en", *TRANSLATIONS]:
        assert handed_out[language]["nodeDefs"] == read(language)
