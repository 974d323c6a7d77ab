"""Smoke test of the image ml-base: every library does one small piece of its real work."""

import importlib.util
import io
import sys
import tempfile
from pathlib import Path

import awkward
import h5py
import hist
import lightgbm
import matplotlib as mpl
import numpy as np
import onnxruntime
import pandas
import pyarrow.parquet
import pyhf
import skl2onnx
import uproot
from sklearn.ensemble import HistGradientBoostingClassifier

mpl.use("Agg")
RANDOM = np.random.default_rng(1)


def files(folder: Path) -> None:
    """ROOT, HDF5 and Parquet come back as they were written."""
    values = np.arange(100.0)
    with uproot.recreate(folder / "a.root") as file:
        file["tree"] = {"x": values}
    with uproot.open(folder / "a.root") as file:
        assert awkward.sum(file["tree"]["x"].array()) == values.sum()
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = values
    with h5py.File(folder / "a.h5") as file:
        assert file["x"][...].sum() == values.sum()
    pandas.DataFrame({"x": values}).to_parquet(folder / "a.parquet")
    assert pyarrow.parquet.read_table(folder / "a.parquet").num_rows == len(values)


def learning() -> None:
    """A boosted classifier learns, and its ONNX form gives the same answers."""
    x = RANDOM.normal(size=(500, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    model = HistGradientBoostingClassifier(max_iter=5).fit(x, y)
    onnx = skl2onnx.to_onnx(model, x[:1], options={"zipmap": False})
    session = onnxruntime.InferenceSession(onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    scores = session.run(None, {session.get_inputs()[0].name: x})[1]
    assert np.allclose(scores, model.predict_proba(x), atol=1e-4)
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(x, label=y), 5)
    assert ((booster.predict(x) > 0.5) == y).mean() > 0.95


def statistics() -> None:
    """A histogram is filled, a model is fitted, a picture is drawn."""
    counts = hist.Hist.new.Reg(10, -3, 3).Double().fill(RANDOM.normal(size=1000))
    assert 900 < counts.sum() <= 1000
    model = pyhf.simplemodels.uncorrelated_background(signal=[5.0], bkg=[10.0], bkg_uncertainty=[3.0])
    assert 0 < float(pyhf.infer.hypotest(1.0, [12.0, *model.config.auxdata], model, test_stat="qtilde")) < 1
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot([0, 1], [0, 1])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def byte_code() -> None:
    """The byte code stayed in: a start without it takes seconds more."""
    for module in (np, uproot, pandas):
        cached = importlib.util.cache_from_source(str(module.__file__))
        assert Path(cached).exists(), cached


with tempfile.TemporaryDirectory() as name:
    files(Path(name))
learning()
statistics()
byte_code()
sys.stdout.write("ml-base: smoke test passed\n")
