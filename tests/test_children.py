"""A layer's children are modules: whoever listens to them, replaces or quantises them gets what they expect."""

import copy
import multiprocessing
import os
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.autograd import forward_ad
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call, jvp, vmap
from torch.nn.utils import parametrizations, parametrize, prune

from mmcyclemlp.models import CycleBlock, CycleFC, CycleMLP
from mmcyclemlp.models.layers import as_built

CHILDREN = (
    'norm1',
    'mixer',
    'mixer.shift_w',
    'mixer.shift_h',
    'mixer.channel',
    'mixer.reweight',
    'mixer.reweight.fc1',
    'mixer.reweight.fc2',
    'mixer.proj',
    'norm2',
    'mlp',
    'mlp.fc1',
    'mlp.fc2',
    'drop_path',
)
LARGE = torch.randn(1, 24, 24, 16, generator=torch.Generator().manual_seed(0))  # one product pays there
SMALL = torch.randn(2, 5, 5, 16, generator=torch.Generator().manual_seed(0))
MAPS = pytest.mark.parametrize('x', [LARGE, SMALL], ids=['large', 'small'])


@pytest.fixture
def block():
    torch.manual_seed(0)
    block = CycleBlock(16)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block


@MAPS
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('name', CHILDREN)
def test_a_hook_on_every_child_fires(block, name, training, x):
    block.train(training)
    seen = []
    with torch.set_grad_enabled(training):
        expected = block(x)
        handle = block.get_submodule(name).register_forward_hook(lambda module, args, out: seen.append(out.detach()))
        torch.testing.assert_close(block(x), expected)
        handle.remove()
        block(x)
    assert len(seen) == (2 if name == 'drop_path' else 1)


@MAPS
@pytest.mark.parametrize('register', ['register_forward_pre_hook', 'register_full_backward_hook'])
def test_other_hooks_fire(block, register, x):
    seen = []
    for name in CHILDREN:
        getattr(block.get_submodule(name), register)(lambda *args, name=name: seen.append(name) and None)
    block(x.clone().requires_grad_()).sum().backward()
    assert set(seen) == set(CHILDREN)


@MAPS
def test_a_hook_for_all_modules_fires(block, x):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, out: seen.append(module))
    try:
        with torch.no_grad():
            block.eval()(x)
    finally:
        handle.remove()
    assert {id(module) for module in seen} == {id(module) for module in block.modules()}


@MAPS
@pytest.mark.parametrize('name', ['mixer.channel', 'mixer.proj', 'mixer.reweight.fc2', 'mlp.fc1', 'mlp.fc2'])
def test_a_replaced_layer_counts(block, name, x):

    class Adapter(nn.Module):
        """As LoRA does: the layer and something of its own."""

        def __init__(self, base):
            super().__init__()
            self.base = base
            self.weight, self.bias = base.weight, base.bias  # what a form that never calls would take

        def forward(self, x):
            return self.base(x) + 1

    # The same by a change of the bias.
    parent, _, child = name.rpartition('.')
    parent = block.get_submodule(parent)
    layer = getattr(parent, child)
    expected = copy.deepcopy(block)
    changed = expected.get_submodule(name)
    changed.bias = nn.Parameter((0 if changed.bias is None else changed.bias.detach()) + torch.ones(len(layer.weight)))
    setattr(parent, child, Adapter(layer))
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            if name == 'mixer.channel':
                # A bias of the plain branch; the fused form knows none, so by the branches.
                torch.testing.assert_close(block(x), x_of_branches(expected, x), atol=1e-4, rtol=1e-4)
            else:
                torch.testing.assert_close(block(x), expected(x), atol=1e-4, rtol=1e-4)


CHANGES = dict(
    wider_shift=lambda mixer: setattr(mixer, 'shift_w', CycleFC(16, 16, (1, 5))),
    turned_shift=lambda mixer: setattr(mixer.shift_w, 'kernel_size', (3, 1)),
    shift_without_bias=lambda mixer: setattr(mixer.shift_h, 'bias', None),
    channel_with_bias=lambda mixer: setattr(mixer, 'channel', nn.Linear(16, 16)),
)


@pytest.mark.parametrize('name', CHANGES)
def test_a_change_within_the_class_counts(block, name):
    CHANGES[name](block.mixer)
    with torch.no_grad():
        torch.testing.assert_close(block.eval()(LARGE), x_of_branches(block, LARGE), atol=1e-4, rtol=1e-4)


def x_of_branches(block, x):
    x = x + block.mixer._branches(block.norm1(x))
    return x + block.mlp(block.norm2(x))


