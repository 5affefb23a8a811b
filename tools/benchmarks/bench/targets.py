"""What the project wants of its speed, and the ratios that say whether it got there."""
from dataclasses import dataclass, field
from statistics import median
from typing import Dict, Iterable, List, Optional

from .rows import Row, conditions, group_rows, markdown, number


@dataclass
class Target:
    """A bound on a ratio of two rivals' medians in the same group.

    Args:
        text (str): what is wanted, in words.
        where (dict[str, str]): column -> value, for the groups it speaks of; a value that ends in ``*`` is a prefix.
        rival (str): measured against this one.
        faster (float, optional): ours is at least so many times faster.
        cost (float, optional): or ours takes at most so many times the time.
        dream (float, optional): the bound we should love to reach.
        ours (str): our rival.
        limit (str): the rival without any shift, computed by the library that ours takes.
    """
    text: str
    where: Dict[str, str]
    rival: str
    faster: Optional[float] = None
    cost: Optional[float] = None
    dream: Optional[float] = None
    ours: str = 'b1'
    limit: str = 'b1-linear'

    def speaks_of(self, row: Row) -> bool:
        """Whether a row's group is one it is about."""
        return all(_matches(str(getattr(row, column)), value) for column, value in self.where.items())

    def ratio(self, rows: Iterable[Row], ours: Optional[str] = None) -> Optional[float]:
        """Times faster, or times the time, from the medians of a group; None where one of the two has no number.

        ``ours`` puts another rival in the place of ours.
        """
        ms = {row.rival: row.median_ms for row in rows}
        ours, theirs = ms.get(ours or self.ours), ms.get(self.rival)
        if ours is None or theirs is None:
            return None
        return theirs / ours if self.cost is None else ours / theirs

    def reached(self, ratio: float, bound: Optional[float]) -> bool:
        """Whether a ratio keeps to a bound."""
        return bound is not None and (ratio <= bound if self.cost is not None else ratio >= bound)

    @property
    def bound(self) -> float:
        """The bound wanted."""
        return self.faster if self.cost is None else self.cost


@dataclass
class Verdict:
    """A target on all groups alike but for their case: the worst of them decides."""
    target: Target
    title: str
    ratios: Dict[str, Optional[float]] = field(default_factory=dict)  # case -> ratio
    limits: Dict[str, Optional[float]] = field(default_factory=dict)  # case -> what the limit would get

    @property
    def worst(self) -> Optional[float]:
        """The ratio that decides, or None where one is missing."""
        values = list(self.ratios.values())
        if None in values:
            return None
        return min(values) if self.target.cost is None else max(values)

    @property
    def limit(self) -> Optional[float]:
        """What a form without any shift gets in the case that decides."""
        return next((self.limits[case] for case, ratio in self.ratios.items() if ratio == self.worst), None)

    @property
    def word(self) -> str:
        """reached, missed, or not measured."""
        if self.worst is None:
            return 'not measured'
        if self.target.reached(self.worst, self.target.dream):
            return 'reached, and the dream'
        return 'reached' if self.target.reached(self.worst, self.target.bound) else 'missed'


def _matches(value: str, pattern: str) -> bool:
    return value.startswith(pattern[:-1]) if pattern.endswith('*') else value == pattern


