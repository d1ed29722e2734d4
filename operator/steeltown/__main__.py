"""`python -m steeltown`: the operator."""

from __future__ import annotations

import asyncio
import os
import sys

from .app import logs
from .app.main import serve
from .app.settings import Settings
from .core.planners import PLANNERS


def main() -> None:
    settings = Settings.read(sys.argv[1:], os.environ)
    logs.configure(settings.log_level)
    try:
        settings.check_images()
    except ValueError as error:
        sys.exit(f"steeltown: {error}")
    asyncio.run(serve(settings, planners=PLANNERS, policy=settings.policy))


if __name__ == "__main__":
    main()
