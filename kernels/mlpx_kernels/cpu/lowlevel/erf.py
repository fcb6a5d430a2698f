"""The error function, vectorisable, of stated error, in float32 and float64."""

import numpy as np
from numba import types
from numba.extending import overload

from mlpx_kernels.cpu.lowlevel.mathematics import JIT, exp


def erf(x):
    """Return the error function, by rational functions; relative error below 4e-7 (float32) or 4e-16 (float64).

    float32: one function of x^2, whose coefficients were fitted for this file: weighted least squares of erf(x) / x
    over [0, 3.92] at Chebyshev points, reweighted towards the largest relative error. float64: one of x^2 up to 1, and
    ``1 - e^(-x^2) p(x) / q(x)`` above, with the coefficients of Moshier's Cephes (ndtr.c); both are computed, one
    division serves both.
    """


@overload(erf, jit_options=JIT)
def _erf(x):
    if x == types.float32:

        def single(x):
            c = min(max(x, np.float32(-3.92)), np.float32(3.92))
            t = c * c
            p = np.float32(2.0501135844972047e-06)
            p = p * t + np.float32(0.0002848790958267455)
            p = p * t + np.float32(0.003765462681643583)
            p = p * t + np.float32(0.05274825206205311)
            p = p * t + np.float32(0.19040289778538716)
            p = p * t + np.float32(1.1283791462648411)
            q = np.float32(3.809179552892684e-05)
            q = q * t + np.float32(0.001162497677345851)
            q = q * t + np.float32(0.014968909845289547)
            q = q * t + np.float32(0.1141076366202033)
            q = q * t + np.float32(0.5020729168018132)
            q = q * t + np.float32(1.0)
            y = c * p / q
            return x if x != x else y

        return single

    def double(x):
        a = min(abs(x), 6.0)
        t = a * a
        p = 9.60497373987051638749e0
        p = p * t + 9.00260197203842689217e1
        p = p * t + 2.23200534594684319226e3
        p = p * t + 7.00332514112805075473e3
        p = p * t + 5.55923013010394962768e4
        q = t + 3.35617141647503099647e1
        q = q * t + 5.21357949780152679795e2
        q = q * t + 4.59432382970980127987e3
        q = q * t + 2.26290000613890934246e4
        q = q * t + 4.92673942608635921086e4
        u = 2.46196981473530512524e-10
        u = u * a + 5.64189564831068821977e-1
        u = u * a + 7.46321056442269912687e0
        u = u * a + 4.86371970985681366614e1
        u = u * a + 1.96520832956077098242e2
        u = u * a + 5.26445194995477358631e2
        u = u * a + 9.34528527171957607540e2
        u = u * a + 1.02755188689515710272e3
        u = u * a + 5.57535335369399327526e2
        v = a + 1.32281951154744992508e1
        v = v * a + 8.67072140885989742329e1
        v = v * a + 3.54937778887819891062e2
        v = v * a + 9.75708501743205489753e2
        v = v * a + 1.82390916687909736289e3
        v = v * a + 2.24633760818710981792e3
        v = v * a + 1.65666309194161350182e3
        v = v * a + 5.57535340817727675546e2
        near = a <= 1.0
        y = (a * p if near else exp(-t) * u) / (q if near else v)
        y = y if near else 1.0 - y
        y = -y if x < 0.0 else y
        return x if x != x else y

    return double
