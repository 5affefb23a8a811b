"""Loss on held-out data."""

from typing import Any, Dict, List, Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


@METRICS.register_module()
class MeanCrossEntropy(BaseMetric):
    """Mean cross-entropy of the predicted probabilities, ``cross_entropy/mean``.

    Reads ``pred_score`` [classes], a softmax, and ``gt_label`` [1] of mmpretrain's data samples. A probability
    that float32 rounds to 0 counts as its smallest normal number, a loss of 87.3.
    """

    default_prefix = 'cross_entropy'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            score = sample['pred_score'].float()
            probability = score[sample['gt_label'].to(score.device)].clamp(min=torch.finfo(torch.float32).tiny)
            self.results.append(-probability.log().item())

    def compute_metrics(self, results: List[float]) -> Dict[str, float]:
        return {'mean': float(np.mean(results))}
