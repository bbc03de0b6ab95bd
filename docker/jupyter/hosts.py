"""A server extension that refuses every request which asks for the server under a foreign name.

A page in the browser may point its own name at this machine (DNS rebinding) and then counts as the server's
own. Its requests still carry that name in their ``Host`` header.
"""

import os

from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import RequestHandler

LOCAL = {"127.0.0.1", "localhost", "[::1]"}
REFUSAL = "This server answers to 127.0.0.1 and localhost, and to JUPYTER_HOSTNAMES in .env.\n"


class ForeignHost(Matcher):
    """Matches the requests whose ``Host`` is none of the server's names, whatever their path."""

    def __init__(self, names):
        self.names = names

    def match(self, request: HTTPServerRequest) -> dict | None:
        """Return no arguments for the handler, or None where the next rule is to be asked."""
        return None if request.host_name in self.names else {}


class Refusal(RequestHandler):
    """Answers with 403 and one sentence."""

    def check_xsrf_cookie(self):
        """Leave it to `prepare`, which refuses everything."""

    def prepare(self):
        """Answer before anything of the request is looked at."""
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(REFUSAL)


def _load_jupyter_server_extension(server):
    names = os.environ.get("JUPYTER_HOSTNAMES", "").lower().replace(",", " ").split()
    server.web_app.default_router.rules.insert(0, Rule(ForeignHost(LOCAL.union(names)), Refusal))
