"""`python -m services.gateway`: the gateway as a process of its own."""

from functools import partial

from fased.alone import run_service
from fased.settings import read
from services.gateway.service import open_service
from services.gateway.settings import Settings

if __name__ == "__main__":
    settings = read(Settings)
    run_service("gateway", settings, partial(open_service, settings=settings))
