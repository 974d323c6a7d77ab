"""`is_alive`: there on every PanDA server; ours says that it knows more."""

from pilot.queue.service.call import ANYBODY, Call, Caller
from pilot.queue.service.state import Service
from pilot.wire import calls
from pilot.wire.calls import ALIVE, discovery


async def alive(service: Service, _caller: Caller, _asked: object) -> object:
    """The calls of our own that this server has."""
    mute = () if service.setting.storage else ("storage_token",)
    return discovery(tuple(each for each in calls.CALLS if each not in mute))


CALLS = (Call("GET", ALIVE, ANYBODY, "Says that the service is there, and which calls of our own it has.", alive),)
