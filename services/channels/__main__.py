"""`python -m services.channels`: the channels service as a process of its own."""

from fased.alone import run_service
from fased.settings import SharedSettings, read
from services.channels.service import open_service

if __name__ == "__main__":
    run_service("channels", read(SharedSettings), open_service)
