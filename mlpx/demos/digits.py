"""Real handwritten digits, any number of layers, many rows at once: 1,797 images of 8 x 8 pixels, 10 classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import mlpx
from mlpx.demos import verdict
from mlpx.errors import check_count


def main(
    *,
    output: str | Path = ".",
    epochs: int = 60,
    seed: int = 0,
    layers: Sequence[int] = (128, 64),
    progress: bool = True,
) -> bool:
    """Train, then save the model and a picture to the folder ``output``; return whether the problem is solved."""
    check_count("seed", seed, 0)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)

    # One row per image: 64 pixels from 0 to 16, scaled to 0 to 1. A quarter of the images is held out.
    images, labels = load_digits(return_X_y=True)
    parts = {"test_size": 0.25, "random_state": seed % 2**32, "stratify": labels}
    x, x_test, y, y_test = train_test_split(images / 16, labels, **parts)
    x, x_test = mlpx.asarray(x), mlpx.asarray(x_test)  # to the GPU where there is one

    net = mlpx.MLP([64, *layers, 10], activation="relu", output="softmax", dropout=0.2, seed=seed)
    sizes = "-".join(str(size) for size in (64, *layers, 10))
    print(f"{len(y)} images to learn from, {len(y_test)} held out; a {sizes} network of {net.n_parameters} parameters")
    history = net.fit(
        x,
        y,
        epochs=epochs,
        batch_size=32,
        optimizer=mlpx.optimizers.Adam(lr=0.003, schedule="cosine"),
        validation=(x_test, y_test),
        progress=progress,
        seed=seed,
    )
    predicted = mlpx.to_numpy(net.predict(x_test)).argmax(axis=1)
    right = int((predicted == y_test).sum())
    print(f"{right} of {len(y_test)} held-out digits right, {epochs} epochs in {sum(history.seconds):.2f} seconds")

    model = folder / "digits.safetensors"
    net.save(model)
    again = mlpx.to_numpy(mlpx.load(model).predict(x_test)).argmax(axis=1)
    print(f"model:   {model}")

    try:
        picture = draw(history, predicted, y_test, folder / "digits.png")
        print(f"picture: {picture}")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "matplotlib":
            raise
        print("picture: none, for want of matplotlib; it comes with the extra 'plot': pip install 'mlpx[plot]'")

    return verdict(
        {
            f"above 97 % of the held-out digits right: {right / len(y_test):.2%}": right > 0.97 * len(y_test),
            "the saved model, loaded again, predicts the same": bool((again == predicted).all()),
        }
    )


def draw(history: mlpx.History, predicted: Any, truth: Any, path: Path) -> Path:
    """Draw the learning curves and the confusion matrix side by side; no display is needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(12, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic([["loss", "matrix"], ["wrong", "matrix"]], width_ratios=(1.2, 1))
    epochs = np.arange(1, history.epochs + 1)

    loss = axes["loss"]
    loss.plot(epochs, history.loss, label="training, with dropout")
    loss.plot(epochs, history.validation_loss, label="held out")
    loss.set(title="Learning curves", ylabel="cross-entropy, nats", yscale="log")
    loss.tick_params(labelbottom=False)
    loss.legend(frameon=False)

    wrong = axes["wrong"]
    wrong.sharex(loss)
    wrong.plot(epochs, 1 - np.array(history.validation_accuracy), color="C1")
    wrong.axhline(0.03, color="grey", linestyle=":", linewidth=1)
    wrong.annotate("3 %", (history.epochs, 0.03), xytext=(0, 3), textcoords="offset points", color="grey", ha="right")
    wrong.set(xlabel="epoch", ylabel="held out, wrong", ylim=(0, 0.15))
    wrong.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for curves in (loss, wrong):
        curves.grid(alpha=0.25)
        curves.spines[["top", "right"]].set_visible(False)

    counts = np.zeros((10, 10), int)
    np.add.at(counts, (truth, predicted), 1)
    mistakes = counts - np.diag(np.diag(counts))
    # Two colours, since a handful of mistakes would be invisible on the scale of what is right.
    matrix = axes["matrix"]
    matrix.imshow(np.ma.masked_equal(np.diag(np.diag(counts)), 0), cmap="Blues", vmin=0, vmax=1.6 * counts.max())
    matrix.imshow(np.ma.masked_equal(mistakes, 0), cmap="Oranges", vmin=0, vmax=max(4, 1.6 * mistakes.max()))
    for (row, column), count in np.ndenumerate(counts):
        if count:
            matrix.text(column, row, str(count), ha="center", va="center", fontsize=10)
    title = f"Held-out digits: {counts.trace()} of {counts.sum()} right ({counts.trace() / counts.sum():.1%})"
    matrix.set(title=title, xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10))
    matrix.set_xticks(np.arange(11) - 0.5, minor=True)
    matrix.set_yticks(np.arange(11) - 0.5, minor=True)
    matrix.grid(which="minor", color="#dddddd", linewidth=0.6)
    matrix.tick_params(which="minor", length=0)
    matrix.tick_params(which="major", length=0)
    for spine in matrix.spines.values():
        spine.set_visible(False)

    figure.savefig(path, dpi=120)
    return path
