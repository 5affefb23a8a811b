"""One module an implementation of ``cycle_fc``, each with ``cycle_fc`` and ``unsupported_reason``."""
from . import deform_conv, shift_gemm

BACKENDS = {'deform_conv': deform_conv, 'shift_gemm': shift_gemm}

# `auto` takes the first of these that has no reason against the call.
AUTO_ORDER = ('shift_gemm', )

__all__ = ['AUTO_ORDER', 'BACKENDS']
