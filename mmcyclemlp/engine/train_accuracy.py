"""Accuracy on the training images, while they are learned."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS


@HOOKS.register_module()
class TrainAccuracyHook(Hook):
    """Has the head of an mmpretrain classifier report its training accuracy (``cal_acc``), for the curves.

    A matter of the recipe, not of the network: where labels are mixed there is no such accuracy, and mmpretrain
    asserts that none is asked for.
    """

    def before_train(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.head.cal_acc = True
