"""The benchmarks give numbers for right results only, and make their tables and document from them."""

import importlib.util
import os
import re
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mmcyclemlp.models import CycleMLP
from mmcyclemlp.ops import cycle_fc

from .helpers import NEEDS_OPERATORS, REPO

FOLDER = REPO / 'tools' / 'benchmarks'


def load(name):
    spec = importlib.util.spec_from_file_location(f'benchmark_{name}', FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(FOLDER))
try:
    from bench import measuring, networks, rows, tables, tasks

    models, report, runtimes = map(load, ('models', 'report', 'runtimes'))
finally:
    sys.path.remove(str(FOLDER))

CPU = torch.device('cpu')
SETTINGS = measuring.Settings(CPU, 'fp32', 1, 0.0, rounds=1)
TINY = dict(depths=(1, 1, 1, 1), embed_dims=(32, 40, 48, 64), mlp_ratios=(2, 2, 2, 2))
SHAPE = (2, 6, 7, 10)
VARIANTS = [f'b1{end}' for end in ('', '-shift_gemm', '-linear', '-deform_conv', '-original')]


@pytest.fixture
def bf16(monkeypatch):
    """A processor that multiplies in bfloat16, or is taken for one."""
    monkeypatch.setattr(models, 'bf16_reason', lambda dtype, device: None)


def tiny():
    return networks.randomise(networks.Classifier(CycleMLP(TINY), 64))


def layer_by(function):
    """The maker of a CycleFC that is computed by a function of (x, weight, bias, kernel_size)."""
    layer = networks.randomise(networks.CycleFC(10, 10, (1, 3)))
    return partial(networks.recast, layer, networks.layer_by(function))


def by_candidate(measured):
    return {row.candidate: row for row in measured}


def made(candidate, ms, **columns):
    """A row as if it had been measured."""
    task = tasks.Task(torch.empty(8, 56, 56, 64), torch.float32, False)
    row = task.row(SETTINGS, 'ops', 'b1 stage 1', kernel='1x3')
    return replace(
        row,
        candidate=candidate,
        median_ms=ms,
        q20_ms=ms,
        q80_ms=ms,
        samples=1,
        images_per_s=8e3 / ms,
        threads=2,
        **columns,
    )


# What is timed is checked first.


@NEEDS_OPERATORS
@pytest.mark.parametrize('backward', [False, True])
@pytest.mark.parametrize('kernel', [(1, 3), (3, 1)])
def test_layers_agree_and_a_wrong_one_gets_no_number(kernel, backward, monkeypatch):
    wrong = {
        'turned': layer_by(lambda x, w, b, k: cycle_fc(x, w, b, kernel[::-1])),
        'flipped': layer_by(lambda x, w, b, k: cycle_fc(x.flip(1, 2), w, b, kernel).flip(1, 2)),
    }
    right = networks.layer_variants
    monkeypatch.setattr(networks, 'layer_variants', lambda *arguments: {**right(*arguments), **wrong})
    found = by_candidate(models.measure_layer(SETTINGS, 'tiny', SHAPE, backward, 'eager', None, kernel))
    assert set(found) == {'auto', 'linear', 'linear-ours', 'torchvision', 'deform_conv', 'turned', 'flipped'}
    for name, row in found.items():
        if name in wrong:
            assert row.status == rows.WRONG and row.error > 0.1 and row.is_fault
            assert row.median_ms is row.images_per_s is row.peak_mib is None
            assert '| wrong result |' in tables.group_table([row])
        else:
            assert row.status == rows.OK and row.median_ms > 0 and row.error < 1e-6 and row.peak_mib > 0
            assert (row.saved_mib is not None) == backward


def test_copies_are_a_form_of_the_layer_on_cuda_only():
    layer = networks.CycleFC(10, 10, (1, 3))
    assert set(networks.layer_variants(layer, torch.device('cuda'))) == {
        'auto',
        'copy',
        'linear',
        'torchvision',
        'deform_conv',
    }
    copied, x = networks.recast(layer, networks.COPIED), torch.randn(SHAPE)
    assert copied(x).equal(layer(x))


