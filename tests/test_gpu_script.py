"""tools/benchmarks/gpu.sh and cpu.sh: what they refuse, and what they do when a part fails or is stopped."""

import os
import shutil
import subprocess
import sys

import pytest

from .helpers import REPO

pytestmark = pytest.mark.skipif(shutil.which('bash') is None, reason='needs bash')
MEASURED = 7  # sections that measure
NOTES_CALLS = 'echo "$@" >> "$(dirname "$0")/calls"'


def run(tmp_path, script='gpu.sh', *options, **environment):
    return subprocess.run(
        ['bash', str(REPO / 'tools/benchmarks' / script), str(tmp_path / 'out'), *options],
        env=dict(os.environ, **environment),
        capture_output=True,
        text=True,
    )


def make_command(path, does):
    path.write_text(f'#!/bin/sh\n{does}\n')
    path.chmod(0o755)
    return str(path)


def test_without_a_gpu_it_is_refused(tmp_path):
    result = run(tmp_path, PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='')
    assert result.returncode == 2 and result.stdout == ''
    assert result.stderr.startswith('error: gpu.sh measures on a CUDA GPU') and result.stderr.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_nothing_is_measured_when_the_kernels_fail(tmp_path):
    # An interpreter that has a GPU and compiled operators, and fails in pytest.
    python = make_command(tmp_path / 'python', f'{NOTES_CALLS}\ncase "$*" in *pytest*) exit 1;; esac')
    result = run(tmp_path, PYTHON=python)
    assert result.returncode == 1 and 'so nothing is measured' in result.stdout
    assert 'test_triton.py' in (tmp_path / 'calls').read_text()
    assert 'models.py --device' not in (tmp_path / 'calls').read_text()
    assert 'so nothing is measured' in (tmp_path / 'out' / 'log.txt').read_text()


def test_all_is_measured_when_the_kernels_pass(tmp_path):
    result = run(tmp_path, PYTHON=make_command(tmp_path / 'python', NOTES_CALLS))
    assert result.returncode == 0 and '== done in' in result.stdout
    first = next(line for line in (tmp_path / 'calls').read_text().splitlines() if 'models.py' in line)
    assert '--layers --train' in first and first.endswith('--candidates auto copy linear')
    assert (tmp_path / 'calls').read_text().count('--dtype bf16') == MEASURED


def test_all_is_measured_when_the_tests_run_out_of_time(tmp_path):
    make_command(tmp_path / 'timeout', 'shift; "$@"; case "$*" in *pytest*) exit 124;; esac')
    result = run(
        tmp_path, PYTHON=make_command(tmp_path / 'python', NOTES_CALLS), PATH=f'{tmp_path}:{os.environ["PATH"]}'
    )
    assert result.returncode == 1 and "'tests of the kernels' was stopped" in result.stdout
    assert (tmp_path / 'calls').read_text().count('--dtype bf16') == MEASURED


def test_a_cpu_is_measured_in_one_go(tmp_path):
    result = run(tmp_path, 'cpu.sh', '--quick', PYTHON=make_command(tmp_path / 'python', NOTES_CALLS))
    assert result.returncode == 0 and '== done in' in (tmp_path / 'out' / 'log.txt').read_text()
    calls = (tmp_path / 'calls').read_text().splitlines()
    assert len(calls) == 8 and all(call.endswith(' --quick') for call in calls)


def test_the_rest_of_a_cpu_is_measured_when_a_part_fails(tmp_path):
    python = make_command(tmp_path / 'python', f'{NOTES_CALLS}\ncase "$*" in *compile*) exit 1;; esac')
    result = run(tmp_path, 'cpu.sh', PYTHON=python)
    assert result.returncode == 1 and len((tmp_path / 'calls').read_text().splitlines()) == 8


def test_two_runs_of_a_cpu_do_not_mix(tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'speed.csv').touch()
    result = run(tmp_path, 'cpu.sh', PYTHON='false')
    assert result.returncode == 2 and 'holds an earlier run' in result.stderr and result.stderr.count('\n') == 1
