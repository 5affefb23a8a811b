"""The ``mmcyclemlp`` command: what tools/ holds, for those who installed a wheel."""

import ast
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from mmcyclemlp.errors import InputError, tell
from mmcyclemlp.files import PROJECT

MAINS = ('train', 'test', 'infer', 'convert', 'export', 'publish', 'study', 'info')


def main() -> int:
    name, *argv = sys.argv[1:] or ['--help']
    sys.argv = [f'mmcyclemlp {name}', *argv]  # the name in usage messages
    if name in MAINS:
        return import_module(f'.{name}', __package__).main(argv)
    scripts = {
        path.stem.replace('_', '-'): path
        for folder in ('analysis', 'datasets')
        for path in sorted((PROJECT / 'tools' / folder).glob('*.py'))
        if '@command' in path.read_text()
    }
    if name in scripts:
        sys.path.insert(0, str(scripts[name].parent))  # as Python does for a script
        return import_module(scripts[name].stem).main(argv)
    wanted = name in ('-h', '--help')
    lines = ['usage: mmcyclemlp COMMAND ...; COMMAND --help shows the arguments']
    commands = {**{main: Path(__file__).with_name(f'{main}.py') for main in MAINS}, **scripts}
    for command, path in commands.items():
        lines.append(f'  {command:18} {ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]}')
    print('\n'.join(lines), file=sys.stdout if wanted else sys.stderr)
    if wanted:
        return 0
    near = get_close_matches(name, commands, 1)
    tell(InputError(f'{name} is no command' + (f'; did you mean {near[0]}?' if near else '; take one of the above')))
    return 2
