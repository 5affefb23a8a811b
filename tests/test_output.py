"""Commands whose output has no reader: without a stdout, or after the reader has ended."""

import os
import sys

import pytest

from mmcyclemlp.cli.study import main as study
from mmcyclemlp.errors import InputError, tell


@pytest.mark.parametrize('broken', ['stdout', 'another pipe'])
def test_a_reader_that_ends_early_is_no_error(monkeypatch, broken, capfd):
    """As `head` does; a pipe of a process that loads data keeps its traceback."""
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    with open(writing_end, 'w') as output:
        if broken == 'stdout':
            monkeypatch.setattr(sys, 'stdout', output)
            assert study(['--list']) == 141
            print('dropped', flush=True)
        else:
            monkeypatch.setattr('mmcyclemlp.cli.study.load_study', lambda path: os.write(writing_end, b'x'))
            with pytest.raises(BrokenPipeError):
                study(['cifar10-quick'])
    assert capfd.readouterr().err == ''


def test_a_command_needs_no_stdout(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', None)  # as after `>&-`
    assert study(['--list']) == 0


def test_an_error_needs_no_stdout(monkeypatch, capfd):
    monkeypatch.setattr(sys, 'stdout', None)
    tell(InputError('a is wrong'))
    assert capfd.readouterr().err == 'error: a is wrong\n'


def test_an_error_is_told_though_the_reader_of_the_output_has_ended(monkeypatch, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'w') as output:
        output.write('lost')
        monkeypatch.setattr(sys, 'stdout', output)
        tell(InputError('a is wrong'))
        output.flush()
    assert capfd.readouterr().err == 'error: a is wrong\n'
