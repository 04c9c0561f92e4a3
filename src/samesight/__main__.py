"""`python -m samesight`."""

from samesight.cli import start

start()
