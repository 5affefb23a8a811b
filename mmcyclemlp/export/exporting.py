"""Writing a model in the form of another runtime."""

import io
import json
import logging
import os
import tempfile
import warnings
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Optional, Union

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as symbolic

from mmcyclemlp.errors import InputError, named
from mmcyclemlp.files import make_folder
from mmcyclemlp.inference.exported import KEY, Exported, library
from mmcyclemlp.inference.predictor import Predictor

from .graph import Graph, any_size
from .parity import SHAPES, Difference, check, compare, noise, table

FORMATS = {'onnx': '.onnx', 'openvino': '.xml', 'torch-export': '.pt2', 'aoti': '.pt2'}
PRECISIONS = {'onnx': ('fp32', 'int8'), 'openvino': ('fp32', 'bf16', 'int8')}
WEIGHTS = 1 << 30  # numbers in one, at most
OPSET = 20  # the first with GELU as an operator
Run = Callable[[Tensor], List[Tensor]]
EXAMPLE = (2, 352, 416)  # batch, height, width: no map of any level is 1 wide, which would become a constant


def export(
    source: Union[Predictor, nn.Module],
    out: Union[str, os.PathLike],
    format: str = 'onnx',
    precision: str = 'fp32',
    check_parity: bool = True,
    calibration: Optional[Iterable[Tensor]] = None,
) -> List[Difference]:
    """Write a model as a file of another runtime, for batches and images of any size, and compare the file with it.

    Args:
        source (Predictor | nn.Module): a predictor on the CPU, for a classifier, a detector of one stage or a
            segmentor; or any module of images [B, C, H, W], such as ``CycleMLP('b1', out_indices=(0, 1, 2, 3))``.
        out (str | os.PathLike): file to write, of the suffix of its format; OpenVINO puts its weights beside it.
        format (str): ``onnx``, ``openvino``, ``torch-export`` or ``aoti`` (AOTInductor, which needs a C++ compiler).
        precision (str): ``fp32``; ``int8`` in ONNX and OpenVINO; ``bf16`` in OpenVINO.
        check_parity (bool): whether to run the file and compare it with the model.
        calibration (Iterable[Tensor], optional): batches as the model gets them, for ``int8``.

    Returns:
        list[Difference]: of the file and the model, at five sizes, or of ``int8`` on five batches of ``calibration``,
            since its ranges are those of real images; empty without ``check_parity``.

    Raises:
        InputError: a wrong argument; a package is missing; the model cannot be exported; the file gives something else
            than the model, and is not written.
    """
    out = Path(out)
    if FORMATS.get(format) != out.suffix:
        wanted = ', '.join(f'{name} (FILE{suffix})' for name, suffix in FORMATS.items())
        raise InputError(f'expected a format with its suffix, {wanted}, but got {format} and {out}; change one of them')
    precisions = PRECISIONS.get(format, ('fp32',))
    if precision not in precisions:
        raise InputError(f'expected precision {" or ".join(precisions)} for {format}, got {precision}')
    if (precision == 'int8') != (calibration is not None):
        raise InputError(
            f'expected calibration, batches of images, for precision int8 alone, but got precision {precision} '
            f'with{"out" * (calibration is None)} calibration; give both or neither'
        )
    if not isinstance(source, (Predictor, nn.Module)):
        raise InputError(f'expected a Predictor or a module of PyTorch to export, got {type(source).__name__}')
    with _export_errors():
        graph = Graph(source)
    graph.meta['precision'] = precision
    compared: Iterable[Tensor] = noise(graph.channels, graph.divisor)
    if calibration is not None:
        calibration = iter(calibration)
        compared = list(islice(calibration, len(SHAPES)))
        calibration = chain(compared, calibration)
    write = dict(onnx=_onnx, openvino=_openvino).get(format, _inductor if format == 'aoti' else _program)
    make_folder(out.parent, 'out')
    with tempfile.TemporaryDirectory(dir=out.parent) as folder, any_size(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the exporters about themselves
        run = write(graph, Path(folder, out.name), calibration)
        with _export_errors():
            differences = compare(graph, run, compared) if check_parity else []
        if differences:
            print(table(differences))
            check(differences, precision)
        with _writing(out):
            for path in Path(folder).iterdir():
                os.replace(path, out.with_name(path.name))
    return differences


def _example(graph: Graph) -> Tensor:
    batch, height, width = EXAMPLE
    return torch.zeros(batch, graph.channels, height, width)


def _onnx(graph: Graph, path: Path, calibration: Optional[Iterable[Tensor]]) -> Run:
    library('onnxscript')
    from onnxscript import optimizer

    with _export_errors():
        program = torch.onnx.export(
            graph,
            (_example(graph),),
            dynamo=True,
            opset_version=OPSET,
            input_names=['images'],
            output_names=graph.outputs,
            dynamic_shapes=({0: 'batch', 2: 'height', 3: 'width'},),
            verbose=False,
        )
    # Also of large weights: CycleFC's are sorted anew in the graph, and only constants are quantised.
    optimizer.fold_constants(program.model, input_size_limit=WEIGHTS, output_size_limit=WEIGHTS)
    optimizer.remove_unused_nodes(program.model)
    for node in program.model.graph.all_nodes():  # stack traces of this machine, nine tenths of a small file
        node.metadata_props.clear()
    program.model.metadata_props[KEY] = json.dumps(graph.meta)
    with _writing(path):
        program.save(path)
    if calibration is not None:
        from .quantize import quantize

        with _export_errors():
            quantize(path, calibration)
    return Exported(path)


def _openvino(graph: Graph, path: Path, calibration: Optional[Iterable[Tensor]]) -> Run:
    openvino = library('openvino')
    with tempfile.TemporaryDirectory() as folder:
        _onnx(graph, Path(folder, 'model.onnx'), calibration)
        with _export_errors():
            model = openvino.convert_model(Path(folder, 'model.onnx'))
    model.set_rt_info(json.dumps(graph.meta), KEY)
    with _writing(path):
        openvino.save_model(model, path, compress_to_fp16=False)
    return Exported(path)


def _program(graph: Graph, path: Path, calibration: None) -> Run:
    program = _exported_program(graph)
    content = io.BytesIO()  # torch's own writer of files ends the process where the disk is full
    torch.export.save(program, content, extra_files={f'{KEY}.json': json.dumps(graph.meta)})
    with _writing(path):
        path.write_bytes(content.getbuffer())
    loaded = torch.export.load(path).module()
    return lambda images: list(loaded(images))


def _inductor(graph: Graph, path: Path, calibration: None) -> Run:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    program = _exported_program(graph)
    settings = {'aot_inductor.metadata': {KEY: json.dumps(graph.meta)}}
    with _export_errors():
        aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
    loaded = aoti_load_package(str(path))
    return lambda images: list(loaded(images))


def _exported_program(graph: Graph) -> torch.export.ExportedProgram:
    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    # Neither batches of one image nor maps of one row may be a case of their own.
    with _export_errors(), torch.no_grad(), symbolic.patch(backed_size_oblivious=True):
        return torch.export.export(
            graph,
            (_example(graph),),
            dynamic_shapes=(dynamic,),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the libraries raise for a file that they cannot write into an InputError."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter of OpenVINO
        reason = getattr(error, 'strerror', None) or ' '.join(str(error).split())[:300]
        raise InputError(
            f'could not write {path} ({reason}); check the permissions and the free space of its folder'
        ) from error


@contextmanager
def _export_errors() -> Iterator[None]:
    """Turn what the libraries raise for a model that they cannot follow into an InputError."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of any kind: OpenVINO, for one, has its own
        raise InputError(
            f'could not export the model ({named(error):.300}); export a part of it, such as its backbone'
        ) from error
    finally:
        logging.disable(before)