def test_a_backend_is_skipped_with_its_reason(bf16):
    found = by_candidate(models.measure_layer(replace(SETTINGS, dtype='bf16'), 'tiny', SHAPE, False, 'eager'))
    assert found['deform_conv'].status.startswith("skipped: mmcv's deform_conv2d has no bfloat16 kernel")
    assert found['deform_conv'].median_ms is None and not found['deform_conv'].is_fault
    assert found['auto'].error < 5e-3 and found['torchvision'].status == rows.OK


def test_bfloat16_is_skipped_where_the_processor_has_no_products_in_it(tmp_path, monkeypatch):
    for flags, fits in (('avx2 avx512_bf16', True), ('amx_bf16', True), ('avx2 fma', False)):
        (tmp_path / 'cpuinfo').write_text(f'model name\t: A Processor\nflags\t\t: {flags}\n')
        monkeypatch.setattr(rows, 'CPUINFO', tmp_path / 'cpuinfo')
        assert (rows.bf16_reason(torch.bfloat16, CPU) is None) == fits
        assert rows.device_name(CPU).startswith('A Processor, ')
        assert rows.bf16_reason(torch.bfloat16, torch.device('cuda')) is None
    found = models.measure_networks(replace(SETTINGS, dtype='bf16'), 1, 32, False, 'eager', ['b1', 'b1-linear'], tiny())
    assert [row.candidate for row in found] == ['b1', 'b1-linear']
    assert all(row.status.startswith('skipped: this processor has no products in bfloat16') for row in found)


def test_the_definition_is_the_oracle():
    from .oracles import cycle_fc_oracle

    for kernel in ((1, 3), (5, 1)):
        layer, x = networks.randomise(networks.CycleFC(10, 4, kernel)), torch.randn(SHAPE)
        out = networks.recast(layer, networks.DEFINED).double()(x.double())
        torch.testing.assert_close(out, cycle_fc_oracle(x, layer.weight, layer.bias, kernel))


def test_agreement_is_asked_of_each_tensor():
    reference = [torch.randn(50).double() for _ in range(2)]
    expected = measuring.Expected(reference, [tensor.float() for tensor in reference], torch.float32)
    assert expected.check([tensor.float() for tensor in reference])[1]
    # A small tensor that is wrong is found beside a large one.
    expected.tensors[0] *= 1e6
    off = expected.check([expected.tensors[0], reference[1] + 1e-3])
    assert not off[1] and off[0] < 1e-6
    assert not expected.check([expected.tensors[0], reference[1] * float('nan')])[1]
    assert not expected.check([expected.tensors[0], reference[1][:1]])[1]


@NEEDS_OPERATORS
@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
@pytest.mark.parametrize('train', [False, True])
@pytest.mark.slow
def test_networks_agree(dtype, train, bf16, monkeypatch):
    monkeypatch.setitem(tasks.RATE_SIZES, 'cpu', 64)
    settings = replace(SETTINGS, dtype=dtype)
    # At 96 the first stage takes the single product.
    batch, side = (4, 96) if dtype == 'fp32' else (6, 64)
    found = by_candidate(models.measure_networks(settings, batch, side, train, 'eager', VARIANTS, tiny()))
    rates = ['product, oneDNN', 'product, MKL'][: 1 + (dtype == 'fp32')]
    assert list(found) == [*VARIANTS, *rates]
    for name in VARIANTS:
        row = found[name]
        if dtype == 'bf16' and name == 'b1-deform_conv':
            assert row.status.startswith('skipped: ')
            continue
        assert row.status == rows.OK and row.median_ms > 0 and row.images_per_s > 0
        assert (row.error is None) == (name == 'b1-linear')
        # What PyTorch's counter does not know is not counted.
        assert (row.gflop is None) == (name in ('b1-deform_conv', 'b1-original'))
        assert row.direction == ('training step' if train else 'inference')
        assert row.dtype == ('bf16-amp' if dtype == 'bf16' else dtype)
    for name in rates:
        assert found[name].gflop == 2e-9 * 64**3 and found[name].images_per_s is None


