"""Small worlds that the playground's models paint: what their prompts say and what their pictures show.

Each leaves much to habit, which is what a negative prompt has to fight, as it fights glasses on portraits. A world is a
module with

    name, FRAMES (pictures are (3, 32, 32), clips (3, FRAMES, 32, 32), from -1 to 1)
    WORDS, MAX_WORDS of a prompt, words_of(text)
    Scene: what a prompt says, with None for what it leaves open
    random_request(rng) -> (prompt, Scene); describe(Scene) -> prompt; complete(Scene, rng) -> Scene, filled in by habit
    draw(complete Scenes, rng) -> (B, 3, 32, 32) or (B, 3, FRAMES, 32, 32)
    without_habit(rng) -> complete Scene in which everything is equally likely
    KINDS, FACTS: all that a picture can show, by kinds and in one tuple; FORMS: the kinds that are a matter of form
    facts(complete Scene) -> frozenset of FACTS
    shows(facts, Scene): whether all is there that a prompt says
    hints(facts, negative): whether anything is there that a negative names
    CASES: Scenes, each with a negative that names what habit would put there
    off_palette(pictures) -> (B,) share of pixels of no colour of this world, or None where any colour may be

and `rng` is a random.Random everywhere.
"""
from . import clips, emoji, shapes

WORLDS = {world.name: world for world in (shapes, clips, emoji)}
