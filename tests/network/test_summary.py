"""What networks and their parts say of themselves: `summary` and ``repr``."""

import mlpx


def test_a_table_of_the_layers() -> None:
    net = mlpx.Sequential(
        mlpx.Dense(4, 8, "relu"), mlpx.TimeDistributed(mlpx.Dense(8, 3), mlpx.LayerNorm(3)), mlpx.Softmax()
    )
    lines = net.summary().splitlines()
    assert [line.split() for line in lines if "-" not in line] == [
        ["layer", "output", "parameters", "activation"],
        ["Dense", "(n,", "8)", "40", "relu"],
        ["TimeDistributed", "(n,", "3)", "0"],
        ["Dense", "27"],
        ["LayerNorm", "6"],
        ["Softmax", "(n,", "3)", "0"],
        ["73", "parameters,", "float32,", "numpy;", "loss", "CrossEntropy()"],
    ]
    assert net.n_parameters == 73


def test_a_network_of_unknown_width() -> None:
    assert "(n, ?)" in mlpx.Sequential(mlpx.Activation("tanh"), mlpx.Softmax()).summary()


def test_short_words_for_what_differs_from_the_defaults() -> None:
    assert repr(mlpx.Dense(4, 8, "relu")) == "Dense(4, 8, activation='relu')"
    assert repr(mlpx.Adam(0.01)) == "Adam(lr=0.01)"
    assert repr(mlpx.Adam(schedule="cosine")) == "Adam(schedule=Cosine())"
    assert repr(mlpx.Adam()) == "Adam()"
    assert repr(mlpx.CrossEntropy()) == "CrossEntropy()"
    assert repr(mlpx.CrossEntropy(label_smoothing=0.1)) == "CrossEntropy(label_smoothing=0.1)"
    assert repr(mlpx.LBFGS(l2=0.5)) == "LBFGS(l2=0.5)"
    assert repr(mlpx.TimeDistributed(mlpx.Dense(2, 1))) == "TimeDistributed(Dense(2, 1))"
