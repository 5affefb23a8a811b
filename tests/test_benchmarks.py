"""The benchmarks give numbers for right results only, and make their tables, ratios and document from them."""
import importlib.util
import json
import os
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmcyclemlp.models import CycleMLP
from mmcyclemlp.ops import cycle_fc
from mmcyclemlp.ops.backends import shift_gemm

from .conftest import REPO

FOLDER = REPO / 'tools' / 'benchmarks'


def load(name):
    spec = importlib.util.spec_from_file_location(f'benchmark_{name}', FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(FOLDER))
try:
    from bench import agreement, cli, groups, memory, networks, operators, profile, rows, targets, tasks, timing
    models, ops, report, training, whole_image = map(load, ('models', 'ops', 'report', 'training', 'memory'))
finally:
    sys.path.remove(str(FOLDER))

CPU = torch.device('cpu')
SETTINGS = groups.Settings(CPU, 'fp32', 1, 0., rounds=1)
TINY = dict(depths=(1, 1, 1, 1), embed_dims=(16, 24, 32, 48), mlp_ratios=(2, 2, 2, 2))
SHAPE = (2, 6, 7, 10)


def tiny():
    return networks.randomise(networks.Classifier(CycleMLP(TINY), 48))


def by_rival(measured):
    return {row.rival: row for row in measured}


def made(rival, ms, **columns):
    """A row as if it had been measured."""
    row = groups.row_of(SETTINGS, 'ops', 'b1 stage 1', '8x56x56x64', 'forward', 8, kernel='1x3')
    return replace(row, rival=rival, median_ms=ms, q20_ms=ms, q80_ms=ms, samples=1, images_per_s=8e3 / ms, threads=2,
                   **columns)


# What is timed is checked first.


@pytest.mark.parametrize('backward', [False, True])
@pytest.mark.parametrize('kernel', [(1, 3), (3, 1)])
def test_operators_agree_and_a_wrong_one_gets_no_number(kernel, backward):
    turned = {'turned': lambda x, weight, bias: cycle_fc(x, weight, bias, kernel[::-1], 'shift_gemm'),
              'flipped': lambda x, weight, bias: cycle_fc(x.flip(1, 2), weight, bias, kernel, 'shift_gemm').flip(1, 2)}
    found = by_rival(ops.measure_operator(SETTINGS, 'tiny', SHAPE, kernel, backward, 'eager', extra=turned))
    for name in ('auto', 'shift_gemm', 'torchvision', 'linear'):
        row = found[name]
        assert row.status == rows.OK and row.median_ms > 0 and row.error < 1e-6 and row.peak_mib > 0
        assert (row.saved_mib is not None) == backward
    for name in turned:
        row = found[name]
        assert row.status == rows.WRONG and row.error > 0.1 and groups.is_fault(row)
        assert row.median_ms is row.images_per_s is row.peak_mib is None
        assert '| wrong result |' in rows.group_table([row])


def test_a_backend_is_skipped_with_its_reason():
    found = by_rival(ops.measure_operator(replace(SETTINGS, dtype='bf16'), 'tiny', SHAPE, (1, 3), False, 'eager'))
    assert found['deform_conv'].status.startswith("skipped: mmcv's deform_conv2d has no bfloat16 kernel")
    assert found['deform_conv'].median_ms is None and not groups.is_fault(found['deform_conv'])
    assert found['auto'].error < 5e-3 and found['torchvision'].status == rows.OK


def test_the_definition_is_the_oracle():
    from .oracles import cycle_fc_oracle
    x, weight, bias = torch.randn(SHAPE), torch.randn(4, 10), torch.randn(4)
    for kernel in ((1, 3), (5, 1)):
        out = operators.definition(x.double(), weight.double(), bias.double(), kernel)
        torch.testing.assert_close(out, cycle_fc_oracle(x, weight, bias, kernel))


