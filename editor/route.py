"""Answers the editor over HTTP."""
import asyncio

from aiohttp import web

from ..nodes.comfyui import running_server
from .graph import Graph
from .plan import plan

PATH = "/nag/plan"


def serve() -> None:
    """Add the route to ComfyUI's server, if there is one. To be called while the pack is loaded."""
    server = running_server()
    if server is not None:
        server.routes.post(PATH)(answer)


async def answer(request: web.Request) -> web.Response:
    """The plan of the graph in the request's body; status 400 if that is no graph."""
    try:
        graph = Graph(await request.json())
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)
    # Not in the server's own thread: a model file that is new to us may take a second.
    return web.json_response(await asyncio.get_running_loop().run_in_executor(None, plan, graph))
