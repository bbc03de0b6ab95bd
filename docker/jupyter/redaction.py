"""A filter that keeps the token out of the log; an address in a message may have it as an argument."""

import logging
from urllib.parse import quote, quote_plus


class Redaction(logging.Filter):
    """Puts ``[secret]`` in the place of a token, as it is and as addresses write it."""

    def __init__(self, token):
        super().__init__()
        self.spellings = {token, quote(token), quote(token, safe=""), quote_plus(token)}

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the message and let it through."""
        message = record.getMessage()
        for spelling in self.spellings:
            message = message.replace(spelling, "[secret]")
        record.msg, record.args = message, ()
        return True