def test_agreement_is_asked_of_each_tensor():
    reference = [torch.randn(50).double() for _ in range(2)]
    expected = agreement.expect(reference, [tensor.float() for tensor in reference], torch.float32)
    assert agreement.check([tensor.float() for tensor in reference], expected).agrees
    # A small tensor that is wrong is found beside a large one.
    expected.tensors[0] *= 1e6
    off = agreement.check([expected.tensors[0], reference[1] + 1e-3], expected)
    assert not off.agrees and off.error < 1e-6
    assert not agreement.check([expected.tensors[0], reference[1] * float('nan')], expected).agrees
    assert not agreement.check([expected.tensors[0], reference[1][:1]], expected).agrees


@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
@pytest.mark.parametrize('train', [False, True])
def test_networks_agree(dtype, train):
    names = [f'b1{end}' for end in ('', '-shift_gemm', '-deform_conv', '-original', '-linear')]
    found = by_rival(models.measure_networks(replace(SETTINGS, dtype=dtype), 4, 64, train, False, names, tiny()))
    assert set(found) == set(names)
    for name, row in found.items():
        if dtype == 'bf16' and name == 'b1-deform_conv':
            assert row.status.startswith('skipped: ')
            continue
        assert row.status == rows.OK and row.median_ms > 0 and row.images_per_s > 0
        assert (row.error is None) == (name == 'b1-linear')
        # What PyTorch's counter does not know is not counted.
        assert (row.gflop is None) == (train or name in ('b1-deform_conv', 'b1-original'))
        assert row.direction == ('training step' if train else 'inference')
        assert row.dtype == ('bf16-amp' if train and dtype == 'bf16' else dtype)


def test_a_wrong_network_gets_no_number(monkeypatch):
    right = shift_gemm.cycle_fc
    monkeypatch.setattr(shift_gemm, 'cycle_fc', lambda x, weight, bias, kernel: right(x, weight, bias, kernel[::-1]))
    found = by_rival(models.measure_networks(SETTINGS, 2, 64, False, False, ['b1-shift_gemm', 'b1-original'], tiny()))
    assert found['b1-shift_gemm'].status == rows.WRONG and found['b1-shift_gemm'].median_ms is None
    assert found['b1-original'].status == rows.OK and found['b1-original'].median_ms > 0


def test_the_block_and_the_scaling(monkeypatch):
    shape = (2, 8, 8, 12)
    found = by_rival(models.measure_block(SETTINGS, 'block', shape, 2))
    assert found['b1'].status == rows.OK and found['b1'].saved_mib > 0
    assert found['b1-deform_conv'].saved_mib > found['b1-shift_gemm'].saved_mib

    class FixedSize(torch.nn.Module):

        def forward(self, x):
            assert x.shape[2] == 32, 'the image has | another size'

    monkeypatch.setattr(models, 'require_timm', lambda: None)
    monkeypatch.setattr(models, 'neighbours', lambda: {models.FIXED_SIZE: FixedSize})
    measured = models.measure_scaling(SETTINGS, 2, 32, tiny()) + models.measure_scaling(SETTINGS, 1, 40, tiny())
    ours, fixed, _, too_large = measured
    assert ours.median_ms > 0 and ours.saved_mib > 0 and fixed.median_ms > 0
    assert too_large.median_ms is None and not groups.is_fault(too_large)
    assert too_large.status == 'cannot run: AssertionError: the image has / another size'


def test_a_failing_rival_is_a_fault_and_the_others_go_on():

    def fail():
        raise RuntimeError('no kernel\nfor this')

    base = made('', 1.)
    found = by_rival(groups.measure(base, [groups.Rival('fails', fail), groups.Rival('runs', lambda: None)], SETTINGS))
    assert found['fails'].status == 'failed: RuntimeError: no kernel' and groups.is_fault(found['fails'])
    assert found['runs'].status == rows.OK


# How it is measured.


def test_interleaving_gives_every_rival_its_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in 'ab'}
    cost = dict(a=1., b=3.)

    def clock(call):
        call()
        return cost[order[-1]]

    times = timing.interleave(calls, clock, seconds=0., rounds=4)
    assert times['a'] == (1., 1., 1., 12) and times['b'] == (3., 3., 3., 4)  # three turns for the faster
    assert order[-16:].count('b') == 4 and len(set(map(tuple, zip(*[iter(order[-16:])] * 4)))) > 1
    assert timing.summary([1., 2., 3., 4., 5., 6.]).median == 3.5


