"""Smoke test of the image ml-torch; with --labels it prints what the image's labels say about torch."""

import argparse
import sys
import tempfile
from pathlib import Path

import torch


def labels() -> None:
    """CUDA's version and the device architectures this torch was built for."""
    architectures = " ".join(torch._C._cuda_getArchFlags().split()) if torch.version.cuda else "none"
    sys.stdout.write(f"pilot.cuda {torch.version.cuda or 'none'}\npilot.cuda.architectures {architectures}\n")


def learning(folder: Path) -> None:
    """A small network learns under Lightning, and a Keras model runs on torch."""
    import keras
    import lightning

    class Line(lightning.LightningModule):
        """y = a x + b."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, _index):  # type: ignore[no-untyped-def]
            """Mean squared error."""
            return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

        def configure_optimizers(self):  # type: ignore[no-untyped-def]
            """Fast enough for a line."""
            return torch.optim.Adam(self.parameters(), lr=0.1)

    x = torch.linspace(-1, 1, 64).reshape(-1, 1)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, 2 * x), batch_size=16)
    model = Line()
    trainer = lightning.Trainer(
        max_epochs=20,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, data)
    assert abs(float(model.layer.weight) - 2) < 0.2
    assert keras.backend.backend() == "torch"
    assert keras.Sequential([keras.layers.Dense(2)])(torch.ones(1, 3)).shape == (1, 2)
    torch.onnx.export(model.layer, (x,), folder / "line.onnx", dynamo=True, verbose=False)
    assert (folder / "line.onnx").stat().st_size > 0


parser = argparse.ArgumentParser()
parser.add_argument("--labels", action="store_true")
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
options = parser.parse_args()
if options.labels:
    labels()
else:
    assert (torch.version.cuda is not None) == (options.device == "cuda"), torch.__version__
    with tempfile.TemporaryDirectory() as name:
        learning(Path(name))
    sys.stdout.write("ml-torch: smoke test passed\n")
