"""What the deciding loop tells the crew to do; every order is answered by exactly one fact."""

from dataclasses import dataclass
from enum import StrEnum

from pilot.model.files import What


class Kind(StrEnum):
    """The orders there are."""

    CLAIM = "claim"
    FETCH = "fetch"
    START = "start"
    ADOPT = "adopt"
    CHECKPOINT = "checkpoint"
    STOP = "stop"
    VALIDATE = "validate"
    STORE = "store"
    STORE_CHECKPOINT = "store-checkpoint"
    REPORT = "report"
    RETURN = "return"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True)
class Order:
    """One thing to be done for one job. `abandons` names the kind whose running order is to be given up first."""

    key: str
    kind: Kind
    ticket: int
    what: What = What.ALL
    abandons: Kind | None = None


@dataclass(frozen=True, slots=True)
class GiveBack:
    """To the ledger, at once: the job holds its share no more; `retire` keeps tainted devices out of use."""

    key: str
    retire: bool = False