def _targets() -> List[Target]:
    cpu = dict(device_type='cpu', dtype='fp32', threads='2')
    cpu_op = dict(cpu, suite='ops', direction='forward', case='b1 stage*', shape='8x*')
    cpu_b1 = dict(cpu, suite='models', direction='inference', shape='8x3x224x224')
    gpu = dict(device_type='cuda', dtype='bf16*')
    gpu_op = dict(gpu, suite='ops', case='b1 stage*', shape='256x*')
    gpu_b1 = dict(gpu, suite='models', shape='256x3x224x224')
    return [
        Target('operator against mmcv\'s deformable convolution', cpu_op, 'deform_conv', faster=15, dream=30,
               ours='auto', limit='linear-ours'),
        Target('operator against a linear layer', cpu_op, 'linear', cost=1.6, dream=1.1, ours='auto',
               limit='linear-ours'),
        Target('B1 against B1 with mmcv\'s deformable convolution', cpu_b1, 'b1-deform_conv', faster=2.6, dream=3.5),
        Target('B1 against B1 with linear layers', cpu_b1, 'b1-linear', cost=1.0, dream=0.8),
        Target('B1 against ResNet-18', cpu_b1, 'resnet18', faster=1.0, dream=1.5),
        Target('B1 against ResNet-18, channels last', cpu_b1, 'resnet18 channels last', faster=1.0),
        Target('B1 against PVTv2-B1', cpu_b1, 'pvt_v2_b1', faster=1.0),
        Target('B1 against PoolFormer-S12', cpu_b1, 'poolformer_s12', faster=1.0),
        Target('B1 against Swin-T', cpu_b1, 'swin_tiny_patch4_window7_224', faster=1.0),
        Target('training step of B1 against B1 with mmcv\'s deformable convolution',
               dict(cpu_b1, direction='training step'), 'b1-deform_conv', faster=6, dream=8),
        Target('training at 32x32: what is outside the model against the whole iteration',
               dict(suite='training', case='cifar10*'), 'iteration', cost=0.15, dream=0.05, ours='outside the model'),
        Target('operator against a linear layer', dict(gpu_op, direction='forward'), 'linear', cost=1.2, ours='auto',
               limit='linear-ours'),
        Target('operator against a linear layer', dict(gpu_op, direction='forward+backward'), 'linear', cost=1.3,
               ours='auto', limit='linear-ours'),
        Target('B1 against the original', dict(gpu_b1, direction='inference'), 'b1-original', faster=4),
        Target('training step of B1 against the original', dict(gpu_b1, direction='training step'), 'b1-original',
               faster=5, dream=8),
        *(Target(f'B1 against {label}', dict(gpu_b1, direction='inference'), name, faster=1.0)
          for label, name in (('ResNet-50', 'resnet50'), ('ResNet-50, channels last', 'resnet50 channels last'),
                              ('PoolFormer-S12', 'poolformer_s12'), ('Swin-T', 'swin_tiny_patch4_window7_224'))),
    ]


TARGETS = _targets()


def judge(rows: Iterable[Row], targets: Iterable[Target] = TARGETS) -> List[Verdict]:
    """The verdicts on the targets that measured groups speak of."""
    groups = group_rows(rows)
    verdicts: Dict[object, Verdict] = {}
    for index, target in enumerate(targets):
        for members in groups.values():
            first = members[0]
            # Rivals may be chosen by name; a target about one that took no part is not in question.
            if not target.speaks_of(first) or not {target.ours, target.rival} <= {row.rival for row in members}:
                continue
            key = (index, first.direction, first.mode, first.dtype, first.device, first.threads)
            verdict = verdicts.setdefault(key, Verdict(target, _conditions(first)))
            label = f'{first.case.removeprefix("b1 ")} {first.kernel}'.strip()
            verdict.ratios[label] = target.ratio(members)
            verdict.limits[label] = target.ratio(members, target.limit) if target.limit != target.rival else None
    return list(verdicts.values())


def _conditions(row: Row) -> str:
    batch = f', batch {row.batch}' if row.batch else ''
    return f'{row.direction}{batch}, {conditions(row)}'


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """Targets and verdicts as a Markdown table."""
    body = []
    for verdict in verdicts:
        target = verdict.target
        form = '{} times faster' if target.cost is None else '{} of its time'
        wanted = ('at least ' if target.cost is None else 'at most ') + form.format(f'{target.bound:g}')
        if target.dream is not None:
            wanted += f' (dream {target.dream:g})'
        ratios = [value for value in verdict.ratios.values() if value is not None]
        middle = number(median(ratios)) if len(ratios) > 1 else ''
        body.append([target.text, verdict.title, wanted, number(verdict.worst), middle, number(verdict.limit),
                     verdict.word])
    return markdown(['target', 'where', 'wanted', 'worst', 'median of cases', 'no shift at all', 'verdict'], body)

