"""The ATLAS tW dilepton ntuple: which events and branches the demo learns from, and how they are split.

Label: electron-muon (`elmu`) against same-flavour (`elel`, `mumu`). Left out as features, because they give the
flavour or the region away by construction or are no kinematics: the flags (`OS`, `SS`, `reg*`), event and run
numbers, every `weight_*` (electron and muon scale factors differ from 1 only where there is such a lepton), and what
comes from b-tagging (`nbjets`, `mv2c10_jetF`, `DL1_jetF`, `minimaxmbl`). `DL1_jetF` is the trap: it is 0 in every
electron-muon event and filled in 44 % of the others, which lifts the AUC to 0.85 and means nothing.

What is left can still tell the two apart, but not because leptons differ: the analysis cuts harder on same-flavour
pairs (see `passes_same_flavour_cuts`). The classifier finds those cuts by itself; where both kinds pass them it
scores 0.5, as lepton universality says it should. The metrics therefore give both figures.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TREE = "WtLoop_nominal"
HELD_OUT = 0.3  # the share of events that no training sees
FEATURES = (
    *("met", "sumet", "njets"),
    *("pT_lep1", "pT_lep2", "pT_jet1", "pT_jet2", "pT_jetF"),
    *("eta_lep1", "eta_lep2", "eta_jet1", "eta_jet2", "eta_jetF", "eta_lep1lep2jet1met"),
    *("pTsys_lep1lep2jet1met", "pTsys_lep1lep2jet1", "pTsys_lep1lep2", "pTsys_jet1jet2", "pTsys_lep1lep2met"),
    *("pTsys_lep1lep2jet1jet2met", "pTsys_lep1jet1", "pTsys_lep1jet1met"),
    *("sigpTsys_lep1lep2jet1met", "sigpTsys_lep1lep2jet1jet2met"),
    *("deltapT_lep1_lep2", "deltapT_lep1_met", "deltapT_lep1_jet1", "deltapT_lep1_lep2jet1met"),
    *("deltapT_lep2_jet2", "deltapT_lep1lep2_met", "deltapT_lep1lep2_jet1met", "deltapT_lep1lep2jet1_met"),
    *("deltapT_jet1_met", "deltaR_lep1_jet1", "deltaR_lep1_jet2", "deltaR_lep2_jet1", "deltaR_lep2_jet2"),
    *("deltaR_lep1lep2_jet2", "deltaR_lep1_lep2", "deltaR_lep1lep2_jet1jet2met", "deltaR_lep1lep2_jet1jet2"),
    *("deltaR_lep1lep2jetC_jetF", "mass_lep2jet1", "mass_lep1jet2", "mass_jet1jet2", "mass_lep2jet2"),
    *("mass_lep1jet1", "mass_lep1lep2", "mass_lep2jet1jet2", "mass_lep1lep2jet1jet2", "mT_jet1met"),
    *("eom_lep1lep2jet2", "cent_lep1lep2", "cent_lep1jet1", "cent_lep2jet2", "cent_lep1lep2jetF"),
)

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.uint64]


@dataclass(frozen=True)
class Events:
    """Events in the order of the file: identity, features, label (1 = elmu), and whether common cuts pass."""

    numbers: Numbers
    features: Floats
    labels: Labels
    common: Mask

    def __getitem__(self, chosen: Mask) -> "Events":
        """The chosen events."""
        return Events(self.numbers[chosen], self.features[chosen], self.labels[chosen], self.common[chosen])


def read(path: Path) -> Events:
    """Read the events; one that is not of exactly one flavour kind means a wrong file."""
    import uproot

    flavours = ("elmu", "elel", "mumu")
    with uproot.open(path) as file:
        columns = file[TREE].arrays([*FEATURES, *flavours, "eventNumber"], library="np")
    if not (sum(columns[name].astype(int) for name in flavours) == 1).all():
        raise ValueError(f"{path}: events without exactly one of {flavours}: not the dilepton ntuple")
    features = np.stack([columns[name].astype(np.float32) for name in FEATURES], axis=1)
    if not np.isfinite(features).all():
        raise ValueError(f"{path}: a feature is not finite")
    common = passes_same_flavour_cuts(columns["met"], columns["mass_lep1lep2"])
    return Events(columns["eventNumber"], features, columns["elmu"].astype(np.int64), common)


def passes_same_flavour_cuts(met: Floats, mass: Floats) -> Mask:
    """The analysis's cuts on same-flavour pairs (GeV), read off the data: every elel and mumu event passes them.

    Missing momentum above 40, mass above 40, no Z window, and more missing momentum the nearer the pair is to the Z.
    """
    below, above = (mass < 81) & (4 * met > 5 * mass), (mass > 101) & (met > 300 - 2 * mass)
    return (met > 40) & (mass > 40) & (below | above)


def held_out(numbers: Numbers, seed: int) -> Mask:
    """Which events no training sees: drawn by event number and seed, whatever the order in the file."""
    order = np.argsort(numbers)
    chosen = np.random.default_rng(seed).permutation(len(numbers))[: round(HELD_OUT * len(numbers))]
    mask = np.zeros(len(numbers), dtype=bool)
    mask[order[chosen]] = True
    return mask


def fingerprints(features: Floats) -> Numbers:
    """64 bits per row of features: an event under another number is still the same event."""
    rows = np.ascontiguousarray(features, dtype="<f4")
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