def test_memory_is_counted_to_the_byte():
    x, weight = torch.randn(64, 32, requires_grad=True), torch.randn(16, 32, requires_grad=True)
    assert memory.saved_bytes(lambda: F.linear(x, weight).exp(), [weight]) == 4 * (64 * 32 + 64 * 16)
    assert memory.saved_bytes(lambda: x[:2] * x[2:4], []) == 4 * 64 * 32  # one storage, seen through two views

    def call():
        held = torch.empty(1000, 1000)
        more = torch.empty(500, 1000)
        del held, more
        return torch.empty(100)

    assert memory.peak_bytes(call, CPU) == 4 * 1500 * 1000


# Tables and ratios.


def test_csv_and_groups(tmp_path):
    path = tmp_path / 'new' / 'speed.csv'
    old = [made('auto', 1.), made('linear', 1.), made('auto', 5., mode='graph')]
    rows.write_csv(old, path)
    assert rows.read_csv(path) == old
    # A group is replaced whole, so that ratios are never made across runs.
    rows.write_csv(rows.merge(rows.read_csv(path), [made('auto', 2.), made('shift_gemm', 3., error=1e-7)]), path)
    assert [row.rival for row in rows.read_csv(path)] == ['auto', 'shift_gemm', 'auto']
    assert [row.median_ms for row in rows.read_csv(path)] == [2., 3., 5.]
    # What cannot be written leaves the file as it was.
    before = path.read_bytes()
    with pytest.raises(TypeError):
        rows.write_csv([made('auto', 4.), None], path)
    assert path.read_bytes() == before and os.listdir(path.parent) == ['speed.csv']
    path.write_text('a,b\n1,2\n')
    with pytest.raises(ValueError, match='no table of these benchmarks'):
        rows.read_csv(path)
    with pytest.raises(ValueError, match='cannot read .*No such file'):
        rows.read_csv(tmp_path / 'none.csv')


def verdicts(measured):
    return {(verdict.target.text, verdict.target.cost is None): verdict for verdict in targets.judge(measured)}


def test_ratios_from_a_made_csv(tmp_path):
    path = tmp_path / 'speed.csv'
    rows.write_csv([made('auto', 1.), made('deform_conv', 40.), made('linear', 0.8),
                    made('auto', 2., case='b1 stage 2'), made('deform_conv', 34., case='b1 stage 2'),
                    made('linear', 1., case='b1 stage 2'), made('linear-ours', 1.7, case='b1 stage 2'),
                    made('auto', 1., case='b5 stage 1'), made('deform_conv', 1., case='b5 stage 1')], path)
    found = targets.judge(rows.read_csv(path))
    against_mmcv, against_linear = found
    assert against_mmcv.ratios == {'stage 1 1x3': 40., 'stage 2 1x3': 17.} and against_mmcv.worst == 17.
    assert against_mmcv.word == 'reached'
    assert against_linear.ratios == {'stage 1 1x3': 1.25, 'stage 2 1x3': 2.} and against_linear.word == 'missed'
    table = targets.verdict_table(found)
    assert '| at least 15 times faster (dream 30) | 17 | 28.5 | 20 | reached |' in table and '| missed |' in table
    # One that is missing cannot be reached, and other conditions are not the target's.
    wrong = made('deform_conv', 1.)
    wrong.median_ms, wrong.status = None, rows.WRONG
    assert [verdict.word for verdict in targets.judge([made('auto', 1.), wrong])] == ['not measured']
    assert targets.judge([replace(made('auto', 1.), threads=1), replace(made('linear', 1.), threads=1)]) == []
    assert targets.judge([made('auto', 1.)]) == []


