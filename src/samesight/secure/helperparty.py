"""The helper: lends its machine to sessions of others, without any data of its own."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress

from samesight.errors import PartyError
from samesight.progress import say
from samesight.secure.party import (
    LINK_SECONDS,
    RUN_SECONDS,
    Place,
    figures_of,
    join,
    one_line,
    sign_in,
    started,
)
from samesight.secure.process import EngineProcess
from samesight.secure.ways import ways
from samesight.secure.wire import Channel, Inbox

__all__ = ["serve_helper"]


def serve_helper(place: Place, *, sessions: int | None = None) -> int:
    """Lend this machine to sessions, without any data; how many ended well.

    Raises PartyError where the model's party cannot be reached, or where the only session fails.
    """
    place.check()
    done = well = 0
    while sessions is None or done < sessions:
        with ExitStack() as stack:
            inbox = Inbox()
            channel = sign_in(place, "helper")
            stack.callback(channel.close)
            inbox.watch("model", channel.heard)
            engine = stack.enter_context(started(place, inbox))
            places = stack.enter_context(ways(place, "helper"))
            say("signed in as the helper; waiting for an image's owner")
            done += 1
            try:
                join(inbox, channel, engine, place, "helper", places)
                _help(inbox, channel, engine)
                well += 1
            except PartyError as error:
                with suppress(PartyError):
                    channel.send("stop", why=one_line(error))
                if sessions == 1:
                    raise
                say(f"session ended: {one_line(error)}")
                time.sleep(0.5)
    return well


def _help(inbox: Inbox, channel: Channel, engine: EngineProcess) -> None:
    while _next_order(inbox) == "run":
        engine.order("run")
        ran = inbox.expect("engine", "run", RUN_SECONDS)
        channel.send("ran", **figures_of(ran))
    engine.order("end")
    inbox.expect("engine", "end", LINK_SECONDS)
    engine.end()


def _next_order(inbox: Inbox) -> str:
    """What the model's party says next: run, or bye. Raises PartyError for anything else."""
    name, message = inbox.next()
    if name != "model" or message["kind"] not in ("run", "bye"):
        raise PartyError("another party said something unexpected", found=message["kind"][:50])
    return str(message["kind"])