def double(monkeypatch, name):
    """A wrong form: twice what a candidate should compute."""
    wrong = networks.layer_by(lambda *inputs: 2 * cycle_fc(*inputs))
    for makers in ('network_variants', 'layer_variants'):
        right = getattr(networks, makers)
        monkeypatch.setattr(
            networks,
            makers,
            lambda model, other, right=right: {**right(model, other), name: partial(networks.recast, model, wrong)},
        )


def test_a_wrong_network_gets_no_number(monkeypatch):
    double(monkeypatch, 'b1-shift_gemm')
    names = ['b1-shift_gemm', 'b1-original']
    found = by_candidate(models.measure_networks(SETTINGS, 2, 64, False, 'eager', names, tiny()))
    assert found['b1-shift_gemm'].status == rows.WRONG and found['b1-shift_gemm'].median_ms is None
    assert found['b1-original'].status == rows.OK and found['b1-original'].median_ms > 0


@NEEDS_OPERATORS
def test_the_block_and_the_scaling(monkeypatch):
    found = by_candidate(models.measure_block(SETTINGS, 'block', (2, 8, 8, 12), 2))
    assert found['b1'].status == rows.OK and found['b1'].saved_mib > 0
    assert found['b1-deform_conv'].saved_mib > found['b1-shift_gemm'].saved_mib

    class FixedSize(torch.nn.Module):
        def forward(self, x):
            assert x.shape[2] == 32, 'the image has | another size'
            return x

    monkeypatch.setattr(networks, 'neighbours', lambda: {models.FIXED_SIZE: FixedSize})
    names = ['b1', models.FIXED_SIZE]
    ours, fixed, _, too_large = (
        row
        for side in (32, 40)
        for row in models.measure_networks(SETTINGS, 1, side, False, 'eager', names, tiny(), 'scaling')
    )
    assert ours.median_ms > 0 and ours.peak_mib > 0 and fixed.median_ms > 0
    assert too_large.median_ms is None and not too_large.is_fault
    assert too_large.status == 'cannot run: AssertionError: the image has / another size'


def test_a_failing_candidate_is_a_fault_and_the_others_go_on():

    def fail():
        raise RuntimeError('no kernel\nfor this')

    both = [measuring.Candidate('fails', fail), measuring.Candidate('runs', lambda: None)]
    base = replace(made('', 1.0), samples=0)
    found = by_candidate(measuring.measure(base, both, SETTINGS))
    assert found['fails'].status == 'failed: RuntimeError: no kernel' and found['fails'].is_fault
    assert found['runs'].status == rows.OK and found['runs'].samples > 0
    # Without rounds only memory is measured.
    found = by_candidate(measuring.measure(base, both, replace(SETTINGS, rounds=0)))
    assert found['runs'].status == rows.OK and found['runs'].samples == 0 and found['runs'].peak_mib is not None


# How it is measured.


def test_interleaving_gives_every_candidate_its_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in 'ab'}
    cost = dict(a=1.0, b=3.0)

    def clock(call):
        call()
        return [cost[order[-1]]]

    samples = measuring.interleave(calls, cost, clock, seconds=0.0, rounds=4)
    assert samples == dict(a=[1.0] * 12, b=[3.0] * 4)  # three turns for the faster
    assert order.count('b') == 4 and len(set(map(tuple, zip(*[iter(order)] * 4)))) > 1
    assert len(measuring.interleave(calls, cost, clock, seconds=0.0)['b']) == 5


