#!/usr/bin/env bash
# Tries four recipes of 800 iterations with each network on a development part of CamVid's training images, the last
# fifth of each video. CycleMLP-B1 has drop path 0.1. About an hour on one core with bfloat16; from the root:
#
#   docs/results/camvid/recipes.sh [WORK_DIR]        default: work_dirs/camvid-recipes; recipes.csv is written there
set -euo pipefail
out=${1:-work_dirs/camvid-recipes}
data=train_dataloader.dataset
csv=network,recipe,rate,dev_mIoU
for network in cyclemlp/camvid_fpn_b1 baselines/camvid_fpn_r18; do
  for recipe in plain-2e-4 plain-5e-4 plain-1.5e-3 distorted-5e-4; do
    options=(optim_wrapper.optimizer.lr="${recipe#*-}" train_cfg.max_iters=800 train_cfg.val_interval=800
      param_scheduler.0.end=100 default_hooks.checkpoint.interval=800
      "$data".split=fit val_dataloader.dataset.split=dev)
    # A flip that never happens, in the place of the colour distortion.
    [[ $recipe == plain* ]] && options+=("$data".pipeline.5.type=RandomFlip "$data".pipeline.5.prob=0.)
    [[ $network == cyclemlp* ]] && options+=(model.backbone.drop_path_rate=0.1)
    run=$out/${network##*_}-$recipe
    [[ -e $run/curves.csv ]] ||
      "${PYTHON:-python}" tools/train.py configs/$network.py --amp --seed 0 --work-dir "$run" --cfg-options "${options[@]}"
    csv+=$'\n'${network##*_},${recipe%%-*},${recipe#*-},$(tail -n 1 "$run/curves.csv" | cut -d , -f 5)
  done
done
echo "$csv" >"$out/recipes.csv"
