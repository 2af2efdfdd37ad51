"""Notices of subscribers' threads, which may have something to report after the last event."""

import logging
from collections.abc import Callable

from keisei_ray.telemetry import events as ev


def publish_or_log(
    publish: Callable[[ev.Event], object], notice: ev.Notice, logger: logging.Logger
) -> None:
    """Publishes a notice, or logs it if the bus is closed already.

    For threads of subscribers, which may have something to report after the run's last event.
    """
    try:
        publish(notice)
    except RuntimeError:  # The bus is closed.
        logger.log(logging.getLevelNamesMapping()[notice.level], "%s", notice.message)
