"""Packaging: mmcyclemlp, with configs and tools inside it as ``.mim``, where OpenMIM looks for them."""

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM = ('configs', 'tools', 'model-index.yml')
FOR_CHECKOUTS = ('model_zoo.py',)  # writes pages that only a checkout has


def requirements(name):
    """Lines of requirements/NAME.txt without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def put_mim(package, link=False):
    """Copy configs and tools to PACKAGE/.mim, or link them there."""
    target = Path(package) / '.mim'
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in MIM:
        source = ROOT / name
        if link:
            (target / name).symlink_to(os.path.relpath(source, target))
        elif source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns('__pycache__', *FOR_CHECKOUTS))
        else:
            shutil.copy2(source, target / name)


class BuildWithMim(build_py):
    """Puts .mim into the wheel; an editable install gets links in the source tree."""

    def run(self):
        super().run()
        if self.editable_mode:
            put_mim(ROOT / 'mmcyclemlp', link=True)
        else:
            put_mim(Path(self.build_lib) / 'mmcyclemlp')


EXTRAS = {name: requirements(name) for name in ('cls', 'det', 'seg', 'export')}
version = {}
exec((ROOT / 'mmcyclemlp' / 'version.py').read_text(), version)

setup(
    name='mmcyclemlp',
    version=version['__version__'],
    description='CycleMLP on the OpenMMLab libraries, for classification, detection and segmentation',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmcyclemlp', 'mmcyclemlp.*']),
    package_data={'mmcyclemlp': ['py.typed', 'checkpoints/weights/*.safetensors']},
    install_requires=requirements('runtime') + requirements('mminstall'),
    entry_points={'console_scripts': ['mmcyclemlp = mmcyclemlp.cli.main:main']},
    extras_require={
        **EXTRAS,
        'tests': requirements('tests'),
        'all': sorted({line for lines in EXTRAS.values() for line in lines}),
    },
    cmdclass={'build_py': BuildWithMim},
    project_urls={
        'Paper': 'https://arxiv.org/abs/2107.10224',
        "Authors' code": 'https://github.com/ShoufaChen/CycleMLP',
    },
    classifiers=['Programming Language :: Python :: 3', 'Topic :: Scientific/Engineering :: Image Recognition'],
    zip_safe=False,
)
