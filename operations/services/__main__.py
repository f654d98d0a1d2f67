"""Starts and stops the servers: ``python -m operations.services``."""

from conf.command import run
from operations.services import main

run(main)