def test_ratios_of_networks():
    network = dict(suite='models', case='network', shape='8x3x224x224', kernel='', direction='inference')
    measured = [made('b1', 100., **network), made('b1-linear', 90., **network), made('resnet18', 160., **network)]
    words = {verdict.target.text: verdict.word for verdict in targets.judge(measured)}
    assert words == {'B1 against B1 with linear layers': 'missed', 'B1 against ResNet-18': 'reached, and the dream'}
    gpu = dict(network, shape='256x3x224x224', device_type='cuda', dtype='bf16', device='a GPU')
    measured = [made('b1', 10., **gpu), made('b1-original', 41., **gpu), made('resnet50', 9., **gpu)]
    words = {verdict.target.text: verdict.word for verdict in targets.judge(measured)}
    assert words == {'B1 against the original': 'reached', 'B1 against ResNet-50': 'missed'}


def test_command_line_and_document(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ops, 'cases', lambda batch, large_batch, quick: {'b1 stage 1': (batch, 5, 5, 6)})
    arguments = ['--quick', '--threads', '1', '--batch', '2', '--iters', '1', '--out', str(tmp_path / 'out')]
    assert cli.run(lambda: ops.main(arguments)) == 0
    assert cli.run(lambda: ops.main([*arguments, '--train'])) == 0
    printed = capsys.readouterr().out
    assert '| auto |' in printed and 'commit ' in printed and 'torch ' in printed and 'No target speaks' in printed
    block = models.measure_block(SETTINGS, 'block', (1, 4, 4, 8), 2)
    network = models.measure_networks(SETTINGS, 1, 32, False, False, ['b1', 'b1-linear'], tiny())
    scaling = [replace(row, suite='scaling') for row in network]
    profile = [replace(row, suite='profile', case='b1') for row in network]
    source = tmp_path / 'out' / 'speed-quick.csv'
    rows.write_csv(rows.read_csv(source) + block + network + scaling + profile, source)
    folder = tmp_path / 'results'
    assert cli.run(lambda: report.main([str(source), '--out', str(folder)])) == 0
    text = (folder / 'speed.md').read_text()
    for title in ('One CycleFC layer', 'Networks', 'Growth with the image', 'Memory of one block',
                  'Where the time goes', 'Again'):
        assert f'\n## {title}\n' in text
    for name in ('operators', 'networks', 'scaling'):
        assert f'(speed-{name}.png)' in text and (folder / f'speed-{name}.png').stat().st_size > 5000
    assert rows.read_csv(folder / 'speed.csv') == rows.read_csv(source)
    assert str(tmp_path) not in text


def test_a_wrong_result_ends_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ops, 'cases', lambda batch, large_batch, quick: {'b1 stage 1': (batch, 5, 5, 6)})
    right = shift_gemm.cycle_fc
    monkeypatch.setattr(shift_gemm, 'cycle_fc', lambda *arguments: 2 * right(*arguments))
    assert cli.run(lambda: ops.main(['--quick', '--batch', '2', '--iters', '1', '--out', str(tmp_path),
                                     '--rivals', 'shift_gemm', 'linear'])) == 1
    assert 'error: shift_gemm: wrong result (b1 stage 1' in capsys.readouterr().err


def test_clear_errors(tmp_path, monkeypatch, capsys):

    def refused(main, *arguments):
        with pytest.raises(SystemExit, match='^2$'):
            cli.run(lambda: main([*arguments]))
        error = capsys.readouterr().err
        assert error.startswith('error: ') and error.count('\n') == 1
        return error

    out = ['--out', str(tmp_path)]
    monkeypatch.setitem(sys.modules, 'timm', None)
    assert 'timm is not installed; run `pip install -r requirements/benchmarks.txt`' in refused(models.main, *out)
    assert 'timm is not installed' in refused(models.main, '--scaling', *out)
    assert "--rivals: ['b7'] take no part here; choose from ['b1', 'b1-" in refused(models.main, '--rivals', 'b7', *out)
    assert "--rivals: ['b7'] take no part here; choose from ['auto', " in refused(ops.main, '--rivals', 'b7', *out)
    assert 'on a CPU use fp32 or bf16' in refused(ops.main, '--dtype', 'fp16', *out)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert 'needs a CUDA GPU' in refused(ops.main, '--device', 'cuda', *out)
    assert os.listdir(tmp_path) == []


