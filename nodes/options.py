"""What few people change, kept out of the other nodes."""
from comfy_api.latest import io

from ..patches.settings import ALL_BLOCKS, EQUATIONS, IMAGE_STREAMS, MODALITIES, RANGES, SCHEDULES
from .inputs import AUTO, NagOptions, number_or_auto, options

STRENGTHS = "1, 0.75, 0.5, 0.25"  # an example


class NAGOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGOptions",
            display_name="NAG Options",
            category="advanced/guidance",
            description="When NAG acts, by which equation and in which blocks, how Flux computes its image stream, and "
            "whether the editor shows what NAG did.",
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
                io.Combo.Input(
                    "equation",
                    options=list(EQUATIONS),
                    default=EQUATIONS[0],
                    optional=True,
                    tooltip="How the negative moves the picture. nag: Normalized Attention Guidance. Others are for "
                    "comparison; vsf and nasa have neither nag_tau nor nag_alpha, and need a much smaller "
                    "nag_scale, as auto is.",
                ),
                io.Float.Input(
                    "vsf_offset",
                    default=0.0,
                    min=RANGES["vsf_offset"][0],
                    max=RANGES["vsf_offset"][1],
                    step=0.1,
                    round=0.001,
                    optional=True,
                    tooltip="For the equation vsf only: how much less the picture attends to the negative. More is "
                    "tamer.",
                ),
                io.Combo.Input(
                    "schedule",
                    options=list(SCHEDULES),
                    default=SCHEDULES[0],
                    optional=True,
                    tooltip="How strong NAG is over its steps. linear and cosine fall to zero, list takes strengths.",
                ),
                io.String.Input(
                    "strengths",
                    default=STRENGTHS,
                    optional=True,
                    tooltip="For the schedule list only: a factor on the strength for each step, 0 to 2, with commas "
                    "between. The last holds for the steps that follow.",
                ),
                io.String.Input(
                    "blocks",
                    default=ALL_BLOCKS,
                    optional=True,
                    tooltip="Which of the model's blocks NAG acts in: all, numbers such as 0-11,18, or names such as "
                    "double, single, input 4-8, middle.",
                ),
            ],
            outputs=[NagOptions.Output(display_name="options", tooltip="For the options input of a NAG node.")],
        )

    @classmethod
    def validate_inputs(
        cls, start_percent=None, end_percent=None, schedule=None, strengths=None, blocks=None
    ) -> bool:
        """Raises ValueError: what is returned as wrong ComfyUI says once for each of these inputs."""
        # None stands for what another node is to bring; it is checked when the node runs.
        schedule = None if strengths is None else schedule
        options(
            start_percent=start_percent, end_percent=end_percent, schedule=schedule, strengths=strengths, blocks=blocks
        )
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
        **more,
    ) -> io.NodeOutput:
        """more: the other inputs, by name."""
        made = options(
            start_percent=start_percent, end_percent=end_percent, image_stream=image_stream, statistics=statistics,
            modality=modality, unknown_models=unknown_models, **more,
        )  # fmt: skip
        return io.NodeOutput(made)