def test_conditions_are_pairs_of_threads_and_batch():

    def pairs(*arguments):
        args = models.parser().parse_args(arguments)
        return [(settings.threads, batch) for settings, batch in models.conditions(args, cores=2)]

    assert pairs() == [(1, 1), (2, 8)]
    assert pairs('--train') == [(1, 8), (2, 8)]
    assert pairs('--compile') == pairs('--layers') == [(2, 8)]
    assert pairs('--threads', '1', '2', '--batch', '8') == [(1, 8), (2, 8)]
    assert pairs('--threads', '2', '--batch', '4', '16') == [(2, 4), (2, 16)]


def test_memory_is_counted_to_the_byte():
    x, weight = torch.randn(64, 32, requires_grad=True), torch.randn(16, 32, requires_grad=True)
    assert tasks.saved_bytes(lambda: F.linear(x, weight).exp(), [weight]) == 4 * (64 * 32 + 64 * 16)
    assert tasks.saved_bytes(lambda: x[:2] * x[2:4], []) == 4 * 64 * 32  # one storage, seen through two views

    def call():
        held = torch.empty(1000, 1000)
        more = torch.empty(500, 1000)
        del held, more
        return torch.empty(100)

    assert measuring.peak_bytes(call, CPU) == 4 * 1500 * 1000


def test_b1_has_the_published_arithmetic():
    a, b = torch.randn(64, 128), torch.randn(128, 32)
    assert tasks.gflop_of(lambda: (a @ b).exp()) == 2 * 64 * 128 * 32 / 1e9
    task, makers = tasks.image_task(SETTINGS, 1, 224, False), networks.network_variants(networks.cyclemlp('b1'), 'b1')
    gflop = {name: task.candidate(name, makers[name]()).gflop() for name in ('b1', 'b1-linear')}
    # Twice the 2.12 GMAC of the published network, though the form that is used needs less.
    assert gflop['b1-linear'] == pytest.approx(2 * 2.122, rel=0.01)
    assert gflop['b1'] == gflop['b1-linear']


# Tables and documents.


def test_csv_and_groups(tmp_path):
    path = tmp_path / 'new' / 'speed.csv'
    old = [made('auto', 1.0), made('linear', 1.0), made('auto', 5.0, mode='graph')]
    rows.write_csv(old, path)
    assert rows.read_csv(path) == old
    # A group is replaced whole, so that ratios are never made across runs.
    rows.write_csv(rows.merge(rows.read_csv(path), [made('auto', 2.0), made('copy', 3.0, error=1e-7)]), path)
    assert [row.candidate for row in rows.read_csv(path)] == ['auto', 'copy', 'auto']
    assert [row.median_ms for row in rows.read_csv(path)] == [2.0, 3.0, 5.0]
    # What cannot be written leaves the file as it was.
    before = path.read_bytes()
    with pytest.raises(TypeError):
        rows.write_csv([made('auto', 4.0), None], path)
    assert path.read_bytes() == before and os.listdir(path.parent) == ['speed.csv']
    path.write_text('a,b\n1,2\n')
    with pytest.raises(ValueError, match='no table of these benchmarks'):
        rows.read_csv(path)
    with pytest.raises(ValueError, match='cannot read .*No such file'):
        rows.read_csv(tmp_path / 'none.csv')


def test_share_of_the_machines_rate():
    measured = [made('b1', 100.0, gflop=4.0), made('b1-linear', 90.0), made('product, oneDNN', 10.0, gflop=2.0)]
    measured[2].images_per_s = None
    table = tables.group_table(measured).splitlines()
    assert table[2].startswith('| **CycleMLP-B1** | 100 | 100 to 100 | 1.00 | 80 | 4 | 40 | 20% |')
    assert table[3].startswith('| B1, plain linear layers | 90 | 90 to 90 | 0.90 |')
    assert table[4].startswith('| product, oneDNN | 10 | 10 to 10 |  |  | 2 | 200 | 100% |')
    assert 'note' not in table[0]  # what no row has is left out


