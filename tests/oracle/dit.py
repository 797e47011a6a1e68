"""What the oracles of transformers share: streams of tokens, and the places where other nodes come in."""


class Stream:
    """Tokens, (batch, tokens, width), and the vector that modulates them, where there is one."""

    def __init__(self, x, vec=None):
        self.x, self.vec = x, vec


class Others:
    """What other nodes do to a transformer; by itself nothing."""

    def entered(self, text, image):
        """The positive's text, (batch, tokens, width), as it goes into the first block."""
        return text

    def around(self, place, texts, images, run):
        """Run a block: `place` is ComfyUI's name for it, such as ("double_block", 0); `run` works on the streams."""
        run()
