"""Encrypt a vector with TenSEAL's CKKS under the parameters that NVFlare documents: the homomorphic peer."""

import contextlib
import io

import numpy as np
from numpy.typing import NDArray

from simulations.benches.rows import PeerMissing

try:
    import tenseal
except ModuleNotFoundError as missing:
    raise PeerMissing("tenseal") from missing

DEGREE, MODULI, SCALE = 8192, (60, 40, 40), 2.0**40


class Encryptor:
    """Encrypt as each client does before it uploads."""

    def __init__(self) -> None:
        moduli = list(MODULI)
        self._context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=moduli)
        self._context.global_scale = SCALE

    def encrypt(self, vector: NDArray[np.float32]) -> bytes:
        """Return the serialised ciphertexts."""
        with contextlib.redirect_stdout(io.StringIO()):  # it warns of operations that a sum does not need
            ciphertext: bytes = tenseal.ckks_vector(self._context, vector).serialize()
        return ciphertext
