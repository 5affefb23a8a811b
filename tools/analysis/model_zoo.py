#!/usr/bin/env python
"""Write the tables of docs/model_zoo.md and of the READMEs of configs/cyclemlp and configs/baselines.

    python tools/analysis/model_zoo.py

The numbers are those of configs/*/metafile.yml, and are changed there. What stands between `<!-- table NAME -->` and
`<!-- end -->` is replaced; all else on the pages is kept.
"""

import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from os.path import relpath
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import yaml

from mmcyclemlp.files import written_whole
from mmcyclemlp.tables import markdown

REPO = Path(__file__).resolve().parents[2]
ZOO = REPO / 'docs/model_zoo.md'
FOLDERS = ('configs/cyclemlp', 'configs/baselines')
PAGES = (ZOO, *(REPO / folder / 'README.md' for folder in FOLDERS))
TABLE = re.compile(r'(<!-- table (\w+) -->\n).*?(<!-- end -->)', re.DOTALL)
Table = Tuple[Sequence[str], List[List[str]]]  # a header and rows


class Page(NamedTuple):
    """Where a page lies, and the entries of the metafiles that it is about."""

    path: Path
    models: List[Dict[str, Any]]
    collections: List[Dict[str, Any]]

    def link(self, text: str, path: str) -> str:
        return f'[{text}]({path if "://" in path else relpath(REPO / path, self.path.parent)})'

    def config(self, model: Dict[str, Any]) -> str:
        return self.link(Path(model['Config']).stem, model['Config'])


def written(path: Path) -> str:
    """The text of a page with its tables made anew."""
    folders = FOLDERS if path == ZOO else (path.parent,)
    files = [yaml.safe_load((REPO / folder / 'metafile.yml').read_text(encoding='utf-8')) for folder in folders]
    page = Page(path, *([entry for file in files for entry in file[key]] for key in ('Models', 'Collections')))
    return TABLE.sub(
        lambda match: f'{match[1]}\n{markdown(*TABLES[match[2]](page))}\n\n{match[3]}', path.read_text(encoding='utf-8')
    )


def trained(page: Page, *tasks: str) -> Table:
    """A row for each run; data sets, and schedules within them, in the order of their first runs."""
    runs = [
        (model, result)
        for model in page.models
        for result in model.get('Results', ())
        if 'Run' in result and result['Task'] in tasks
    ]
    data = [result['Dataset'] for _, result in runs]
    schedules = [result['Run']['Schedule'] for _, result in runs]
    runs.sort(key=lambda run: (data.index(run[1]['Dataset']), schedules.index(run[1]['Run']['Schedule'])))
    metrics = list(dict.fromkeys(metric for _, result in runs for metric in result['Metrics']))
    body = []
    for model, result in runs:
        run, log = result['Run'], Path(result['Run']['Training log'])
        values = [number(metric, result['Metrics'].get(metric)) for metric in metrics]
        for metric, (least, most) in run.get('Range', {}).items():
            values[metrics.index(metric)] += f' ({least} to {most})'
        body.append(
            [
                page.config(model),
                result['Dataset'],
                f'{run["Schedule"]}, seed {run["Seed"]}',
                *values,
                *cost(model),
                f'{page.link("log", str(log))}, {page.link("curves", str(curves(log)))}',
            ]
        )
        if page.path == ZOO:
            commands = result['Command'] if isinstance(result['Command'], list) else [result['Command']]
            body[-1] += ['<br>'.join(f'`{command}`' for command in commands), run['Commit'], run['Training Resources']]
    return [
        'config',
        'data',
        'training',
        *metrics,
        *COST,
        'log',
        *(('command', 'commit', 'hardware') if page.path == ZOO else ()),
    ], body


def number(metric: str, value: Optional[float]) -> str:
    """Accuracies have two decimals, AP and mIoU one."""
    return '' if value is None else f'{value:.{2 if "Accuracy" in metric else 1}f}'


def published(page: Page) -> Table:
    """A row for each network whose weights others have published."""
    body = []
    for model in (model for model in page.models if 'Converted From' in model):
        authors, exact = (result['Metrics'] for result in model['Results'])
        accuracies = [f'{exact[metric]:.2f}' for metric in ('Top 1 Accuracy', 'Top 5 Accuracy')]
        body.append(
            [
                page.config(model),
                str(model['Metadata']['Crop Ratio']),
                str(authors['Top 1 Accuracy']),
                *accuracies,
                *cost(model),
                page.link('weights', model['Converted From']['Weights']),
            ]
        )
    return ['config', 'crop', 'top-1', 'top-1, exact', 'top-5, exact', *COST, 'file'], body


def study(page: Page) -> Table:
    """A row for each family of networks in the study."""
    data = list(page.collections[0]['Study'])
    return ['family', *data], [
        [family['Name'], *(str(family['Study'][name]) for name in data)] for family in page.collections
    ]


def untrained(page: Page) -> Table:
    """A row for each config of which there is no result."""
    return ['config', 'data', *COST], [
        [page.config(model), model['Metadata']['Training Data'], *cost(model)]
        for model in page.models
        if 'Results' not in model
    ]


COST = ('image', 'parameters, M', 'GMAC')
TABLES = dict(
    classification=lambda page: trained(page, 'Image Classification'),
    detection=lambda page: trained(page, 'Object Detection', 'Instance Segmentation'),
    segmentation=lambda page: trained(page, 'Semantic Segmentation'),
    published=published,
    study=study,
    untrained=untrained,
)


def cost(model: Dict[str, Any]) -> List[str]:
    data = model['Metadata']
    return [data['Input Size'], f'{data["Parameters"] / 1e6:.2f}', f'{data["FLOPs"] / 1e9:.3f}']


def curves(log: Path) -> Path:
    """The CSV beside a log."""
    return log.with_name(log.stem.replace('log', 'curves') + '.csv')


if __name__ == '__main__':
    ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()
    for page in PAGES:
        text = written(page)
        with written_whole(page) as temporary:
            temporary.write_text(text, encoding='utf-8')
        print(f'wrote {page.relative_to(REPO)}')
