"""Front processes before one engine: `KORE_HTTP_PROCESSES=N`.

supervisor.py  the process that the user starts: starts the others, and starts again what dies
engine.py      the process that owns the bundle, the queue and the device
fronts.py      the engine's end of the connections: its fronts, and the pools that they hold
front.py       a process that accepts, reads, checks and tokenises requests
remote.py      a front's end: a service and a pool for the routes, as `api/seam.py` wants them
wire.py        the messages between fronts and engine
channel.py     a connection that carries them
orders.py      the pipe over which the supervisor tells the others what to do
child.py       what the supervisor hands to a process that it starts
"""
