"""Stand-ins for what PanDA's server imports and no call of a pilot reaches: workflow engines, Rucio, data frames.

They weigh 500 MB and take most of its start. Whatever is asked of one of them is an exception class that says so, so
that `except` clauses and base classes work, and a real use is an error in the server's log, never a silent success.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

ABSENT = ("cwl_utils", "idds", "numpy", "pandaclient", "polars", "ruamel", "rucio", "scipy", "snakemake", "stomp")


class StandIn(ModuleType):
    """A module that has every name."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = Named(name, (NotInTheBed,), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class Named(type):
    """A class some of whose switches are set when a module is imported (`polars.Config.set_...`)."""

    def __getattr__(cls, name: str) -> Callable[..., None]:
        if not name.startswith("set_"):
            raise AttributeError(name)
        return lambda *_, **__: None


class NotInTheBed(Exception, metaclass=Named):
    """Nothing of this module can be used; it can be named."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__(f"{type(self).__module__}.{type(self).__name__} is not in the test bed")
        if type(self) is not NotInTheBed:
            raise NotImplementedError(str(self))


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the absent ones, wherever they are looked for."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in ABSENT:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def install() -> None:
    sys.meta_path.insert(0, Finder())
