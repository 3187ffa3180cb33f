"""Access tokens stay out of logs, whichever library writes the line.

Every record is looked through when it is made, its traceback included, so that no handler, of this
package or another's, sees a token.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from typing import Any

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
HIDDEN = "[hidden token]"
_TOKENS = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{8,}")
_SHORTEST = 8
"""A variable's value that is shorter is no token, and may be a part of other words."""


def hide(text: str) -> str:
    """Return the text with access tokens of the Hub replaced."""
    for name in TOKEN_VARIABLES:
        token = os.environ.get(name, "").strip()
        if len(token) >= _SHORTEST:
            text = text.replace(token, HIDDEN)
    return _TOKENS.sub(HIDDEN, text)


def hide_in_logs() -> None:
    """From now on no record of this process's logs holds a token; may be called again."""
    before = logging.getLogRecordFactory()
    if getattr(before, "hides_tokens", False):
        return

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        return _without_tokens(before(*args, **kwargs))

    make.hides_tokens = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)


def _without_tokens(record: logging.LogRecord) -> logging.LogRecord:
    try:
        said = record.getMessage()
    except Exception:
        return record  # the handler says what is wrong with it
    hidden = hide(said)
    if hidden != said:
        record.msg, record.args = hidden, ()
    if record.exc_info and record.exc_info[0] is not None:
        said = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        hidden = hide(said)
        if hidden != said:
            record.exc_text = hidden  # formatters take this in place of their own
    return record
