"""The command line: which commands there are. A command's own module is imported only when it is named.

Exit codes: 0 yes, 1 checked and no, 2 could not check (wrong input among it), 130 stopped from the keyboard.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from samesight import __version__
from samesight.errors import SamesightError
from samesight.terminal import steady

# name → (module, one line); the order is that of the work
COMMANDS = {
    "demo": ("demo", "the main job on embedded data, in a few minutes"),
    "build": ("build", "photos to a verified bundle, in one go"),
    "data": ("data", "read photos, check them, split them, write what was found"),
    "models": ("models", "pretrained networks: accuracy against cost; layers and a picture of one"),
    "train": ("train", "fine-tune a pretrained network on photos"),
    "export": ("export", "turn a run, or a checkpoint trained elsewhere, into a bundle"),
    "quantize": ("quantize", "add an int8 copy to a bundle, within a budget of accuracy"),
    "verify": ("verify", "prove that every copy in a bundle still gives the same answer"),
    "predict": ("predict", "classify photos with a bundle, without PyTorch"),
    "bench": ("bench", "measure copies and engines on this machine, or compare pretrained networks"),
    "serve": ("serve", "answer over HTTP: the Open Inference Protocol, and a page to drop photos on"),
    "show": ("show", "what a bundle holds"),
    "web": ("web", "turn a bundle into a page that classifies and proves itself in the browser"),
    "report": ("report", "one HTML page of a run, a bundle, or both"),
    "secure": ("secure", "the network under encryption: check, export to other engines, run"),
    "sign": ("sign", "make a key, or sign a bundle with one"),
    "run": ("run", "run a recipe: a whole chain described in one file"),
    "fetch": ("fetch", "download a file and check it against a pinned SHA-256"),
    "subset": ("subset", "make a small labelled subset of the ImageNet validation set"),
}


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items())
    return (
        "samesight: from a folder of labelled photos to one verified model that gives the same answer "
        "everywhere\n\nusage: samesight COMMAND ...\n\ncommands:\n"
        f"{rows}\n\n'samesight COMMAND --help' tells the rest; 'samesight --version' prints the version.\n"
        "Start with: samesight build PHOTOS --model mobilenet_v2\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label that stdout cannot encode is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview(), end="")
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"samesight {__version__}")
        return 0
    if words[0] not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"samesight {near[0]} --help" if near else "samesight --help"
        print(f"error: there is no command '{words[0]}'\n  try:      {hint}", file=sys.stderr)
        return 2
    module_name, line = COMMANDS[words[0]]
    module = importlib.import_module(f"samesight.commands.{module_name}")
    parser = argparse.ArgumentParser(
        prog=f"samesight {words[0]}",
        description=module.__doc__ or line,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(words[1:])))
    except SystemExit as stop:  # argparse: 0 after --help, 2 after wrong options
        return int(stop.code or 0)
    except SamesightError as error:
        print(f"error: {steady(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def start() -> NoReturn:
    """Run one command as this process, which ends with its exit code.

    Where not even numpy was imported, nothing is left to be finished but what was printed. Python is then not
    taken apart, which would be a fifteenth of the time of one photo.
    """
    code = main()
    if "numpy" not in sys.modules:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:  # the reader went away; Python has its way of saying so
            sys.exit(code)
        os._exit(code)
    sys.exit(code)
