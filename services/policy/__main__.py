"""`python -m services.policy`: the policy service as a process of its own."""

from fased.alone import run_service
from fased.settings import SharedSettings, read
from services.policy.service import open_service

if __name__ == "__main__":
    run_service("policy", read(SharedSettings), open_service)
