"""A sampler for runs that must see their data in the same order in every epoch."""

from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class FixedOrderSampler(DefaultSampler):
    """DefaultSampler with one random order for all epochs, that of ``seed``.

    As reading a shuffled file from its start each time, whatever order the data lie in.
    """

    def set_epoch(self, epoch: int) -> None:
        """Keep the order: that of epoch 0."""
