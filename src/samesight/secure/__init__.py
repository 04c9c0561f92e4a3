"""The network under encryption: the image's owner and the model's owner never see each other's data.

graph.py  rewrite.py  check.py   what a network is here; the rewrites that change no answer; who can run it
export.py  formats/              files for other engines, and the proof that they hold the same network
jaxnet.py  program.py            the network as a secure program (jax and spu, in an environment of their own)
stages.py  signs.py  compiled.py  its parts: what the engine runs, and the signs of numbers, 64 at a time
wire.py  ways.py  process.py      messages between the parties; between their engines; an engine as a process
party.py  …party.py  local.py    what parties have in common; each of them; all on one machine

Nothing here imports torch. jax and spu are imported by jaxnet, stages, compiled and program alone.
"""

from __future__ import annotations
