"""`python -m p2p` is `handover`."""

from .cli import main

main(prog_name="handover")
