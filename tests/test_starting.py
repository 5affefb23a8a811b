"""What a run starts from: weights of any origin."""

import pytest
import torch
from mmengine import Config

from mmcyclemlp.checkpoints import (
    check_any_fits,
    load_strictly,
    read_checkpoint,
    register_safe_loader,
    starting_weights,
)
from mmcyclemlp.checkpoints.state_dicts import with_plain_names
from mmcyclemlp.checks import check_pretrained
from mmcyclemlp.errors import InputError
from mmcyclemlp.models import CycleMLP

ONE, TWO = torch.ones(2), torch.zeros(2)


@pytest.mark.parametrize(
    'checkpoint',
    [
        {'backbone.a': ONE, 'head.b': TWO},  # as from safetensors
        {'meta': {}, 'state_dict': {'backbone.a': ONE, 'head.b': TWO}},
        {'state_dict': {'module.backbone.a': ONE, 'module.head.b': TWO}},
        {'model': {'module._orig_mod.backbone.a': ONE, 'module._orig_mod.head.b': TWO}, 'epoch': 3},
        {'state_dict': {'model.backbone.a': ONE, 'model.head.b': TWO}, 'hyper_parameters': {}},
        {'state_dict': {'backbone.a': TWO, 'head.b': ONE}, 'state_dict_ema': {'backbone.a': ONE, 'head.b': TWO}},
        {'student': {'backbone.a': TWO}, 'teacher': {'module.backbone.a': ONE, 'module.head.b': TWO}},
        {'model': {'teacher.backbone.a': ONE, 'teacher.head.b': TWO}},
    ],
)
def test_weights_are_found_wherever_they_lie(checkpoint):
    weights = starting_weights(with_plain_names(checkpoint), 'a.pth')
    assert list(weights) == ['backbone.a', 'head.b'] and weights['backbone.a'] is ONE and weights['head.b'] is TWO


def test_a_bare_backbone_goes_where_the_model_has_it():
    with torch.device('meta'):
        bare = CycleMLP('b1').state_dict()
    assert set(starting_weights({'state_dict': bare}, 'a.pth')) == {f'backbone.{name}' for name in bare}


def test_what_holds_no_weights_is_refused():
    with pytest.raises(InputError, match='expected a state dict'):
        starting_weights({'epoch': 3}, 'a.pth')


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_the_authors_weights_are_refused_with_the_command_that_converts_them(prefix):
    original = {f'{prefix}network.0.0.attn.mlp_c.weight': torch.zeros(8, 8)}
    checkpoint = {'state_dict': starting_weights(with_plain_names({'model': original}), 'a.pth')}
    with pytest.raises(InputError, match='original CycleMLP .*; convert them with `python .* a.pth CONVERTED'):
        check_any_fits(torch.nn.Linear(1, 1), checkpoint, 'a.pth')


def test_all_readers_find_them(tmp_path):
    """Also ``init_cfg``, which mmengine loads, and testing, which loads strictly."""
    arch = dict(depths=(1,), embed_dims=(8,), mlp_ratios=(2,))
    network = CycleMLP(arch, out_indices=(0,))
    path = tmp_path / 'other.pth'
    weights = {f'module.{name}': value for name, value in network.state_dict().items()}
    torch.save(dict(student={}, teacher=weights, optimizer={}), path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    check_pretrained(Config(dict(model=dict(type='CycleMLP', arch=arch, out_indices=(0,), init_cfg=init_cfg))))
    register_safe_loader()
    for start in ('init_cfg', 'strictly'):
        other = CycleMLP(arch, out_indices=(0,), init_cfg=init_cfg)
        other.init_weights() if start == 'init_cfg' else load_strictly(other, read_checkpoint(path), path)
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in other.state_dict().items())


def test_an_init_cfg_names_a_checkpoint():
    def config(**init_cfg):
        return Config(dict(model=dict(type='CycleMLP', init_cfg=dict(type='Pretrained', **init_cfg))))

    with pytest.raises(InputError, match=r'model.init_cfg.checkpoint must be the path of a checkpoint, got None'):
        check_pretrained(config(checkpoint=None))
    check_pretrained(config())  # mmengine says what is missing
