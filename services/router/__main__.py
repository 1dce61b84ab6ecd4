"""`python -m services.router`: the router service as a process of its own."""

from fased.alone import run_service
from fased.settings import SharedSettings, read
from services.router.service import open_service

if __name__ == "__main__":
    run_service("router", read(SharedSettings), open_service)
