"""What few people change, kept out of the other nodes."""
from comfy_api.latest import io

from ..patches.settings import IMAGE_STREAMS, MODALITIES, Options
from .inputs import AUTO, NagOptions, number, number_or_auto


class NAGOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGOptions",
            display_name="NAG Options",
            category="advanced/guidance",
            description="When NAG acts, how Flux computes its image stream, and whether the editor shows what NAG did.",
            inputs=[
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Where in the sampling NAG starts: 0 is the first step, 1 the end.",
                ),
                number_or_auto(
                    "end_percent",
                    1.0,
                    0.001,
                    "Where in the sampling NAG stops; the steps after it cost nothing extra. auto: where that suits "
                    "the model, else at the end.",
                    optional=False,
                ),
                io.Combo.Input(
                    "image_stream",
                    options=list(IMAGE_STREAMS),
                    default=IMAGE_STREAMS[0],
                    tooltip="Flux only. shared is much faster, separate paints as the authors' code does.",
                ),
                io.Boolean.Input(
                    "statistics",
                    default=False,
                    optional=True,
                    tooltip="Shows on the NAG node what NAG did at each step. Takes a little time.",
                ),
                io.Combo.Input(
                    "modality",
                    options=list(MODALITIES),
                    default=MODALITIES[0],
                    optional=True,
                    tooltip="LTX-2 only. What NAG guides: picture and sound, or one of the two.",
                ),
                io.Boolean.Input(
                    "unknown_models",
                    default=True,
                    optional=True,
                    tooltip="For models that are not in NAG's list: NAG looks for its way in by itself. Off: they are "
                    "refused.",
                ),
            ],
            outputs=[NagOptions.Output(display_name="options", tooltip="For the options input of a NAG node.")],
        )

    @classmethod
    def validate_inputs(cls, start_percent=None, end_percent=None) -> bool | str:
        # None stands for what another node is to bring; it is checked when the node runs.
        try:
            Options(start_percent or 0.0, number("end_percent", end_percent))
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        start_percent=0.0,
        end_percent=AUTO,
        image_stream=IMAGE_STREAMS[0],
        statistics=False,
        modality=MODALITIES[0],
        unknown_models=True,
    ) -> io.NodeOutput:
        end = number("end_percent", end_percent)
        return io.NodeOutput(Options(start_percent, end, image_stream, statistics, modality, unknown_models))
