"""What a prompt's client is told while it runs."""
import asyncio
import json

import aiohttp


async def messages_of(client, graph, event="nag.statistics"):
    """Queue a prompt; what its client is told by these messages until the prompt has ended."""
    messages = []
    address = f"{client.url}/ws?clientId={client.id}"
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
        await socket.receive()
        prompt_id = await asyncio.to_thread(client.submit, graph)
        while True:
            message = await asyncio.wait_for(socket.receive(), 120)
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            message = json.loads(message.data)
            if message["type"] == event:
                messages.append(message["data"])
            elif message["type"] == "executing" and message["data"]["node"] is None:
                return prompt_id, messages
