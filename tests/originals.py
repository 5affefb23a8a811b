"""Checkpoints as the authors publish them, with the weights of the reference outputs."""

import argparse
import json

import pytest
import torch


@pytest.fixture(scope='session')
def keys(golden):
    """Original keys and shapes by arch and form."""
    return json.loads((golden / 'official_keys.json').read_text())


@pytest.fixture(scope='session')
def original_b1(keys, formula):
    """State dict of the original b1 classifier with the weights of the reference outputs and its offsets."""
    state_dict = {k: torch.from_numpy(v) for k, v in formula.state_dict(keys['b1']['classifier']).items()}
    return add_offsets(state_dict)


def add_offsets(state_dict, k=3):
    """Add the buffers as the original makes them (``CycleFC.gen_offset``, written out for one dimension)."""
    for key in [key for key in state_dict if key.endswith(('sfc_h.weight', 'sfc_w.weight'))]:
        channels = state_dict[key].shape[1]
        offset = torch.zeros(1, 2 * channels, 1, 1)
        for c in range(channels):
            # sfc_h has the kernel (1, k) and moves x, entry 2c + 1; sfc_w has (k, 1) and moves y, entry 2c.
            offset[0, 2 * c + ('sfc_h' in key), 0, 0] = (c + k // 2) % k - k // 2
        state_dict[key.replace('weight', 'offset')] = offset
    return state_dict


def save_original(state_dict, path):
    """As the authors' ``main.py`` saves: the state dict under ``model``, a Namespace under ``args``."""
    torch.save(dict(model=state_dict, epoch=299, args=argparse.Namespace(lr=5e-4, model='CycleMLP_B1')), path)
    return path


def original_name(key):
    """Ours -> the original's, the other way round than the tool and without its table."""
    parts = key.split('.')
    if parts[0] == 'head':
        return f'head.{parts[-1]}'
    parts = parts[1:]
    if parts[0].startswith('norm'):
        return f'norm{2 * int(parts[0][4:])}.{parts[1]}'
    if parts[0] == 'downsamples':
        return '.'.join(['network', str(2 * int(parts[1]) + 1), *parts[2:]])
    if parts[0] == 'stages':
        rest = '.'.join(parts[3:])
        for ours, theirs in (
            ('mixer.channel', 'attn.mlp_c'),
            ('mixer.shift_w', 'attn.sfc_h'),
            ('mixer.shift_h', 'attn.sfc_w'),
            ('mixer', 'attn'),
        ):
            if rest.startswith(ours):
                rest = rest.replace(ours, theirs)
                break
        return f'network.{2 * int(parts[1])}.{parts[2]}.{rest}'
    return '.'.join(parts)
