"""What a run starts from: weights of any origin, and a schedule that counts epochs."""

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, OptimWrapper

from mmcyclemlp.checkpoints import check_any_fits, starting_weights
from mmcyclemlp.engine.schedule import _step_through
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
    weights = starting_weights(checkpoint, 'a.pth')
    assert list(weights) == ['backbone.a', 'head.b'] and weights['backbone.a'] is ONE and weights['head.b'] is TWO


def test_a_bare_backbone_goes_where_the_model_has_it():
    with torch.device('meta'):
        bare = CycleMLP('b1').state_dict()
    assert set(starting_weights({'model': bare}, 'a.pth')) == {f'backbone.{name}' for name in bare}


def test_what_holds_no_weights_is_refused():
    with pytest.raises(InputError, match='expected a state dict'):
        starting_weights({'epoch': 3}, 'a.pth')


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_the_authors_weights_are_refused_with_the_command_that_converts_them(prefix):
    original = {f'{prefix}network.0.0.attn.mlp_c.weight': torch.zeros(8, 8)}
    checkpoint = {'state_dict': starting_weights({'model': original}, 'a.pth')}
    with pytest.raises(InputError, match='original CycleMLP .*; convert them with `python .* a.pth CONVERTED'):
        check_any_fits(torch.nn.Linear(1, 1), checkpoint, 'a.pth')


@pytest.mark.parametrize('length', [1, 2, 8])
def test_a_schedule_by_epochs_goes_on_at_its_epoch_with_any_batch_size(length):
    """Resumed after 4 of 8 epochs, of which each had 2 iterations and now has another number."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = CosineAnnealingLR.build_iter_from_epoch(OptimWrapper(optimizer), end=8, epoch_length=length)
    schedule.last_step = schedule._global_step = -1

    class Runner:
        train_loop, train_dataloader, epoch, iter = None, [None] * length, 4, 8

    _step_through([schedule], Runner)
    assert optimizer.param_groups[0]['lr'] == pytest.approx(5e-4)