def test_what_was_skipped_takes_no_table(tmp_path):
    measured = made('b1', 1.0, suite='models')
    groups = [
        [
            replace(measured, candidate=name, dtype='bf16', threads=threads, median_ms=None, status='skipped: too old')
            for name in ('b1', 'b1-linear')
        ]
        for threads in (1, 2)
    ]
    text = report.sections([measured, *groups[0], *groups[1]], [], tmp_path)['networks-cpu']
    assert text.count('\n### ') == 1 and text.count('too old') == text.count('Not measured: ') == 1
    assert '1 thread, bf16, eager; ' in text and text.endswith('2 threads, bf16, eager.\nSkipped: too old.')
    assert not report.skipped([measured]) and not report.skipped([measured, *groups[0]])


@pytest.mark.slow
def test_command_line_and_document(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(models, 'stage_shapes', lambda batch: [(batch, 5, 5, 6)] * 4)
    out = tmp_path / 'out'
    arguments = ['--quick', '--threads', '1', '--batch', '2', '--iters', '1', '--out', str(out)]
    assert models.main([*arguments, '--layers', '--train']) == 0
    assert models.main([*arguments, '--memory']) == 0
    monkeypatch.setattr(networks, 'cyclemlp', lambda arch: tiny())
    assert models.main([*arguments, '--profile']) == 0
    printed = capsys.readouterr().out
    assert '| b1 stage 1 | forward+backward | 2x5x5x6 |' in printed and 'commit ' in printed and 'torch ' in printed
    assert 'Self CPU time total' in printed
    network = models.measure_networks(SETTINGS, 1, 32, False, 'eager', ['b1', 'b1-linear'], tiny())
    scaling = [replace(row, suite='scaling') for row in network[:2]]
    on_gpu = [replace(row, device='a GPU', device_type='cuda', date='2020-01-01', commit='abc') for row in network[:2]]
    source, folder = out / 'speed-quick.csv', tmp_path / 'results'
    rows.write_csv(rows.read_csv(source) + network + scaling, source)
    rows.write_csv(on_gpu + [made('auto', 1.0, case='of an earlier run')], folder / 'speed.csv')
    on_gpu = rows.read_csv(folder / 'speed.csv')[:2]
    assert report.main([str(source), '--out', str(folder)]) == 0
    page = folder / 'speed.md'
    text = page.read_text()
    for title in (
        'One CycleFC layer on a CPU',
        'Networks on a CPU',
        'Networks on a GPU',
        'Measured with',
        'Growth with the image on a CPU',
        'Memory of one block on a CPU',
        'Where the time goes on a CPU',
    ):
        assert f'\n## {title}\n' in text
    assert 'a GPU, not measured since commit abc.' in text and text.count('not measured since') == 1
    for name in ('cpu', 'cuda'):
        assert f'(speed-{name}.png)' in text and (folder / f'speed-{name}.png').stat().st_size > 5000
    # A run takes the place of all earlier rows of its device, and of those alone.
    assert rows.read_csv(folder / 'speed.csv') == on_gpu + rows.read_csv(source)
    assert str(tmp_path) not in text
    # What is written by hand stays, and so does a block that is not made now.
    page.write_text(text.replace('# Speed', '# Speed\n\nAn introduction.', 1) + '\nAn end.\n')
    (out / next(name for name in os.listdir(out) if name.startswith('profile-cpu-b1-'))).unlink()
    assert report.main([str(source), '--out', str(folder)]) == 0
    assert page.read_text() == text.replace('# Speed', '# Speed\n\nAn introduction.', 1) + '\nAn end.\n'
    page.write_text('# Speed\n')
    assert report.main([str(source), '--out', str(folder)]) == 2
    assert 'has no marker comments' in capsys.readouterr().err and page.read_text() == '# Speed\n'


@pytest.mark.slow
def test_runtimes(tmp_path, monkeypatch, capsys):
    arch = dict(depths=(1,), embed_dims=(8,), mlp_ratios=(2,))
    small = networks.randomise(networks.Classifier(CycleMLP(arch, out_indices=(0,)), 8))
    monkeypatch.setattr(runtimes, 'makers', lambda: {'b1': lambda: small})
    monkeypatch.setattr(runtimes, 'SIDE', 64)
    monkeypatch.setattr(runtimes, 'FILES', (('onnxruntime', 'onnx', ('fp32', 'int8')),))
    monkeypatch.setattr(runtimes, 'bf16_reason', lambda *kind: 'no products in bfloat16')
    monkeypatch.setattr(torch, 'compile', lambda model, **options: model)  # is timed as PyTorch's own
    monkeypatch.setitem(tasks.RATE_SIZES, 'cpu', 64)
    command = ['--quick', '--out', str(tmp_path)]
    with torch._inductor.config.patch(freezing=False):
        assert runtimes.main([*command, '--prepare']) == 0
        assert not (tmp_path / 'export-quick.csv').exists()
        files = {path: path.stat().st_mtime_ns for path in (tmp_path / 'exports').rglob('*.onnx')}
        assert {path.name for path in files} == {'b1-fp32.onnx', 'b1-int8.onnx'}
        assert runtimes.main(command) == 0
        measured = rows.read_csv(tmp_path / 'export-quick.csv')
        forms = ['eager fp32', 'compiled fp32', 'onnxruntime fp32', 'onnxruntime int8']
        assert [(row.candidate, row.threads, row.batch) for row in measured if row.images_per_s] == [
            *((form, 1, 1) for form in forms),
            *((form, 2, 8) for form in forms),
        ]
        for row in measured[:4]:
            assert row.median_ms > 0 and row.gflop == measured[0].gflop > 0 and row.peak_mib is None
            assert row.error < 1e-5 or (row.candidate == 'onnxruntime int8' and row.error < 0.5)
        printed = capsys.readouterr().out
        assert f'|  | {" | ".join(forms)} |' in printed and re.search(r'CycleMLP-B1\*\* \| [\d.]+ \(\d+%\)', printed)
        # A second run has nothing left to do; a file that was exported stays.
        assert runtimes.main(command) == 0
        assert rows.read_csv(tmp_path / 'export-quick.csv') == measured
        assert all(path.stat().st_mtime_ns == written for path, written in files.items())
        assert runtimes.main([*command, '--profile']) == 0
    assert re.search(r'\| ms an image \| fp32 \| int8 \|(.|\n)*\| all \|', capsys.readouterr().out)
    assert not list(tmp_path.rglob('*.json'))


def test_a_wrong_result_ends_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(models, 'stage_shapes', lambda batch: [(batch, 5, 5, 6)])
    double(monkeypatch, 'auto')
    options = ['--layers', '--quick', '--batch', '2', '--iters', '1', '--out', str(tmp_path)]
    assert models.main([*options, '--candidates', 'auto', 'linear']) == 1
    assert 'error: auto: wrong result (b1 stage 1' in capsys.readouterr().err


def test_clear_errors(tmp_path, monkeypatch, capsys):

    def refused(*arguments):
        assert models.main([*arguments, '--out', str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert error.startswith('error: ') and error.count('\n') == 1
        return error

    monkeypatch.setitem(sys.modules, 'timm', None)
    assert "timm is not installed; run `pip install 'timm>=1.0'`" in refused()
    assert 'timm is not installed' in refused('--scaling')
    unknown = "--candidates: ['b7'] take no part here; choose from ["
    assert f"{unknown}'b1', 'b1 channels last', 'b1-" in refused('--candidates', 'b7')
    assert f"{unknown}'auto', " in refused('--layers', '--candidates', 'b7')
    assert 'on a CPU use fp32 or bf16' in refused('--dtype', 'fp16')
    assert '--threads has 2 values and --batch 3; give as many of each, or one of either' in refused(
        '--threads', '1', '2', '--batch', '1', '2', '3'
    )
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert 'needs a CUDA GPU' in refused('--device', 'cuda')
    assert os.listdir(tmp_path) == []
