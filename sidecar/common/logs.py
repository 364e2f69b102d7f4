"""How the sidecar logs: a human-readable line, or one JSON object per line. To stderr."""

import json
import logging
import sys
import time
from typing import Literal


class _HumanFormatter(logging.Formatter):
    """``14:02:11 warning port 13306: ...``; the time of day is enough beside a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else record.levelname.lower() + ": "
        text = f"{clock}  {level}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _JSONFormatter(logging.Formatter):
    """``{"time": ..., "level": ..., "logger": ..., "message": ...}``, times in UTC; then what the
    line is about (`sidecar.common.log_fields`)."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "about", {}),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def set_up_logging(style: Literal["auto", "human", "json"], level: str) -> logging.Logger:
    """Send this process's logs to stderr; ``auto`` is human on a terminal, else JSON. Returns the
    logger of those that have none of their own."""
    human = style == "human" or (style == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_HumanFormatter() if human else _JSONFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    return logging.getLogger("sidecar")
