"""The Huber density in closed form, in the float64 of SciPy."""

import numpy as np
import scipy.special


def huber_energy(r: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """The Huber loss: minus the log density, up to the constant."""
    inner = np.minimum(np.abs(r), delta)
    return inner * (np.abs(r) - inner / 2)


def huber_log_z(delta: float) -> float:
    """The log of the integral of exp(-energy); `delta` may be infinite."""
    centre = np.log(2 * np.pi) / 2 + np.log(scipy.special.erf(delta / 2**0.5))
    with np.errstate(divide="ignore"):
        tails = np.log(2 / np.float64(delta)) - delta * delta / 2
    return float(np.logaddexp(centre, tails))