@MAPS
@pytest.mark.parametrize('parametrise', [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_a_parametrised_weight_counts(block, parametrise, x):
    block.eval()
    expected = copy.deepcopy(block)
    parametrise(block.mixer.proj)
    with torch.no_grad():
        if parametrise is parametrizations.weight_norm:
            block.mixer.proj.parametrizations.weight.original0.mul_(3)
        expected.mixer.proj.weight.copy_(block.mixer.proj.weight)
        torch.testing.assert_close(block(x), expected(x))
        assert not torch.allclose(block.mixer.proj.weight, torch.zeros(1)) and parametrize.is_parametrized(
            block.mixer.proj
        )


def test_as_built_sees_every_change():
    layer = nn.Linear(2, 2)
    assert as_built(layer, nn.Linear) and not as_built(nn.Identity(), nn.Linear)
    layer.forward = lambda x: x
    assert not as_built(layer, nn.Linear)
    layer = nn.Linear(2, 2)
    prune.random_unstructured(layer, 'weight', 0.5)
    assert not as_built(layer, nn.Linear)
    assert as_built(nn.Linear(2, 2, bias=False), nn.Linear)


@MAPS
def test_drop_path_that_is_switched_on_alone_counts(x):
    # As Monte-Carlo dropout does: evaluation, but for the layers that draw.
    block = CycleBlock(16, drop_path_rate=0.5).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    block.drop_path.train()
    with torch.no_grad():
        assert any(not torch.equal(block(x), block(x)) for _ in range(20))


@pytest.mark.slow
def test_dynamic_quantisation_keeps_the_accuracy():
    from torch.ao.nn.quantized.dynamic import Linear as QuantisedLinear
    from torch.ao.quantization import quantize_dynamic

    from mmcyclemlp.datasets.digits import Digits

    def read(split):
        digits = Digits(split)
        items = [digits.get_data_info(i) for i in range(len(digits))]
        images = torch.stack([torch.from_numpy(item['img']) for item in items]).permute(0, 3, 1, 2) / 255
        return nn.functional.interpolate(images, scale_factor=2), torch.tensor([item['gt_label'] for item in items])

    backbone = CycleMLP(dict(depths=(1, 1), embed_dims=(32, 64), mlp_ratios=(2, 2)), out_indices=(1,), stem_stride=2)
    model = nn.Sequential(backbone, Mean(), nn.Linear(64, 10))
    images, labels = read('train')
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for chosen in torch.randperm(6 * len(labels)).remainder(len(labels)).split(64):
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torchao is to take its place
        quantised = quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    # Of each block: channel, proj, the two of reweight and the two of the MLP; and the classifier.
    assert sum(isinstance(module, QuantisedLinear) for module in quantised.modules()) == 13
    images, labels = read('test')
    with torch.no_grad():
        exact, rounded = model(images), quantised(images)
    assert not torch.equal(exact, rounded)
    exact, rounded = ((logits.argmax(1) == labels).float().mean().item() for logits in (exact, rounded))
    assert exact > 0.8 and abs(exact - rounded) <= 0.01


class Mean(nn.Module):
    def forward(self, maps):
        return maps[-1].mean(dim=(2, 3))


@pytest.mark.parametrize('side', [16, 64])  # by the branches, and by the fused form where nothing transforms
def test_transforms_of_torch_func(side):
    arch = dict(depths=(1, 2, 1), embed_dims=(8, 12, 16), mlp_ratios=(2, 2, 4))
    model = CycleMLP(arch, out_indices=(2,)).double()
    images, direction = torch.rand(2, 2, 3, side, side, dtype=torch.float64)
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters, image):
        return functional_call(model, parameters, image[None])[0].square().sum()

    gradients = vmap(torch.func.grad(loss), (None, 0))(parameters, images)
    for i, image in enumerate(images):
        expected = torch.autograd.grad(loss(dict(model.named_parameters()), image), list(model.parameters()))
        for (name, value), right in zip(gradients.items(), expected):
            torch.testing.assert_close(value[i], right, msg=name)

    _, tangent = jvp(model, (images,), (direction,))
    x = images.clone().requires_grad_()
    values = model(x)[0]
    cotangent = torch.rand_like(values)
    adjoint = torch.autograd.grad(values, x, cotangent)[0]
    torch.testing.assert_close((tangent[0] * cotangent).sum(), (adjoint * direction).sum())
    with forward_ad.dual_level():
        dual = model(forward_ad.make_dual(images, direction))[0]
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, tangent[0])


def shard(rank, rendezvous):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{rendezvous}', rank=rank, world_size=2)
    mesh = dist.init_device_mesh('cpu', (2,))
    torch.manual_seed(0)
    model = CycleMLP(dict(depths=(1, 1), embed_dims=(8, 16), mlp_ratios=(2, 2)), out_indices=(1,))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    images = torch.randn(4, 3, 72, 72)
    whole = model(images)[0].square().mean()
    gradients = torch.autograd.grad(whole, list(model.parameters()))
    expected = dict(zip([name for name, _ in model.named_parameters()], gradients))
    modules = list(model.modules())
    for kind in (nn.Linear, CycleBlock, CycleMLP):  # from the inside out
        for module in modules:
            if isinstance(module, kind):
                fully_shard(module, mesh=mesh)
    loss = model(images.chunk(2)[rank])[0].square().mean()
    loss.backward()
    dist.all_reduce(loss)
    torch.testing.assert_close(loss.detach() / 2, whole.detach())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad.full_tensor(), expected[name], atol=1e-5, rtol=1e-4)
    dist.barrier()
    os._exit(0)  # gloo may abort while an interpreter ends


@pytest.mark.slow
def test_sharding_by_layer_is_one_process(tmp_path):
    """FSDP2 around each linear layer and each block, on two processes: the loss and gradients of one."""
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=shard, args=(rank, tmp_path / 'rendezvous')) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
