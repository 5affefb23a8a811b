"""One module an implementation of ``cycle_fc``, each with ``cycle_fc`` and ``unsupported_reason``."""
from . import deform_conv, shift_gemm, triton_gemm

BACKENDS = {'deform_conv': deform_conv, 'shift_gemm': shift_gemm, 'triton': triton_gemm}

# `auto` takes the first of these that has no reason against the call. Triton's interpreter runs on any device,
# but only to test the kernels.
AUTO_ORDER = ('shift_gemm', ) if triton_gemm.INTERPRETED else ('triton', 'shift_gemm')

__all__ = ['AUTO_ORDER', 'BACKENDS']
