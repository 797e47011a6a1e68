"""Small prompts on the playground's model, for the tests that queue them."""


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def painting(negative="red", prompt="a circle", guided=True, **nag):
    """Two pictures in four steps by the stock KSampler at cfg 1, with NAGModel between loader and sampler or not."""
    return {
        "loader": node("NAGPlaygroundLoader"),
        "prompt": node("CLIPTextEncode", clip=["loader", 1], text=prompt),
        "negative": node("CLIPTextEncode", clip=["loader", 1], text=negative),
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=2),
        "nag": node("NAGModel", model=["loader", 0], **nag),
        "sampler": node("KSampler", model=["nag" if guided else "loader", 0], seed=0, steps=4, cfg=1.0,
                        sampler_name="euler", scheduler="simple", positive=["prompt", 0], negative=["negative", 0],
                        latent_image=["latent", 0], denoise=1.0),
        "decoded": node("VAEDecode", samples=["sampler", 0], vae=["loader", 2]),
        "picture": node("PreviewImage", images=["decoded", 0]),
    }


def custom_painting(guider, **inputs):
    """The same by SamplerCustomAdvanced with a guider; `inputs` are the guider's."""
    graph = painting()
    graph["guider"] = node(guider, **inputs)
    graph["noise"] = node("RandomNoise", noise_seed=0)
    graph["euler"] = node("KSamplerSelect", sampler_name="euler")
    graph["sigmas"] = node("BasicScheduler", model=["loader", 0], scheduler="simple", steps=4, denoise=1.0)
    graph["sampler"] = node("SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["euler", 0],
                            sigmas=["sigmas", 0], latent_image=["latent", 0])
    return graph
