"""Tables of measured rows, in Markdown."""

from typing import Iterable, Optional, Sequence

from mmcyclemlp import tables

from .rows import OK, Row

NAMES = {
    'b1': '**CycleMLP-B1**',
    'b1 channels last': 'B1, channels last',
    'b1-linear': 'B1, plain linear layers',
    'b1-shift_gemm': 'B1, by branches alone',
    'b1-deform_conv': "B1, mmcv's deformable convolution",
    'b1-original': "B1, the authors' code",
    'resnet18': 'ResNet-18',
    'resnet18 channels last': 'ResNet-18, channels last',
    'resnet50': 'ResNet-50',
    'resnet50 channels last': 'ResNet-50, channels last',
    'poolformer_s12': 'PoolFormer-S12',
    'pvt_v2_b1': 'PVTv2-B1',
    'swin_tiny_patch4_window7_224': 'Swin-T',
    'mixer_b16_224': 'Mixer-B/16',
    'auto': '**CycleFC**',
    'copy': 'CycleFC, strided copies',
    'deform_conv': "mmcv's deformable convolution",
    'torchvision': "torchvision's",
    'linear': 'linear layer',
    'linear-ours': "linear layer, CycleFC's library",
    'shift_gemm': 'CycleFC, strided copies',
    'triton': 'fused kernel',
    'torchvision_fp16': "torchvision's in fp16",
    'b1-triton': 'B1, fused kernels',
    'b1-original_fp16': "B1, the authors' code in fp16",
}


def markdown(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers align right, empty ones are left out."""
    columns = [column for column in zip(header, *body) if any(column[1:])]
    head, *lines = zip(*columns)
    return tables.markdown(head, lines)


def number(value: Optional[float]) -> str:
    """Three digits, without an exponent."""
    return '' if value is None else f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def plain(row: Row) -> str:
    """A candidate in words."""
    return NAMES.get(row.candidate, row.candidate)


def conditions_of(row: Row) -> str:
    """Direction, mode, dtype and threads, in words."""
    threads = f', {row.threads} thread{"s"[: row.threads > 1]}' if row.device_type == 'cpu' else ''
    return f'{row.direction}, {row.batch} image{"s"[: row.batch > 1]}{threads}, {row.dtype}, {row.mode}'


def group_title(row: Row) -> str:
    """What a group's rows have in common, in words."""
    kernel = f', kernel {row.kernel}' if row.kernel else ''
    return f'{row.case}, {row.shape}{kernel}, {conditions_of(row)}, {row.device}'


def rate(row: Row) -> Optional[float]:
    """10^9 floating point operations a second."""
    return row.gflop / row.median_ms * 1e3 if row.gflop and row.median_ms else None


def share(row: Row, rows: Sequence[Row]) -> str:
    """The rate of a row of a group as a share of the machine's, by the group's first product."""
    best = next((rate(each) for each in rows if each.candidate.startswith('product')), None)
    return f'{rate(row) / best:.0%}' if best and rate(row) else ''


def group_table(rows: Sequence[Row]) -> str:
    """The rows of one group; times also as a multiple of the first's, rates as a share of the machine's."""
    header = [
        '',
        'median ms',
        '20 to 80 % ms',
        'of the first',
        'images/s',
        'GFLOP',
        'GFLOP/s',
        "of the machine's rate",
        'peak MiB',
        'saved MiB',
        'error',
        'note',
    ]
    first = rows[0].median_ms
    return markdown(
        header,
        [
            [
                plain(row),
                number(row.median_ms),
                f'{number(row.q20_ms)} to {number(row.q80_ms)}' if row.median_ms else '',
                f'{row.median_ms / first:.2f}' if row.median_ms and first and row.images_per_s else '',
                number(row.images_per_s),
                number(row.gflop),
                number(rate(row)),
                share(row, rows),
                number(row.peak_mib),
                number(row.saved_mib),
                '' if row.error is None else f'{row.error:.1e}',
                '' if row.status == OK else row.status,
            ]
            for row in rows
        ],
    )


def operator_table(groups: Sequence[Sequence[Row]]) -> str:
    """Median ms of each candidate, a line a group."""
    columns = dict.fromkeys(plain(row) for rows in groups for row in rows)
    body = []
    for rows in groups:
        cells = {plain(row): number(row.median_ms) or row.status.partition(':')[0].removeprefix(OK) for row in rows}
        first = rows[0]
        body.append([first.case, first.direction, first.shape, *(cells.get(name, '') for name in columns)])
    reasons = dict.fromkeys(f'\n- {plain(row)}: {row.status}' for rows in groups for row in rows if row.status != OK)
    return markdown(['ms', 'direction', 'B x H x W x C', *columns], body) + '\n'.join(['', *reasons])
