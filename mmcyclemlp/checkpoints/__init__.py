"""Checkpoints: reading files nobody vouches for, converting the authors' weights, checking that weights fit."""

from .converting import Converted, convert, convert_file
from .fitting import check_any_fits, check_fits, load_strictly, unwrapped
from .reading import read_checkpoint, register_safe_loader, register_safe_schemes
from .state_dicts import arch_of, starting_weights
from .zoo import create_model, list_models

__all__ = [
    'Converted',
    'arch_of',
    'check_any_fits',
    'check_fits',
    'convert',
    'convert_file',
    'create_model',
    'list_models',
    'load_strictly',
    'read_checkpoint',
    'register_safe_loader',
    'register_safe_schemes',
    'starting_weights',
    'unwrapped',
]
