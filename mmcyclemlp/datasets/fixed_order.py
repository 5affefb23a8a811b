"""A sampler for runs that must see their data in the same order in every epoch."""

from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class FixedOrderSampler(DefaultSampler):
    """DefaultSampler with one random order for all epochs, that of ``seed``.

    It is as if a file were shuffled once and read from its start in each epoch.
    """

    def set_epoch(self, epoch: int) -> None:
        """Keep the order: that of epoch 0."""
