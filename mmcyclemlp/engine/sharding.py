"""FSDP2, which divides weights, gradients and the optimizer's state among processes; files hold them whole."""

from typing import Any, Dict

import torch
from mmengine.dist import broadcast
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils import _pytree as pytree

from mmcyclemlp.models.layers import CycleBlock


@MODEL_WRAPPERS.register_module()
class FSDP2:
    """``model_wrapper_cfg=dict(type='FSDP2')``: ``torch.distributed.fsdp.fully_shard`` of each block of a CycleMLP,
    and of the rest of the model, which keeps its class.

    All processes start from the weights of the first.

    Args:
        module (torch.nn.Module): the model on its device.
        **options: of ``fully_shard``, such as ``reshard_after_forward``.
    """

    def __new__(cls, module: nn.Module, **options: Any) -> nn.Module:  # type: ignore[misc]
        if hasattr(module, 'init_weights'):
            module.init_weights()  # by the rules for whole weights; mmengine does it once
        for value in module.state_dict().values():
            broadcast(value)
        for part in module.modules():
            if isinstance(part, CycleBlock):
                fully_shard(part, **options)
        return fully_shard(module, **options)


def is_sharded(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def gathered(state: Any) -> Any:
    """A state dict with whole tensors on the CPU in place of shards; all processes have to call it.

    torch's own get_optimizer_state_dict names the states by parameters, where the files of other runs number them.
    """
    return pytree.tree_map_only(DTensor, lambda shard: shard.full_tensor().cpu(), state)


def divided(model: nn.Module, state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """A state dict of whole tensors as the model's shards; values that do not fit stay as they are."""
    shards = model.state_dict()
    return {key: _like(shards.get(key), value) for key, value in state_dict.items()}


def divide_state(optimizer: torch.optim.Optimizer) -> None:
    """Divide an optimizer's state as its parameters are."""
    for parameter, state in optimizer.state.items():
        state.update({key: _like(parameter, value) for key, value in state.items()})


def _like(shard: Any, value: Any) -> Any:
    """This process's part of ``value``, without communication."""
    if not isinstance(shard, DTensor) or isinstance(value, DTensor) or getattr(value, 'shape', None) != shard.shape:
        return value
    value = value.to(shard.device)
    return distribute_tensor(value, shard.device_mesh, shard.placements, src_data_rank=None)
