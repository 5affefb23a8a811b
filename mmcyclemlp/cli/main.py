"""The ``mmcyclemlp`` command: what tools/ holds, for those who installed a wheel."""
import ast
import runpy
import sys
from importlib import import_module
from pathlib import Path
from typing import Dict

from mmcyclemlp.files import PROJECT

MAINS = {'train': 'Train a model of any task with a config.', 'test': 'Test a checkpoint, and print the metrics.',
         'infer': 'Detect, segment or classify what is in images and videos.',
         'convert': "Convert the authors' CycleMLP weights.", 'study': 'Run several trainings, and compare them.'}


def scripts() -> Dict[str, Path]:
    """The scripts of tools/analysis and tools/datasets by name."""
    paths = [path for folder in ('analysis', 'datasets') for path in sorted((PROJECT / 'tools' / folder).glob('*.py'))]
    return {path.stem.replace('_', '-'): path for path in paths if path.read_text().startswith('#!')}


def main() -> int:
    name, *argv = sys.argv[1:] or ['--help']
    sys.argv = [f'mmcyclemlp {name}', *argv]  # the name in usage messages
    if name in MAINS:
        return import_module(f'.{name}', __package__).main(argv)
    if name in scripts():
        path = scripts()[name]
        sys.path.insert(0, str(path.parent))  # as Python does for a script
        runpy.run_path(str(path), run_name='__main__')
        return 0
    summaries = {key: ast.get_docstring(ast.parse(path.read_text())).split('\n')[0] for key, path in scripts().items()}
    wanted = name in ('-h', '--help')
    print('usage: mmcyclemlp COMMAND ...; COMMAND --help shows the arguments', *(
        f'  {command:18} {summary}' for command, summary in {**MAINS, **summaries}.items()), sep='\n',
          file=sys.stdout if wanted else sys.stderr)
    return 0 if wanted else 2
