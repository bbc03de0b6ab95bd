"""A server extension that prints where the workshop is, as the last thing once the server answers."""

import os
from urllib.parse import urlencode

MESSAGE = """
The workshop is ready. Open this address in your browser:

    http://127.0.0.1:{port}/lab/tree/notebooks/workshop.ipynb?{query}

Stop it with Ctrl+C here, or with `docker compose stop`.
"""


def _load_jupyter_server_extension(server):
    pass


async def _start_jupyter_server_extension(server):
    port = os.environ.get("JUPYTER_PORT") or 8888
    query = urlencode({"token": server.identity_provider.token})
    print(MESSAGE.format(port=port, query=query), end="", flush=True)
