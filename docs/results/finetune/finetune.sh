#!/usr/bin/env bash
# Fine-tunes CycleMLP-B1 to 200 images of each of five classes, from weights of five other classes and from random ones.
#
# The weights come from CIFAR-10's airplanes, automobiles, horses, ships and trucks (25,000 images of 32x32); birds,
# cats, deer, dogs and frogs are fine-tuned to. Rates are chosen on 500 further training images of each class. About
# 90 minutes on one core; a run that was interrupted goes on. From the root, with CIFAR-10 as folders in data/cifar10:
#
#   docs/results/finetune/finetune.sh [WORK_DIR]     default: work_dirs/finetune; results.csv is written there
set -euo pipefail
out=$(realpath -m "${1:-work_dirs/finetune}")
cifar=$(realpath data/cifar10)
python=${PYTHON:-python}

for class in airplane automobile horse ship truck; do
  mkdir -p "$out"/others/{train,val}
  ln -sfn "$cifar/train/$class" "$out/others/train/$class"
  ln -sfn "$cifar/test/$class" "$out/others/val/$class"
done
for class in bird cat deer dog frog; do
  mkdir -p "$out"/own/{train,val}/"$class" "$out/own/test"
  ln -sf "$cifar/train/$class"/0[01]??.jpg "$out/own/train/$class"
  ln -sf "$cifar/train/$class"/0[2-6]??.jpg "$out/own/val/$class"
  ln -sfn "$cifar/test/$class" "$out/own/test/$class"
done

# train NAME DATA RATE LAYER_DECAY EPOCHS [options]
train() {
  local resume=()
  [[ -e $out/$1/epoch_$5.pth ]] && return
  [[ -e $out/$1/last_checkpoint ]] && resume=(--resume)
  DATA=$out/$2 "$python" tools/train.py configs/cyclemlp/finetune_b1.py "${resume[@]}" --work-dir "$out/$1" --cfg-options \
    train_dataloader.dataset.pipeline.1.scale=32 val_dataloader.dataset.pipeline.1.scale=32 \
    val_dataloader.dataset.pipeline.2.crop_size=32 optim_wrapper.optimizer.lr="$3" \
    optim_wrapper.paramwise_cfg.layer_decay_rate="$4" train_cfg.max_epochs="$5" train_cfg.val_interval="$5" "${@:6}"
}

train others others 1e-3 1. 10 model.backbone.init_cfg=None train_dataloader.batch_size=256
weights=(model.backbone.init_cfg.checkpoint="$out/others/epoch_10.pth")
for rate in 2e-4 5e-4 1e-3; do
  train "finetuned-$rate" own "$rate" 0.8 30 "${weights[@]}"
  train "scratch-$rate" own "$rate" 1. 30 model.backbone.init_cfg=None
done
train scratch-5e-4-long own 5e-4 1. 60 model.backbone.init_cfg=None

csv=run,epochs,dev_top1,test_top1
for run in finetuned-{2e-4,5e-4,1e-3} scratch-{2e-4,5e-4,1e-3} scratch-5e-4-long; do
  epochs=30 && [[ $run == *long ]] && epochs=60
  dev=$(tail -n 1 "$out/$run/curves.csv" | cut -d , -f 5)
  DATA=$out/own "$python" tools/test.py configs/cyclemlp/finetune_b1.py "$out/$run/epoch_$epochs.pth" \
    --work-dir "$out/$run/test" --cfg-options test_dataloader.dataset.data_prefix=test \
    test_dataloader.dataset.pipeline.1.scale=32 test_dataloader.dataset.pipeline.2.crop_size=32 | tee "$out/$run/test.log"
  test=$(grep -oP 'accuracy/top1: \K[0-9.]+' "$out/$run/test.log" | tail -n 1)
  csv+=$'\n'$run,$epochs,$dev,$test
done
echo "$csv" | tee "$out/results.csv"
