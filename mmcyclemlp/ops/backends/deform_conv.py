"""CycleFC as the deformable convolution the authors used; the reference for every other backend."""
from math import gcd
from typing import Optional, Tuple

import torch
from torch import Tensor

from ..offsets import staircase_offsets

INSTALL = ('compile them with `make ops`, or take a ready wheel as the README says under "Compiled operators"; '
           "backend='auto' needs none")


def unsupported_reason(x: Tensor, weight: Tensor, bias: Optional[Tensor],
                       kernel_size: Tuple[int, int]) -> Optional[str]:
    """Why mmcv's operator cannot compute this call, or None."""
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
    if dtype == torch.bfloat16:
        return "mmcv's deform_conv2d has no bfloat16 kernel; use float32 or float16"
    if dtype == torch.float16 and x.device.type == 'cpu':
        return "mmcv's deform_conv2d has no float16 kernel on the CPU; use float32"
    try:
        import mmcv.ops  # noqa: F401
    except ImportError as error:
        return f'mmcv was installed without its compiled operators ({error}); {INSTALL}'
    return None


def cycle_fc(x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel_size: Tuple[int, int]) -> Tensor:
    """See ``mmcyclemlp.ops.cycle_fc``; x ``[B, H, W, C_in]`` -> ``[B, H, W, C_out]``."""
    from mmcv.ops import deform_conv2d
    batch, height, width, c_in = x.shape
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if x.numel() == 0:
        # The operator divides by the batch size. An empty product keeps the graph whole.
        out = x @ weight.t()
        return out if bias is None else out + bias
    # The operator reads offset channels 2c (dy) and 2c + 1 (dx). It casts its input to the offset's dtype
    # and takes contiguous memory only, so an expanded view will not do.
    pairs = x.new_tensor(staircase_offsets(c_in, kernel_size))  # [C_in, 2]
    offset = pairs.view(1, 2 * c_in, 1, 1).expand(batch, -1, height, width).contiguous()
    out = deform_conv2d(
        x.permute(0, 3, 1, 2).contiguous(),  # [B, C_in, H, W]
        offset,
        weight[:, :, None, None].contiguous(),  # [C_out, C_in, 1, 1]
        1, 0, 1, 1,  # stride, padding, dilation, groups
        c_in,  # one deformable group a channel: each has an offset of its own
        False,  # no bias is taken
        gcd(batch, 32))  # im2col_step must divide the batch
    out = out.permute(0, 2, 3, 1)  # [B, H, W, C_out]
    return out if bias is None else out + bias
