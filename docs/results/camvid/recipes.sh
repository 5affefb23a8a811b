#!/usr/bin/env bash
# Tries four recipes with each network on CamVid, from the root of a checkout:
#
#   docs/results/camvid/recipes.sh [WORK_DIR]        default: work_dirs/camvid-recipes; recipes.csv is written there
#   docs/results/camvid/recipes.sh WORK_DIR full     each network with the recipe of the other's config, at full length
#
# The trials take 800 iterations each, on a development part of the training images, the last fifth of each video: about
# an hour on one core with bfloat16. A run that was stopped goes on when the script is started again.
set -euo pipefail
out=${1:-work_dirs/camvid-recipes}
mkdir -p "$out"

# train NETWORK RECIPE [arguments of tools/train.py]: to $run, unless that is done
train() {
  local distortion=
  run=$out/${1##*_}-$2
  [[ $2 == distorted* ]] && distortion="dict(type='PhotoMetricDistortion'),"
  cat >"$run.py" <<END
_base_ = '$PWD/configs/$1.py'
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', num_classes=11, ignore_index=11),
            dict(type='RandomResize', scale=(240, 180), ratio_range=(0.8, 1.6), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(180, 240), cat_max_ratio=0.75, ignore_index=11),
            dict(type='RandomFlip', prob=0.5),
            $distortion
            dict(type='PackSegInputs'),
        ]))
optim_wrapper = dict(optimizer=dict(lr=${2#*-}))
END
  local resume=()
  [[ -n $(find "$run" -name '*.pth' 2>/dev/null) ]] && resume=(--resume)
  [[ -e $run/done ]] || "${PYTHON:-python}" tools/train.py "$run.py" --seed 0 --work-dir "$run" "${resume[@]}" "${@:3}"
  touch "$run/done"
}

if [[ ${2:-} == full ]]; then
  train baselines/camvid_fpn_r18 distorted-5e-4
  train cyclemlp/camvid_fpn_b1 plain-1.5e-3
  exit
fi
csv=network,recipe,rate,dev_mIoU
for network in cyclemlp/camvid_fpn_b1 baselines/camvid_fpn_r18; do
  for recipe in plain-2e-4 plain-5e-4 plain-1.5e-3 distorted-5e-4; do
    train $network $recipe --amp --cfg-options train_cfg.max_iters=800 train_cfg.val_interval=800 \
      param_scheduler.0.end=100 default_hooks.checkpoint.interval=800 train_dataloader.dataset.split=fit \
      val_dataloader.dataset.split=dev
    csv+=$'\n'${network##*_},${recipe%%-*},${recipe#*-},$(tail -n 1 "$run/curves.csv" | cut -d , -f 5)
  done
done
echo "$csv" >"$out/recipes.csv"