# A segmentation network on one image.


def test_memory_of_a_network_and_its_backbone(tmp_path, capsys):
    config = str(REPO / 'configs' / 'cyclemlp' / 'digit-scenes_fpn_b1.py')
    arguments = [config, '--size', '96', '64', '--quick', '--threads', '1', '--iters', '1', '--out', str(tmp_path)]
    assert cli.run(lambda: whole_image.main(arguments)) == 0
    found = rows.read_csv(tmp_path / 'speed-quick.csv')
    assert {row.case for row in found} == {'digit-scenes_fpn_b1', 'its backbone, custom'}
    assert {row.shape for row in found} == {'1x3x64x96'}
    for case in {row.case for row in found}:
        memory_of = {row.rival: row.peak_mib for row in found if row.case == case and row.status == rows.OK}
        assert 0 < memory_of['ours'] <= memory_of['ours-original']
    for wrong, sentence in (([config, '--train'], 'leave them out'),
                            ([str(REPO / 'configs/cyclemlp/digits_b1.py')], 'expected a config of segmentation')):
        with pytest.raises(SystemExit, match='^2$'):
            cli.run(lambda: whole_image.main([*wrong, '--out', str(tmp_path)]))  # noqa: B023
        assert sentence in capsys.readouterr().err


# Profile and arithmetic.


def test_profile_names_the_operators_and_counts_the_arithmetic():
    a, b = torch.randn(64, 128), torch.randn(128, 32)
    found = profile.operators_ms(lambda: (a @ b).exp())
    assert {'aten::mm', 'aten::exp', 'all others'} <= {name for name, _, _ in found}
    assert all(ms >= 0 for _, ms, _ in found)
    assert [calls for name, _, calls in found if name == 'aten::mm'] == [1]
    assert profile.gflop_of(lambda: (a @ b).exp()) == 2 * 64 * 128 * 32 / 1e9


def test_b1_has_the_published_arithmetic():
    x, labels = tasks.images(1, 224, 224, CPU)
    task = tasks.Task(x, torch.float32, False, labels)
    linear = networks.variants(networks.cyclemlp('b1'), 'b1', torch.float32, CPU)['b1-linear']()
    # Twice the 2.12 GMAC of the published network; the form that is used needs less.
    assert task.gflop(task.prepare(linear)) == pytest.approx(2 * 2.122, rel=0.01)
    assert task.gflop(task.prepare(networks.cyclemlp('b1'))) < 2 * 2.1


# The share of a training outside the model.


def test_share_of_a_training(tmp_path, capsys):
    log = tmp_path / 'cifar10_b1' / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    records = [dict(lr=1e-3, data_time=9., time=10., loss=1., iter=10, step=10),  # workers start: left out
               dict(lr=1e-3, data_time=0.02, time=0.1, loss=1., iter=20, step=20),
               {'accuracy/top1': 50., 'data_time': 5., 'time': 6., 'step': 1},  # validation
               dict(lr=1e-3, data_time=0.02, time=0.1, loss=1., iter=30, step=30)]
    log.write_text('\n'.join(map(json.dumps, records)))
    assert cli.run(lambda: training.main([str(tmp_path / 'cifar10_b1'), '--out', str(tmp_path)])) == 0
    printed = capsys.readouterr().out
    assert '| cifar10_b1 |' in printed and '| 100 | 20 | 20.0 % |' in printed
    found = by_rival(rows.read_csv(tmp_path / 'speed.csv'))
    assert found['iteration'].median_ms == 100 and found['outside the model'].samples == 2
    log.write_text(json.dumps(records[0]))
    for path, message in ((log, 'holds 1 training records'), (tmp_path / 'nothing', 'does not exist'),
                          (REPO / 'requirements', 'holds no vis_data/scalars.json'),
                          (REPO / 'LICENSE', 'line 1, is not JSON')):
        with pytest.raises(SystemExit, match='^2$'):
            cli.run(lambda: training.main([str(path)]))  # noqa: B023 (called at once)
        assert message in capsys.readouterr().err
