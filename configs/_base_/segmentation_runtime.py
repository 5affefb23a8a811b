_base_ = 'default_runtime.py'
default_scope = 'mmseg'
custom_imports = dict(
    imports=[
        'mmcyclemlp', 'mmcyclemlp.engine', 'mmcyclemlp.datasets.camvid',
        'mmcyclemlp.datasets.digit_scenes_segmentation', 'mmcyclemlp.datasets.load_masks'
    ],
    allow_failed_imports=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=4000, save_best='mIoU'))
log_processor = dict(by_epoch=False)
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
tta_model = dict(type='SegTTAModel')
