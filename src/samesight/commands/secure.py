"""The network under encryption: who owns the image and who owns the network never see each other's data.

  check BUNDLE        can this network run on a secure engine, and if not, what keeps it from it
  export BUNDLE       the files that another engine reads, proved to hold the same network
  run BUNDLE PHOTO…   a secure run with all parties on this machine, to try it out
  party --role ROLE   one party, on its own machine, with its own data only
  certificates        an authority and a certificate a party
  setup               install the secure engine into an environment of its own (0.85 GB)

`samesight secure check --help` and so on tell the rest; docs/secure.md tells who must be trusted, for what.

Exit code: 0 yes, 1 checked and no, 2 could not check."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from samesight.commands.securefiles import add_check, add_export
from samesight.commands.secureruns import add_certificates, add_party, add_run, add_setup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `samesight secure`."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_check(commands)
    add_export(commands)
    add_run(commands)
    add_party(commands)
    add_certificates(commands)
    add_setup(commands)


def run(args: argparse.Namespace) -> int:
    """Carry out one action; the exit code."""
    action: Callable[[argparse.Namespace], int] = args.run_action
    return action(args)
